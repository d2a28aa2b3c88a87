"""``tinyforge export RUN --to FORMAT``: the model as a file for elsewhere, with proof that it still says the same."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

from tinyforge.cli.common import Screen, print_json
from tinyforge.errors import GateError

NEXT = {
    "safetensors": "Use it:  transformers.AutoModelForCausalLM.from_pretrained({folder!r})",
    "adapter": "Use it:  peft.PeftModel.from_pretrained(base, {folder!r}), or llama.cpp's --lora for the GGUF file",
    "gguf": "Use it:  llama-cli -m {file}   (or open the file in LM Studio, or --to ollama)",
    "ollama": "Use it:  cd {folder} && ollama create my-model -f Modelfile && ollama run my-model",
    "onnx": "Use it:  python examples/run_onnx.py {folder} 'Your question'",
    "service": "Use it:  cd {folder} && docker compose up --build",
    "hub": "Look:    {folder}/README.md   (then add --upload OWNER/NAME)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tinyforge.export import TARGETS

    parser.add_argument("run", metavar="RUN", help="a finished run's folder, or a base model")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(TARGETS))
    parser.add_argument(
        "--type",
        default="",
        metavar="TYPE",
        dest="kind",
        help="how weights are kept: bf16, fp16, fp32; q8_0, q6_k, q5_k_m, q5_1, q5_0, q4_k_m, q4_1, q4_0, f16, bf16, "
        "f32 (gguf, ollama); fp32, fp16, int8, int4 (onnx); peft, gguf (adapter)",
    )
    parser.add_argument(
        "--out", default="", metavar="DIR", help="the folder to make (default: RUN/exports/FORMAT-TYPE)"
    )
    parser.add_argument(
        "--upload", default="", metavar="OWNER/NAME", help="hub: send it there; nothing is sent without"
    )
    parser.add_argument("--json", action="store_true", help="print the certificate as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.errors import InputError
    from tinyforge.export.artifact import export

    if args.upload and args.to != "hub":
        raise InputError("--upload belongs to --to hub.", "Leave it out, or use --to hub.")
    screen = Screen({}, quiet=args.json)
    artifact = export(args.run, args.to, args.kind, args.out, lambda text: screen.say("", text))
    found = artifact.certificate
    if args.json:
        print_json({"folder": str(artifact.folder), "notes": artifact.notes, "certificate": found})
    else:
        show(found, artifact.notes)
    if not found["passed"]:
        raise GateError(
            f"{artifact.folder}: the export does not say what its source says ({_failures(found)}).",
            "It is marked FAILED.txt; do not use it. Try a --type with more bits.",
        )
    if args.upload:
        from tinyforge.export.hub import upload

        print(f"Sent:    {upload(artifact.folder, args.upload)}")
    if not args.json:
        file = artifact.folder / artifact.notes.get("file", "")
        print(f"Made:    {artifact.folder}", file=sys.stdout)
        print(NEXT.get(args.to, "").format(folder=str(artifact.folder), file=shlex.quote(str(file))))
    return 0


def _failures(found: dict[str, Any]) -> str:
    return "; ".join(
        f"{check['name']} {check['value']:.3g}, limit {check['limit']:.3g}"
        for check in found["checks"]
        if not check["passed"]
    )


def show(found: dict[str, Any], notes: dict[str, Any]) -> None:
    """The certificate as a few lines."""
    for check in found["checks"]:
        sign, side = ("ok  ", "at most") if check["at_most"] else ("ok  ", "at least")
        mark = sign if check["passed"] else "FAIL"
        print(f"  {mark} {check['name']}: {check['value']:.4g} ({side} {check['limit']:.4g})")
    if found["metric"]:
        m = found["metric"]
        print(f"  token F1 over {m['n']} questions: {m['source']:.3f} before, {m['artifact']:.3f} after")
    speed = f", {found['tokens_per_second']:,.0f} tokens/s" if found["tokens_per_second"] else ""
    print(f"  {found['size_bytes'] / 1e6:,.1f} MB, written in {notes['seconds']:.1f} s{speed}")
    if notes.get("kept_in_f16"):
        names = notes["kept_in_f16"]
        print(f"  kept in f16, as their width is no multiple of 32: {len(names)} tensors, first {names[0]}")

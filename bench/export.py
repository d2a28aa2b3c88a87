"""Size, speed and quality of every export format of one finished run; and what it costs to export a larger shape.

    tinyforge demo --out demo-model
    python bench/export.py demo-model --work DIR

Each format is exported, run and certified as `tinyforge export` does it; the table is what the certificates say. Tokens
per second are one process's with half the cores, and depend on the machine; the other columns do not. Then random
weights of SmolLM2-135M's shape are written in each format by a process of its own: in how many seconds, the loading of
the exporter included, and with how much memory above what the process held before it loaded the model, in multiples of
its weights in float32. What is finished is kept in DIR and not done again. Writes bench/results/export.json. Quit other
work first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lines import ROOT, Line, finish
from shapes import SHAPES

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.run import read_json, write_json

FORMATS = (
    ("safetensors", "fp32"),
    ("safetensors", "bf16"),
    *(("gguf", kind) for kind in ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0")),
    *(("gguf", kind) for kind in ("q4_k_m", "q4_1", "q4_0")),
    *(("onnx", kind) for kind in ("fp32", "fp16", "int8", "int4")),
)
LARGE, LARGE_FORMATS = "smollm2-135m", (
    *(("safetensors", kind) for kind in ("fp32", "bf16")),
    *(("gguf", kind) for kind in ("f32", "q8_0", "q4_0", "q4_k_m")),
    *(("onnx", kind) for kind in ("fp32", "int8")),
)  # fmt: skip


def certified(run: str, to: str, kind: str, folder: Path) -> dict[str, Any]:
    """One row of the first table."""
    from tinyforge.export.artifact import export

    began = time.perf_counter()
    made = export(run, to, kind, folder)
    found = made.certificate
    checks = {check["name"]: check["value"] for check in found["checks"]}
    return {
        "format": to,
        "type": kind,
        "passed": found["passed"],
        "megabytes": round(found["size_bytes"] / 1e6, 2),
        "tokens_per_second": found["tokens_per_second"],
        "peak_megabytes": round(found["peak_memory_bytes"] / 1e6),
        "mean_kl": checks["mean KL"],
        "max_kl": checks["max KL"],
        "agreement": found["agreement"],
        "metric": found["metric"],
        "write_seconds": made.notes["seconds"],
        "seconds": round(time.perf_counter() - began, 1),
    }


def make_large(folder: Path) -> Path:
    """Random weights in bf16 under the embedded base's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tinyforge.models.resolve import load_tokenizer, resolve

    if (folder / "model.safetensors").is_file():
        return folder
    settings = dict(SHAPES[LARGE])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    tokenizer = load_tokenizer(resolve("tiny").folder)
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written(source: Path, to: str, kind: str, out: Path) -> dict[str, Any]:
    """Seconds and memory of writing ``source``, in this process."""
    import torch
    import transformers

    from tinyforge import plugins
    from tinyforge.export import TARGETS
    from tinyforge.export.source import open_source
    from tinyforge.models.machine import PeakMemory, resident
    from tinyforge.models.resolve import count_parameters

    opened, target = open_source(str(source)), plugins.load("export", to, TARGETS)
    target.check(opened, kind)
    weights = 4 * count_parameters(source)
    before = resident()
    with PeakMemory() as memory:
        began = time.perf_counter()
        target.write(opened, out, kind)
        seconds = time.perf_counter() - began
        peak = memory.value() - before
    return {
        "format": to,
        "type": kind,
        "seconds": round(seconds, 1),
        "peak_megabytes": round(peak / 1e6),
        "times_its_size": round(peak / weights, 2),
        "megabytes": round(sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6, 1),
        "threads": torch.get_num_threads(),
        "transformers": transformers.__version__,
    }


def in_a_process(source: Path, to: str, kind: str, out: Path) -> dict[str, Any]:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, __file__, str(source), "--work", str(out), "--write", to, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    shutil.rmtree(out)
    if done.returncode:
        raise TinyForgeError(f"{to} {kind}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Kept:
    """Rows that are measured once, in DIR/rows.json."""

    def __init__(self, path: Path, about: str) -> None:
        self._path, self._about = path, about
        found: dict[str, Any] = read_json(path) if path.is_file() else {"source": about, "rows": {}}
        if found["source"] != about:
            raise InputError(f"{path}: holds what was measured of another model.", "Give --work a new folder.")
        self._rows: dict[str, Any] = found["rows"]

    def row(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self._rows:
            self._rows[name] = make()
            write_json(self._path, {"source": self._about, "rows": self._rows})
        found: dict[str, Any] = self._rows[name]
        return found


def quality(run: str, work: Path, only: str, kept: Kept) -> Iterator[dict[str, Any]]:
    print("| format | MB | tokens/s | mean KL | max KL | agreement | token F1 | loss | passed |\n" + "|---" * 9 + "|")
    for to, kind in FORMATS:
        if only not in ("", to):
            continue
        found = kept.row(f"{to} {kind}", partial(certified, run, to, kind, work / f"{to}-{kind}"))
        f1 = found["metric"] or {"artifact": 0.0, "loss": 0.0}
        told = f"{found['mean_kl']:.2g} | {found['max_kl']:.2g} | {found['agreement']:.3f}"
        speed = f"{found['megabytes']:.1f} | {found['tokens_per_second']:.0f}"
        verdict = "yes" if found["passed"] else "NO"
        print(f"| {to} {kind} | {speed} | {told} | {f1['artifact']:.3f} | {f1['loss']:.1%} | {verdict} |", flush=True)
        yield found


def costs(work: Path, only: str, kept: Kept) -> Iterator[dict[str, Any]]:
    source = make_large(work / LARGE)
    print(f"\n| {LARGE} | seconds | memory, times its size | MB |\n" + "|---" * 4 + "|")
    for to, kind in LARGE_FORMATS:
        if only not in ("", to):
            continue
        found = kept.row(f"{LARGE} {to} {kind}", partial(in_a_process, source, to, kind, work / "large"))
        told = f"{found['seconds']:.1f} | {found['times_its_size']:.2f} | {found['megabytes']:.0f}"
        print(f"| {to} {kind} | {told} |", flush=True)
        yield found


def lines(rows: list[dict[str, Any]], large: list[dict[str, Any]]) -> Iterator[Line]:
    """The targets: at 8 bits at most 1% of token F1 is lost, at 4 bits 3%; 30 s; twice the model's size."""
    bound = {"int8": 0.01, "q8_0": 0.01, "int4": 0.03, "q4_0": 0.03, "q4_k_m": 0.03}
    for row in rows:
        if row["type"] in bound and row["metric"]:
            yield Line(f"{row['format']} {row['type']}: token F1 lost", row["metric"]["loss"], "", bound[row["type"]])
    yield Line("certificates that failed", sum(not row["passed"] for row in rows), "", 0)
    for row in large:
        yield Line(f"{LARGE}, {row['format']} {row['type']}", row["seconds"], "s", 30)
        yield Line(f"{LARGE}, {row['format']} {row['type']}, memory", row["times_its_size"], "x", 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished build or demo")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="keeps what is finished")
    parser.add_argument("--only", default="", metavar="FORMAT", help="one target; nothing is written to --out")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "export.json")
    parser.add_argument("--write", nargs=2, metavar=("FORMAT", "TYPE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        to, kind = args.write
        print(json.dumps(written(Path(args.run), to, kind, args.work)))
        return 0
    try:
        from tinyforge.export.source import open_source
        from tinyforge.models.resolve import hash_weights

        source = open_source(args.run)
        kept = Kept(args.work / "rows.json", hash_weights(source.adapter or source.folder))
        rows = list(quality(args.run, args.work, args.only, kept))
        large = list(costs(args.work, args.only, kept))
    except TinyForgeError as error:
        print(f"bench/export.py: {error}", file=sys.stderr)
        return error.exit_code
    measured = list(lines(rows, large))
    command = "python bench/export.py RUN --work DIR"
    return finish(measured, None if args.only else args.out, command=command, rows=rows, large=large)


if __name__ == "__main__":
    sys.exit(main())

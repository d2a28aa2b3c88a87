"""The plan against the training: memory and time, as stated before and as measured.

    python bench/plan.py                    every configuration; some 20 minutes on two cores, quit other work first
    python bench/plan.py --only tiny        those whose name contains the word

Each configuration is planned by ``tinyforge plan`` and then trained by ``tinyforge train``, in processes of their own,
for about ``--seconds`` (a first plan tells how many steps that is). Memory is the training process's high-water mark,
of two workers the sum; time runs from the moment the training has said its plan to the end of its stage. Models
are the embedded tiny base, or random weights of known shapes with its tokenizer. Prints a Markdown table and writes
bench/results/plan.json.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from lines import ROOT
from shapes import SHAPES

from tinyforge.environment import machine, versions
from tinyforge.errors import TinyForgeError
from tinyforge.run import Run, write_json

TINYFORGE = [sys.executable, "-m", "tinyforge"]
MEMORY_WITHIN, TIME_WITHIN = 0.15, 0.25

HEADS = {"bert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}
WORDS = {"short": (10, 50), "long": (150, 330)}
"""Words of a question and of its answer each, from and to."""


@dataclass(frozen=True)
class Case:
    """``rows`` are chat, dpo or labels; ``settings`` go behind ``--set train.``."""

    name: str
    base: str
    rows: str = "chat"
    length: str = "short"
    settings: tuple[str, ...] = ()


CASES = [
    Case("tiny, full", "tiny"),
    Case("tiny, full, long rows", "tiny", length="long"),
    Case("tiny, full, 512 tokens x 4", "tiny", settings=("batch_tokens=512", "accumulation=4")),
    Case("tiny, LoRA", "tiny", settings=("method=lora",)),
    Case("tiny, DPO, full", "tiny", rows="dpo"),
    Case("SmolLM2-135M, full", "smollm2-135m", settings=("method=full",)),
    Case("SmolLM2-135M, full, checkpointing", "smollm2-135m", settings=("method=full", "gradient_checkpointing=true")),
    Case("SmolLM2-135M, LoRA", "smollm2-135m", settings=("method=lora",)),
    Case("SmolLM2-135M, LoRA, long rows", "smollm2-135m", length="long", settings=("method=lora",)),
    Case(
        "SmolLM2-135M, LoRA, long rows, checkpointing",
        "smollm2-135m",
        length="long",
        settings=("method=lora", "gradient_checkpointing=true"),
    ),
    Case("SmolLM2-135M, QLoRA", "smollm2-135m", settings=("method=qlora",)),
    Case("SmolLM2-135M, DPO, LoRA", "smollm2-135m", rows="dpo", settings=("method=lora",)),
    Case("tiny, full, 2 processes", "tiny", settings=("processes=2",)),
    Case("BERT small, classify, full", "bert-small", rows="labels"),
    Case("T5 small, seq2seq, full", "t5-small"),
    Case("Qwen3-0.6B, LoRA", "qwen3-0.6b", settings=("method=lora",)),
]


def make_base(name: str, folder: Path) -> str:
    """The name or the folder to give as --base; weights are random, and the same every time."""
    import torch
    import transformers

    from tinyforge.models.resolve import load_tokenizer, resolve

    if name == "tiny":
        return name
    if not (folder / "config.json").is_file():
        shape = dict(SHAPES[name])
        kind = shape.pop("model_type")
        tokenizer = load_tokenizer(resolve("tiny").folder)
        stops = json.loads((resolve("tiny").folder / "generation_config.json").read_text())["eos_token_id"]
        ids: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": stops}
        ids["decoder_start_token_id" if kind == "t5" else "bos_token_id"] = tokenizer.pad_token_id
        config = transformers.AutoConfig.for_model(kind, **shape, **ids)
        torch.manual_seed(0)
        model = getattr(transformers, HEADS.get(kind, "AutoModelForCausalLM")).from_config(config, dtype=torch.bfloat16)
        if kind not in HEADS:  # the chat template ends a turn with a token of its own, which must stop the model
            model.generation_config = transformers.GenerationConfig.from_pretrained(resolve("tiny").folder)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def write_rows(case: Case, path: Path, count: int = 600) -> Path:
    """Rows of random words, of which no two are the same."""
    rng = random.Random(0)
    vocabulary = "the library lends tools to members who pay a fee because saws wear out and volunteers repair".split()

    def text(number: int) -> str:
        return " ".join([*rng.choices(vocabulary, k=rng.randint(*WORDS[case.length])), str(number)])

    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if case.rows == "dpo":
                row = {"prompt": text(number), "chosen": text(number), "rejected": text(number + 1)}
            elif case.rows == "labels":
                row = {"text": text(number), "label": ("loan", "fee", "repair")[number % 3]}
            else:
                row = {"input": text(number), "output": text(number)}
            file.write(json.dumps(row) + "\n")
    return path


def watched(command: Sequence[str], workers: bool = False) -> float:
    """Run a command; returns the most memory that its process held, in MB, by the kernel's own mark.

    Of a command that starts ``workers``, the sum of what each of them held at the most.
    """
    marks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            for pid in _children(process.pid) if workers else [process.pid]:
                marks[pid] = max(marks.get(pid, 0), _high_water(pid))
            time.sleep(0.02)
        told = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise TinyForgeError(f"{' '.join(command)} ended with {process.returncode}: {told[-2000:]}")
    return sum(marks.values()) / 1024


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return []


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def compare(case: Case, folder: Path, seconds: float) -> dict[str, Any]:
    data = write_rows(case, folder / "rows.jsonl")
    base = make_base(case.base, folder.parent / case.base)
    settings = ("epochs=50", "patience=1000", "evaluations=2", *case.settings)
    given = ["--base", base, *(word for setting in settings for word in ("--set", f"train.{setting}"))]
    per_step = _plan(data, folder, given, 200)["seconds"]["steps"] / 200
    steps = max(4, min(400, round(seconds / per_step)))
    planned = _plan(data, folder, given, steps)
    out = folder / "run"
    several = any(setting.startswith("processes=") for setting in case.settings)
    memory = watched([*TINYFORGE, "train", str(data), "--out", str(out), *given, *_limit(steps)], several)
    events = Run.open(out).events()
    began = next(e["time"] for e in events if e["event"] == "plan")
    ended = next(e["time"] for e in events if e["event"] == "stage" and e["stage"] == "train")
    measured = {"memory_mb": memory, "seconds": ended - began}
    predicted = {"memory_mb": planned["memory_mb"]["peak"], "seconds": planned["seconds"]["total"]}
    return {
        "name": case.name,
        "steps": steps,
        "method": planned["method"],
        "precision": planned["precision"],
        "predicted": predicted,
        "measured": measured,
        "error": {key: predicted[key] / measured[key] - 1 for key in predicted},
        "plan": {key: planned[key] for key in ("memory_mb", "seconds", "disk_mb", "batches", "planning_seconds")},
    }


def _limit(steps: int) -> list[str]:
    return ["--set", f"train.max_steps={steps}"]


def _plan(data: Path, folder: Path, given: Sequence[str], steps: int) -> dict[str, Any]:
    command = [*TINYFORGE, "plan", str(data), "--out", str(folder / "run"), "--json", *given, *_limit(steps)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise TinyForgeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def table(lines: Sequence[dict[str, Any]]) -> str:
    rows = [
        "| configuration | steps | memory planned | measured | error | time planned | measured | error |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for line in lines:
        planned, measured, error = line["predicted"], line["measured"], line["error"]
        rows.append(
            f"| {line['name']} | {line['steps']} | {planned['memory_mb']:,.0f} MB | {measured['memory_mb']:,.0f} MB | "
            f"{error['memory_mb']:+.0%} | {planned['seconds']:.0f} s | {measured['seconds']:.0f} s | "
            f"{error['seconds']:+.0%} |"
        )
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="configurations whose name contains this")
    parser.add_argument("--seconds", type=float, default=35.0, help="about how long each training lasts")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "plan.json")
    args = parser.parse_args()
    cases = [case for case in CASES if args.only.lower() in case.name.lower()]
    lines = []
    with tempfile.TemporaryDirectory(dir=ROOT) as scratch:
        for number, case in enumerate(cases):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            lines.append(compare(case, folder, args.seconds))
            print(table(lines[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    errors = {key: [abs(line["error"][key]) for line in lines] for key in ("memory_mb", "seconds")}
    result = {
        "ratios": {
            "largest error of memory / 15%": max(errors["memory_mb"]) / MEMORY_WITHIN,
            "largest error of time / 25%": max(errors["seconds"]) / TIME_WITHIN,
        },
        "lines": lines,
        "seconds": args.seconds,
        "machine": machine(),
        "versions": versions(),
    }
    write_json(args.out, result)
    print(table(lines))
    return int(any(ratio > 1 for ratio in result["ratios"].values()))


if __name__ == "__main__":
    sys.exit(main())

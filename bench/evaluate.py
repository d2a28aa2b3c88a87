"""How long `tinyforge evaluate` takes for 1,000 questions of four variants, and whether its memory grows with them.

    python bench/evaluate.py               builds a run from ../shared/samples/handbook first, which takes minutes
    python bench/evaluate.py --run RUN     takes one that `tinyforge build` made on the embedded base

The questions are those of the run's own dataset, without repeats. Each evaluation is a process of its own that keeps
nothing from another one; its memory is the most that it and its children held together. Prints one line for each target
and writes bench/results/evaluate.json. Quit other work first.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from build import TINYFORGE, watched
from lines import ROOT, SHARED, Line, finish

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.records import Example
from tinyforge.run import read_json, read_jsonl, write_jsonl

VARIANTS = ("base", "tuned", "base+retrieval", "tuned+retrieval")
TARGET_SECONDS, TARGET_GROWTH = 300, 1.1
SETS = ("wordings", "documents", "dev", "train")


def questions(run: Path) -> list[dict[str, str]]:
    """The run's questions with their answers, each once, in an order that the seed 0 draws."""
    found: dict[str, str] = {}
    for name in SETS:
        for row in read_jsonl(run / "dataset" / f"{name}.jsonl"):
            example = Example.from_json(row)
            if example.kind == "chat" and not example.metadata.get("reading"):
                found.setdefault(example.question, example.answer)
    rows = [{"question": question, "answer": answer} for question, answer in found.items()]
    random.Random(0).shuffle(rows)
    return rows


def evaluated(run: Path, rows: Sequence[dict[str, str]], folder: Path) -> dict[str, float]:
    """One evaluation of these questions from nothing: seconds, processor seconds, the most memory in GB."""
    folder.mkdir()
    data = folder / "questions.jsonl"
    write_jsonl(data, rows)
    chosen = [word for variant in VARIANTS for word in ("--variant", variant)]
    command = [*TINYFORGE, "evaluate", str(run), "--data", str(data), "--out", str(folder / "out"), *chosen]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, memory = watched(command)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = read_json(folder / "out" / "evaluation.json")
    (result,) = found["sets"].values()
    if result["questions"] != len(rows) or set(found["contenders"]) != set(VARIANTS) or any(found["reused"].values()):
        raise TinyForgeError("the evaluation did not ask what it was to ask.")
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"questions": len(rows), "seconds": seconds, "processor_seconds": busy, "peak_gb": memory}


def lines(found: Sequence[dict[str, float]]) -> Iterator[Line]:
    few, many = found[0], found[-1]
    yield Line(f"{many['questions']:,} questions, 4 variants", many["seconds"], "s", TARGET_SECONDS)
    growth = many["peak_gb"] / few["peak_gb"]
    yield Line(f"peak memory, over {few['questions']:,} questions", growth, "x", TARGET_GROWTH)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure an evaluation's time, and its memory at two sizes.")
    parser.add_argument("--run", type=Path, help="a finished build (default: one is made)")
    parser.add_argument("--source", type=Path, default=SHARED / "samples" / "handbook", help="what it is made from")
    parser.add_argument("--sizes", type=int, nargs=2, default=(250, 1000), metavar="N", help="numbers of questions")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "evaluate.json")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run = args.run or Path(scratch) / "run"
            if args.run is None:
                watched([*TINYFORGE, "build", str(args.source), "--out", str(run)])
            rows = questions(run)
            if len(rows) < max(args.sizes):
                raise InputError(f"{run}: has {len(rows)} different questions.", "Give --sizes that are smaller.")
            found = []
            for size in sorted(args.sizes):
                found.append(evaluated(run, rows[:size], Path(scratch) / str(size)))
                print(f"  {json.dumps(found[-1])}", file=sys.stderr)
    except TinyForgeError as error:
        print(f"bench/evaluate.py: {error}", file=sys.stderr)
        return error.exit_code
    return finish(list(lines(found)), args.out, evaluations=found, variants=VARIANTS)


if __name__ == "__main__":
    sys.exit(main())

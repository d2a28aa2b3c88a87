"""Whether a killed command ends with the bytes of one that was not, after the same command is given again.

    python bench/kills.py                  100 kills of `tinyforge train`, 10 of `pretrain` and 10 of `build`
    python bench/kills.py --kills 20 --others 4

Half of the kills come at random times over the whole life of the process, the others on entering a system call that
changes the run folder (write, fsync, rename, unlink, mkdir, ...), chosen evenly over all of them by strace. Every fifth
of the first is killed three times before it may finish. The uninterrupted run is of another process with another seed
of Python's hashes. Needs Linux with strace. Writes bench/results/kills.json.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lines import ROOT

from tinyforge.environment import machine, versions
from tinyforge.run import read_json, write_json

sys.path.insert(0, str(ROOT / "tests"))

from kill import Call, Server, can_trace, result, server
from little import make_base

SAMPLES = ROOT / "src" / "tinyforge" / "samples"
THINGS = "saw drill ladder lathe plane file vice rasp hammer chisel level clamp".split()
SMALL = "train.threads=1 train.precision=fp32 train.checkpoint_seconds=0.02".split()
TRAIN = (
    "train.method=lora train.lora_rank=4 train.lora_dropout=0.1 train.learning_rate=0.01 "
    "train.batch_tokens=192 train.accumulation=2 train.epochs=8 train.evaluations=6 "
    "dataset.validation_split=0.2 dataset.max_length=128"
).split()
PRETRAIN = (
    "pretrain.vocabulary=512 pretrain.hidden=32 pretrain.layers=2 pretrain.heads=4 pretrain.kv_heads=2 "
    "pretrain.intermediate=64 pretrain.context=256 pretrain.sequence=64 pretrain.validation_fraction=0.2 "
    "train.epochs=4 train.batch_tokens=512 train.evaluations=4"
).split()
BUILD = (
    "train.epochs=1 train.evaluations=3 train.learning_rate=0.003 synthesize.wordings=12 "
    "evaluate.max_questions=10 evaluate.max_new_tokens=8 evaluate.resamples=200 retrieve.passages=2"
).split()


@dataclass(frozen=True)
class Work:
    """A command, and the files of its run that must be the same: those whose names begin so."""

    command: str
    words: Sequence[str]
    settings: Sequence[str]
    compared: tuple[str, ...] = ("",)

    def arguments(self, out: Path) -> list[str]:
        pairs = [word for setting in (*SMALL, *self.settings) for word in ("--set", setting)]
        return [self.command, *self.words, "--out", str(out), *pairs]

    def outcome(self, out: Path) -> dict[str, Any]:
        left = {name: value for name, value in result(out).items() if name.startswith(self.compared)}
        if self.command == "build":
            report = read_json(out / "report.json")
            left |= {name: report[name] for name in ("verdict", "scores", "recall")}
        return left


@dataclass(frozen=True)
class Kill:
    """One run that was killed ``kills`` times and then finished. ``different`` names the files that are not equal."""

    command: str
    kind: str
    place: str
    kills: int
    resumed_from: int | None
    equal: bool
    different: list[str]


def works(folder: Path) -> list[Work]:
    base = make_base(folder / "base")
    rows = [
        {"input": f"What does the {thing} cost{' today' * (n % 5)}?", "output": f"{n} tokens{' and a fee' * (n % 4)}."}
        for n, thing in enumerate(THINGS * 2)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    blocks = [b for p in sorted(SAMPLES.glob("*.md")) for b in p.read_text().split("\n\n") if len(b) > 80]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": block}) + "\n" for block in blocks))
    return [
        Work("train", [str(folder / "rows.jsonl"), "--base", str(base)], TRAIN),
        Work("pretrain", [str(folder / "corpus.jsonl")], PRETRAIN, ("model/", "pretrained/", "tokenizer/", "tokens/")),
        Work("build", [str(SAMPLES), "--base", str(base)], BUILD, ("model/", "dataset/", "documents.jsonl")),
    ]


def killed(work: Work, kills: int, started: Server, whole: dict[str, Any], folder: Path) -> Iterator[Kill]:
    """Kill ``work`` in ``kills`` runs, finish each, and compare."""
    draw = random.Random(f"{work.command} 1")
    took, calls = _look(work, started, folder)
    for number in range(kills // 2):
        times = [draw.uniform(0, took) for _ in range(3 if number % 5 == 4 else 1)]
        out = folder / f"{work.command}-time-{number}"
        kills_done = sum(started.run(work.arguments(out), after=s).code == -signal.SIGKILL for s in times)
        yield _finished(work, "time", ", ".join(f"{s:.2f} s" for s in times), kills_done, started, whole, out)
    wanted = kills - kills // 2
    for number in range(wanted):
        name, count, text = calls[(2 * number + 1) * len(calls) // (2 * wanted)]
        out = folder / f"{work.command}-call-{number}"
        ending = started.run(work.arguments(out), at=Call(name, count))
        yield _finished(
            work,
            "call",
            f"{name} {count}: {text.replace(str(Path.cwd()), 'CWD')[:90]}",
            int(ending.code == -signal.SIGKILL),
            started,
            whole,
            out,
        )


def _look(work: Work, started: Server, folder: Path) -> tuple[float, list[tuple[str, int, str]]]:
    """How long the command takes here, and the calls by which it changes its folder."""
    took = started.run(work.arguments(folder / "timed")).seconds
    _, calls = started.count(work.arguments(folder / "counted"), folder / "counted")
    for name in ("timed", "counted"):
        shutil.rmtree(folder / name)
    return took, calls


def _finished(work: Work, kind: str, place: str, kills: int, started: Server, whole: dict[str, Any], out: Path) -> Kill:
    ending = started.run(work.arguments(out))
    left = work.outcome(out) if ending.code == 0 else {"exit code": ending.code, "said": ending.said[-300:]}
    different = sorted(name for name in {*left, *whole} if left.get(name) != whole.get(name))
    shutil.rmtree(out)
    return Kill(work.command, kind, place, kills, ending.resumed_from, not different, different)


def whole_runs(works: Sequence[Work], folder: Path) -> list[dict[str, Any]]:
    with server(folder, PYTHONHASHSEED="1") as started:
        endings = [started.run(work.arguments(folder / f"whole-{work.command}")) for work in works]
    for ending in endings:
        assert ending.code == 0, ending.said
    return [work.outcome(folder / f"whole-{work.command}") for work in works]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="kills of train (default 100)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "kills.json")
    parser.add_argument("--others", type=int, default=10, help="kills each of pretrain and build (default 10)")
    args = parser.parse_args()
    if not can_trace():
        print("bench/kills.py needs strace and the right to trace.", file=sys.stderr)
        return 1
    began = time.monotonic()
    found: list[Kill] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = works(folder)
        expected = whole_runs(jobs, folder)
        with server(folder, PYTHONHASHSEED="2") as started:
            for work, whole in zip(jobs, expected, strict=True):
                kills = args.kills if work.command == "train" else args.others
                for kill in killed(work, kills, started, whole, folder):
                    found.append(kill)
                    outcome = "equal" if kill.equal else f"DIFFERENT {kill.different}"
                    print(f"{kill.command} {kill.place} -> from {kill.resumed_from}: {outcome}", flush=True)
    table = {
        f"{command}, {kind}": f"{sum(k.equal for k in part)} of {len(part)} equal, {sum(k.kills for k in part)} kills"
        for command in ("train", "pretrain", "build")
        for kind in ("time", "call")
        if (part := [k for k in found if (k.command, k.kind) == (command, kind)])
    }
    settings = {work.command: [*SMALL, *work.settings] for work in jobs}
    write_json(
        args.out,
        {
            "summary": table,
            "seconds": round(time.monotonic() - began),
            "settings": settings,
            "kills": [asdict(kill) for kill in found],
            "machine": machine(),
            "versions": versions(),
        },
    )
    print(json.dumps(table, indent=1))
    return 0 if all(kill.equal for kill in found) else 1


if __name__ == "__main__":
    sys.exit(main())

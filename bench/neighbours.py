"""What work takes beside other busy programs, by how long threads that wait for one another spin.

    python bench/neighbours.py [--spins 1000 2000 3000] [--repeats 2]

A short training and the writing of some tokens by the embedded base, on every core, alone and with one and two programs
that each keep a core busy: with each GOMP_SPINCOUNT, and with libgomp's own behaviour where it is not set. They take
turns; the best of the repeats counts. Writes bench/results/neighbours.json. Quit other work first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lines import ROOT

from tinyforge.environment import machine, versions
from tinyforge.run import write_json, write_jsonl

UNSET = "not set"
TRAIN = """
import sys
from tinyforge import cli
cli._ENVIRONMENT.pop("GOMP_SPINCOUNT")
sys.exit(cli.main(sys.argv[1:]))
"""
WRITE = """
import time
from tinyforge.models.generate import Writer
from tinyforge.models.machine import set_threads
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
set_threads(0)
base = resolve("tiny").folder
writer = Writer(load_model(base, "bf16"), load_tokenizer(base), 128)
writer._stops = set()
start = writer._left_pad([[5] * 32])
times = []
for _ in range(4):
    began = time.perf_counter()
    written = len(list(writer._decode(*start)))
    times.append((time.perf_counter() - began) * 1000 / written)
print(min(times))
"""


def measured(rows: Path, spins: str) -> dict[str, float]:
    """Seconds of the training, and milliseconds for a token."""
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment |= {} if spins == UNSET else {"GOMP_SPINCOUNT": spins}
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--set", "train.epochs=40", "--set", "train.patience=100"]
        command = [sys.executable, "-c", TRAIN, "train", str(rows), "--out", f"{folder}/run", *settings]
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        seconds = time.perf_counter() - began
    written = subprocess.run([sys.executable, "-c", WRITE], check=True, capture_output=True, text=True, env=environment)
    return {"train_seconds": seconds, "ms_per_token": float(written.stdout)}


def beside(neighbours: int, rows: Path, spins: list[str], repeats: int) -> dict[str, Any]:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    taken: dict[str, list[dict[str, float]]] = {count: [] for count in spins}
    try:
        for _ in range(repeats):
            for count in spins:
                taken[count].append(measured(rows, count))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    best = {count: {key: round(min(run[key] for run in runs), 2) for key in runs[0]} for count, runs in taken.items()}
    for count, row in best.items():
        print(f"{neighbours} neighbours, {count:>7}: {row['train_seconds']:6.1f} s {row['ms_per_token']:7.2f} ms/token")
    return {"neighbours": neighbours, "best": best}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spins", type=int, nargs="+", default=[1000, 2000, 3000])
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    names = [f"Name{number}" for number in range(36)]
    trades = ("baker", "smith", "pilot", "weaver", "judge", "miller")
    pairs = [(f"What does {name} do?", f"{name} is a {trades[i % 6]}.") for i, name in enumerate(names)]
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        write_jsonl(rows, [{"input": question, "output": answer} for question, answer in pairs])
        spins = [UNSET, *map(str, args.spins)]
        found = [beside(count, rows, spins, args.repeats) for count in range(3)]
    path = ROOT / "bench" / "results" / "neighbours.json"
    write_json(path, {"runs": found, "machine": machine(), "versions": versions()})


if __name__ == "__main__":
    main()

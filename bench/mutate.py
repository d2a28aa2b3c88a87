"""Thousands of damaged and hostile files: nothing crashes, nothing is written, limits hold, good files are read.

    python bench/mutate.py [--files 5000] [--seed 1] [--out bench/results/mutate.json] [SAMPLES...]

Every file below the given folders (default: the samples of the package and of the tests) is flipped, cut, spliced and
given other extensions; bombs come in between. Exits with 1, and says which, if anything was not as it has to be.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from lines import ROOT

from tinyforge.config import IngestConfig
from tinyforge.environment import machine

sys.path.insert(0, str(ROOT / "tests"))

from mutations import bombs, mutated, problems, zipped

_BATCH = 100


def samples(folders: list[Path]) -> list[tuple[str, bytes]]:
    paths = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    found = [(path.name, data) for path in paths if (data := path.read_bytes()) and len(data) < 3_000_000]
    return [*found, ("samples.zip", zipped([entry for entry in found if len(entry[1]) < 200_000]))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="SAMPLES")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    known = samples(args.folders or [ROOT / "src/tinyforge/samples", ROOT / "tests/samples"])
    config = IngestConfig(timeout_seconds=5.0, memory_mb=300.0)
    files = mutated(known, args.files, args.seed)
    found: list[str] = []
    began, longest, done = time.monotonic(), 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "tmp").mkdir()
        tempfile.tempdir = str(work / "tmp")
        while batch := list(islice(files, _BATCH)):
            start = time.monotonic()
            found += problems(work, batch, config)
            longest = max(longest, time.monotonic() - start)
            done += len(batch)
            print(f"{done:,} files, {len(found)} problems, {time.monotonic() - began:.0f} s", file=sys.stderr)
    tempfile.tempdir = None
    result = {
        "machine": machine(),
        "files": done,
        "samples": len(known),
        "bombs": len(bombs()),
        "seed": args.seed,
        "problems": found,
        "seconds": round(time.monotonic() - began, 1),
        "slowest_hundred_seconds": round(longest, 1),
        "largest_worker_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3, 1),
        "memory_mb": config.memory_mb,
        "timeout_seconds": config.timeout_seconds,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())

"""Speed and size of the main job, against the targets for two cores.

    python bench/build.py                              the handbook and three documentation sites of ../shared
    python bench/build.py --source DOCS --corpus DOCS  your own (a folder of documents, or *.jsonl.gz with "text")

Prints one line for each target and writes bench/results/build.json: ``ratios`` holds value / target (at most 1 is met
where less is better, at least 1 where more is), ``machine`` says where it was measured. Quit other work first.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from lines import ROOT, SHARED, Line, finish

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.recipe import load_config

CORPUS = [SHARED / "corpus" / f"{name}.jsonl.gz" for name in ("18F-handbook", "vuejs-docs", "github-opensource.guide")]
TINYFORGE = [sys.executable, "-m", "tinyforge"]


def watched(command: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command took, and the most memory that it and its children held together, in GB (1e9 bytes)."""
    peak = 0
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(tree))
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        told = process.stderr.read().decode() if process.stderr else ""
    if process.returncode:
        raise TinyForgeError(f"{' '.join(command)} ended with {process.returncode}: {told[-2000:]}")
    return seconds, peak / 1e9


def _resident(root: psutil.Process) -> int:
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:  # it ended while we looked; the next look counts the others
        pass
    return total


def build_lines(source: Path, settings: Sequence[str], folder: Path) -> Iterator[Line]:
    options = [word for setting in settings for word in ("--set", setting)]
    command = [*TINYFORGE, "build", str(source), "--out", str(folder / "model"), *options]
    seconds, memory = watched(command)
    yield Line("build from nothing", seconds, "s", 300)
    yield Line("build, peak memory", memory, "GB", 3)
    yield Line("build again, nothing changed", watched(command)[0], "s", 10)


def help_lines(repeats: int = 10) -> Iterator[Line]:
    command = [*TINYFORGE, "--help"]
    yield Line("--help, best of 10", min(watched(command)[0] for _ in range(repeats)), "s", 0.3)
    timed = [sys.executable, "-X", "importtime", "-m", "tinyforge", "--help"]
    told = subprocess.run(timed, capture_output=True, text=True, check=True).stderr
    imported = [line.rpartition("|")[2].strip() for line in told.splitlines()]
    yield Line("--help, torch modules imported", sum(n.partition(".")[0] == "torch" for n in imported), "", 0)


def ingest_lines(folder: Path, settings: Sequence[str]) -> Iterator[Line]:
    from tinyforge.ingest import read_sources
    from tinyforge.synthesize import synthesize

    config = load_config(None, list(settings))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    began = time.perf_counter()
    documents = read_sources([folder], config.ingest).documents
    read = time.perf_counter()
    made = synthesize(documents, config.synthesize, config.seed)
    done = time.perf_counter()
    print(f"  {size:.2f} MB, {len(documents)} documents, {len(made.examples)} examples", file=sys.stderr)
    print(f"  ingest {read - began:.2f} s, synthesis {done - read:.2f} s", file=sys.stderr)
    yield Line("ingest and synthesis", size / (done - began), "MB/s", 0.5, more=True)


def write_corpus(sources: Sequence[Path], folder: Path) -> Path:
    """A folder of documents as it is; of each row of a ``*.jsonl.gz`` one Markdown file in ``folder``."""
    if len(sources) == 1 and sources[0].is_dir():
        return sources[0]
    for source in sources:
        if not source.is_file():
            raise InputError(f"{source}: not found.", "Give --corpus a folder of documents, or *.jsonl.gz files.")
        with gzip.open(source, "rt", encoding="utf-8") as rows:
            for number, row in enumerate(rows):
                path = folder / source.name.partition(".")[0] / f"{number:05d}.md"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.loads(row)["text"], encoding="utf-8")
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the main job against its targets.")
    parser.add_argument("--source", type=Path, default=SHARED / "samples" / "handbook", help="documents to build from")
    parser.add_argument("--corpus", type=Path, nargs="+", default=CORPUS, help="text for the ingest and synthesis rate")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "build.json")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            corpus = write_corpus(args.corpus, Path(scratch) / "corpus")
            lines = [*help_lines(), *ingest_lines(corpus, args.settings)]
            lines += build_lines(args.source, args.settings, Path(scratch))
    except TinyForgeError as error:
        print(f"bench/build.py: {error}", file=sys.stderr)
        return error.exit_code
    return finish(lines, args.out, settings=args.settings)


if __name__ == "__main__":
    sys.exit(main())

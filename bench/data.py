"""Speed and memory of reading, of the rules, of cleaning data and of asking a teacher, against the targets.

    python bench/data.py                                   PEPs of ../shared, and PDFs that Chromium prints of some
    python bench/data.py --peers OTHER/bin/python          beside pypdf and markitdown, installed for that Python
    python bench/data.py --only memory --sizes 1 10 100 1000

Measures ingest with the rules (MB of text a second), pages of PDF a second (many files, and one large file), the peak
memory of `ingest` by the size of its source, near-duplicate removal, and how well a teacher of 200 ms is kept busy.
Writes bench/results/data.json; parts that are not measured this time keep their last figures. Quit other work first.
"""

from __future__ import annotations

import argparse
import gzip
import html
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from lines import ROOT, SHARED

from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.dataset.dedupe import twins
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.models.calls import Budget, Call, Caller, Store
from tinyforge.models.endpoint import Options, connect
from tinyforge.records import Example, Message
from tinyforge.run import read_json, write_json
from tinyforge.synthesize import synthesize

sys.path.insert(0, str(ROOT / "tests"))

from teacher_server import Teacher

CORPUS = SHARED / "corpus" / "python-peps.jsonl.gz"
RESULTS = ROOT / "bench" / "results" / "data.json"
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
TARGETS = {
    "ingest and rules, MB/s": (1.0, "at least"),
    "PDF, many files, pages/s": (100.0, "at least"),
    "PDF, one file, pages/s": (100.0, "at least"),
    "memory of ingest, largest over smallest": (1.2, "at most"),
    "near-duplicates of 100,000 rows, s": (10.0, "at most"),
    "teacher kept busy, share": (0.95, "at least"),
}
_PEERS = """
import json, sys, time
from importlib.metadata import version
def pypdf(path):
    from pypdf import PdfReader
    return "\\n".join(page.extract_text() for page in PdfReader(path).pages)
def markitdown(path):
    from markitdown import MarkItDown
    return MarkItDown().convert(path).text_content
found = {}
for name, read in (("pypdf", pypdf), ("markitdown", markitdown)):
    try:
        installed = version(name)
    except Exception:
        found[name] = "not installed"
        continue
    read(sys.argv[1])
    began = time.perf_counter()
    characters = sum(len(read(path)) for path in sys.argv[1:])
    found[name] = {"version": installed, "seconds": time.perf_counter() - began, "characters": characters}
print(json.dumps(found))
"""
_PEAK = """
import resource, sys
from tinyforge.config import Config
from tinyforge.pipeline.documents import ingest
ingest([sys.argv[1]], sys.argv[2], Config(), lambda *_: None)
# Not ru_maxrss for this process: Linux counts in it what the process was before it became this program.
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(peak / 1000, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)
"""


def corpus(path: Path, megabytes: float) -> list[str]:
    """Texts of the corpus until there are so many megabytes."""
    texts, size = [], 0
    with gzip.open(path, "rt", encoding="utf-8") as handle:
        for line in handle:
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
            if size >= megabytes * 1e6:
                break
    return texts


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def ingest_and_rules(texts: list[str], folder: Path) -> dict[str, Any]:
    for number, text in enumerate(texts):
        (folder / f"{number:04d}.md").write_text(text, encoding="utf-8")
    size = sum(len(text.encode()) for text in texts) / 1e6
    reading, found = timed(lambda: read_sources([folder], IngestConfig()))
    rules, made = timed(lambda: synthesize(found.documents, SynthesizeConfig(), Config().seed))
    return {
        "megabytes": round(size, 2),
        "ingest_mb_per_second": round(size / reading, 3),
        "rules_mb_per_second": round(size / rules, 3),
        "together_mb_per_second": round(size / (reading + rules), 3),
        "examples": len(made.examples),
    }


def print_pdfs(texts: list[str], folder: Path, program: str) -> None:
    for number, text in enumerate(texts):
        page = folder.parent / f"{folder.name}-{number}.html"
        page.write_text(f"<meta charset=utf-8><pre style='white-space:pre-wrap'>{html.escape(text)}</pre>")
        target = f"--print-to-pdf={folder / f'{number}.pdf'}"
        command = [program, "--headless", *QUIET, "--no-pdf-header-footer", target, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=300)


def pdf_pages(texts: list[str], folder: Path, peers: str) -> dict[str, Any]:
    """Pages a second over several files, and of one file that holds all of them."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return {"skipped": "Chromium, which prints the PDFs, is not installed"}
    import pypdfium2

    found: dict[str, Any] = {}
    for name, parts in (("many files", texts), ("one file", ["\n\n".join(texts)])):
        place = folder / name.replace(" ", "-")
        place.mkdir()
        print_pdfs(parts, place, program)
        files = sorted(place.glob("*.pdf"))
        pages = sum(len(pypdfium2.PdfDocument(path)) for path in files)
        config = IngestConfig(timeout_seconds=300.0, memory_mb=2000.0)
        seconds, read = timed(partial(read_sources, [place], config))
        characters = sum(len(document.text) for document in read.documents)
        found[name] = {"pages": pages, "pages_per_second": round(pages / seconds, 1), "characters": characters}
        if peers:
            done = subprocess.run(
                [peers, "-c", _PEERS, *map(str, files)], check=True, capture_output=True, text=True, timeout=600
            )
            for peer, told in json.loads(done.stdout.splitlines()[-1]).items():
                if isinstance(told, dict):
                    told["pages_per_second"] = round(pages / told.pop("seconds"), 1)
                found[name][peer] = told
    return found


def peak_memory(texts: list[str], folder: Path, sizes: list[int]) -> dict[str, Any]:
    """Peak resident memory of `ingest`, its own and its largest worker's, by megabytes in files of a quarter each."""
    found: dict[str, Any] = {}
    whole = "\n\n".join(texts)
    for size in sizes:
        place = folder / str(size)
        place.mkdir()
        for number in range(4 * size):
            start = 997 * number % max(1, len(whole) - 250_000)
            part = whole[start : start + 250_000]
            (place / f"{number:04d}.md").write_text(f"# Part {number}\n\n{part}", encoding="utf-8")
        command = [sys.executable, "-c", _PEAK, str(place), str(folder / f"{size}-run")]
        seconds, done = timed(partial(subprocess.run, command, check=True, capture_output=True, text=True))
        own, worker = map(float, done.stdout.split())
        found[str(size)] = {"own_mb": round(own), "worker_mb": round(worker), "seconds": round(seconds, 1)}
        shutil.rmtree(place)
        shutil.rmtree(folder / f"{size}-run")
    return found


def near_duplicates(texts: list[str], rows: int) -> dict[str, Any]:
    """Rows of 40 words of the corpus, a tenth of them with one word changed: all of these are to be found."""
    words = " ".join(texts).split()
    rng = random.Random(0)
    examples: list[Example] = []
    for number in range(rows):
        if number % 10 == 9:
            said = examples[-rng.randrange(1, 9)].answer.split()
            said[0] = "Instead"
        else:
            start = rng.randrange(len(words) - 40)
            said = words[start : start + 40]
        messages = (Message("user", f"What is said of {said[3]}?"), Message("assistant", " ".join(said)))
        examples.append(Example(str(number), messages))
    seconds, found = timed(lambda: twins(examples, 0.8))
    return {"rows": rows, "seconds": round(seconds, 2), "left_out": len(found), "planted": rows // 10}


def busy_teacher(folder: Path, calls: int, at_once: int) -> dict[str, Any]:
    """The share of its places that a server with 200 ms of latency had in use, from the first call to the last."""
    latency = 0.2
    with Teacher(lambda messages: "said", latency=latency) as server:
        caller = Caller(connect(server.url, connections=at_once), Store(folder / "calls.sqlite"), Budget(), at_once)
        asked = [Call((Message("user", str(number)),), "bench", Options(max_tokens=8)) for number in range(calls)]
        seconds, answers = timed(lambda: caller.ask_all(asked))
    assert None not in answers
    share = calls * latency / (seconds * at_once)
    return {"calls": calls, "at_once": at_once, "seconds": round(seconds, 2), "busy_share": round(share, 3)}


def against_targets(results: dict[str, Any]) -> dict[str, Any]:
    """Every target with what was measured and whether it was met; None where a part was not measured."""
    memory = [row["own_mb"] for _, row in sorted(results.get("memory", {}).items(), key=lambda item: int(item[0]))]
    pdf, cleaned = results.get("pdf", {}), results.get("near_duplicates", {})
    measured = {
        "ingest and rules, MB/s": results.get("text", {}).get("together_mb_per_second"),
        "PDF, many files, pages/s": pdf.get("many files", {}).get("pages_per_second"),
        "PDF, one file, pages/s": pdf.get("one file", {}).get("pages_per_second"),
        "memory of ingest, largest over smallest": round(max(memory) / memory[0], 2) if len(memory) > 1 else None,
        "near-duplicates of 100,000 rows, s": cleaned.get("seconds") if cleaned.get("rows") == 100_000 else None,
        "teacher kept busy, share": results.get("teacher", {}).get("busy_share"),
    }
    found = {}
    for name, (target, way) in TARGETS.items():
        value = measured[name]
        met = None if value is None else value >= target if way == "at least" else value <= target
        found[name] = {"measured": value, "asked": f"{way} {target:g}", "met": met}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="*.jsonl.gz with text")
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--pdfs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100], help="megabytes, for the memory")
    parser.add_argument("--peers", default="", metavar="PYTHON", help="a Python with pypdf and markitdown")
    parser.add_argument("--only", choices=("text", "pdf", "memory", "near_duplicates", "teacher"), action="append")
    args = parser.parse_args()
    texts = corpus(args.corpus, max(args.megabytes, 3.0))
    results = read_json(RESULTS) if args.only and RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folders = (Path(name) / str(number) for number in count())

        def folder() -> Path:
            made = next(folders)
            made.mkdir()
            return made

        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "text": lambda: ingest_and_rules(corpus(args.corpus, args.megabytes), folder()),
            "pdf": lambda: pdf_pages(texts[: args.pdfs], folder(), args.peers),
            "near_duplicates": lambda: near_duplicates(texts, args.rows),
            "teacher": lambda: busy_teacher(folder(), 400, 8),
            "memory": lambda: peak_memory(texts, folder(), args.sizes),
        }
        for part, measure in parts.items():
            if not args.only or part in args.only:
                results[part] = measure()
                print(part, json.dumps(results[part], indent=1), flush=True)
    results["targets"] = against_targets(results)
    results |= {"machine": machine(), "versions": versions()}
    write_json(RESULTS, results)
    for name, row in results["targets"].items():
        verdict = "not measured" if row["met"] is None else "met" if row["met"] else "MISSED"
        print(f"{name:<42}{row['measured']!s:>10}  {row['asked']:<15}{verdict}")


if __name__ == "__main__":
    main()

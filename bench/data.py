"""Speed of reading and cleaning data, against the targets for two cores.

    python bench/data.py                      PEPs of ../shared, and PDFs that Chromium prints of some of them
    python bench/data.py --rows 10000 --megabytes 1        shorter

Measures ingest with the rules (MB/s of text), PDF pages a second and near-duplicate removal, beside pypdf and
markitdown on the same PDFs where they are installed. Writes bench/results/data.json. Quit other work first.
"""

from __future__ import annotations

import argparse
import gzip
import html
import importlib.util
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.dataset.dedupe import twins
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.records import Example, Message
from tinyforge.run import write_json
from tinyforge.synthesize import synthesize

ROOT = Path(__file__).parent.parent
CORPUS = ROOT.parent / "shared" / "corpus" / "python-peps.jsonl.gz"
QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")


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


def ingest_and_rules(texts: list[str], folder: Path) -> dict[str, float]:
    for number, text in enumerate(texts):
        (folder / f"{number:04d}.md").write_text(text, encoding="utf-8")
    size = sum(len(text.encode()) for text in texts) / 1e6
    reading, found = timed(lambda: read_sources([folder], IngestConfig(), lambda name, outcome: None))
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
        page = folder.parent / f"{number}.html"
        page.write_text(f"<meta charset=utf-8><pre style='white-space:pre-wrap'>{html.escape(text)}</pre>")
        target = f"--print-to-pdf={folder / f'{number}.pdf'}"
        command = [program, "--headless", *QUIET, "--no-pdf-header-footer", target, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def pdf_pages(texts: list[str], folder: Path) -> dict[str, Any]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return {"skipped": "Chromium, which prints the PDFs, is not installed"}
    import pypdfium2

    print_pdfs(texts, folder, program)
    files = sorted(folder.glob("*.pdf"))
    pages = sum(len(pypdfium2.PdfDocument(path)) for path in files)
    seconds, _ = timed(lambda: read_sources([folder], IngestConfig(), lambda name, outcome: None))
    found: dict[str, Any] = {"pages": pages, "tinyforge_pages_per_second": round(pages / seconds, 1)}
    for name, read in (("pypdf", _pypdf), ("markitdown", _markitdown)):
        if importlib.util.find_spec(name) is None:
            found[name] = "not installed"
        else:
            seconds, _ = timed(lambda read=read: [read(path) for path in files])
            found[f"{name}_pages_per_second"] = round(pages / seconds, 1)
    return found


def _pypdf(path: Path) -> str:
    from pypdf import PdfReader

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def _markitdown(path: Path) -> str:
    from markitdown import MarkItDown

    return str(MarkItDown().convert(str(path)).text_content)


def near_duplicates(texts: list[str], rows: int) -> dict[str, Any]:
    """Rows of 40 words of the corpus, a tenth of them with one word changed: all of these are to be found."""
    words = " ".join(texts).split()
    rng = random.Random(0)
    examples = []
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="*.jsonl.gz with text")
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--pdfs", type=int, default=20)
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args()
    texts = corpus(args.corpus, args.megabytes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("md", "pdf"):
            (folder / part).mkdir()
        results = {
            "text": ingest_and_rules(texts, folder / "md"),
            "pdf": pdf_pages(texts[: args.pdfs], folder / "pdf"),
            "near_duplicates": near_duplicates(texts, args.rows),
        }
    results["targets"] = {
        "together_mb_per_second": 1.0,
        "pdf_pages_per_second": 100,
        "near_duplicates_100k_seconds": 10,
    }
    results |= {"machine": machine(), "versions": versions()}
    write_json(ROOT / "bench" / "results" / "data.json", results)
    print(json.dumps({key: results[key] for key in ("text", "pdf", "near_duplicates", "targets")}, indent=1))


if __name__ == "__main__":
    main()

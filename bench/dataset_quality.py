"""Whether the rules' datasets meet their targets, on documents of different kinds and a copy of one as PDF.

    python bench/dataset_quality.py                the handbook, an economics textbook and PEPs of ../shared
    python bench/dataset_quality.py --documents 20 the first twenty of each

For each: spans that read as their answers, sections with an example (by the precise rules apart), near copies above a
Jaccard similarity of 0.8, topic entropy. Writes bench/results/dataset_quality.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from lines import ROOT, SHARED

from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.dataset.quality import quality
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.run import write_json
from tinyforge.synthesize import synthesize, verify

CORPORA = {"economics": "openstax-osbooks-principles-economics-bundle", "peps": "python-peps"}
TARGETS = {"spans_valid": 1.0, "section_coverage": 0.9, "share_of_pairs": 0.01, "topic_entropy": 0.85}
LESS = ("share_of_pairs",)


def measure(source: Path) -> dict[str, Any]:
    found = read_sources([source], IngestConfig(), lambda name, outcome: None)
    made = synthesize(found.documents, SynthesizeConfig(), Config().seed)
    by_id = {document.id: document for document in found.documents}
    valid = sum(verify(example, by_id) for example in made.examples)
    topics = len({e.topic for e in made.examples}) + len(made.coverage.uncovered)
    figures = quality(made.examples, found.documents, topics)
    near = figures["near_duplicates"]
    return {
        "documents": len(found.documents),
        "facts": figures["facts"],
        "examples": len(made.examples),
        "spans_valid": valid / max(1, len(made.examples)),
        "sections": made.coverage.sections,
        "section_coverage": round(made.coverage.share, 4),
        "section_coverage_by_precise_rules": round(made.coverage.precise_share, 4),
        "share_of_pairs": near["share_of_pairs"],
        "share_of_facts_with_a_near_copy": near["share_of_facts"],
        "topic_entropy": figures["topic_entropy"],
        **{name: figures[name] for name in ("grounding", "clarity", "completeness", "diversity_of_facts")},
    }


def unpack(name: str, folder: Path, most: int = -1) -> Path:
    """The documents of a corpus as files, under the names that they had."""
    with gzip.open(SHARED / "corpus" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as handle:
        for number, line in enumerate(handle):
            if number == most:
                break
            row = json.loads(line)
            path = Path(row["path"])
            path = folder / (path.parent if path.stem == "index" else path).with_suffix(".md")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(row["text"], encoding="utf-8")
    return folder


def texts(folder: Path, most: int = -1) -> dict[str, Path]:
    """The documents that the rules are judged on, by kind."""
    unpacked = {kind: unpack(corpus, folder / kind, most) for kind, corpus in CORPORA.items()}
    return {"handbook": SHARED / "samples" / "handbook", **unpacked}


def as_pdf(source: Path, folder: Path) -> Path | None:
    """The handbook's pages as Chromium prints them; None where it is not installed."""
    from markdown_it import MarkdownIt

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return None
    folder.mkdir()
    quiet = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    for path in sorted(source.rglob("*.md")):
        page = folder.parent / f"{path.stem}.html"
        body = MarkdownIt().enable("table").render(path.read_text(encoding="utf-8"))
        page.write_text(f"<meta charset=utf-8><title>{path.stem}</title>{body}", encoding="utf-8")
        target = f"--print-to-pdf={folder / f'{path.stem}.pdf'}"
        command = [program, "--headless", *quiet, "--no-pdf-header-footer", target, page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder


def met(name: str, value: float) -> bool:
    return value <= TARGETS[name] if name in LESS else value >= TARGETS[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=-1, help="of each corpus at most so many (-1: all)")
    args = parser.parse_args()
    results: dict[str, Any] = {"targets": TARGETS, "documents_of_each_corpus": args.documents}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources: dict[str, Path | None] = {**texts(folder, args.documents)}
        sources["handbook as PDF"] = as_pdf(SHARED / "samples" / "handbook", folder / "pdf")
        for kind, source in sources.items():
            if source is None:
                results[kind] = {"skipped": "Chromium, which prints the PDF, is not installed"}
                print(f"{kind}: skipped")
                continue
            results[kind] = figures = measure(source)
            told = [f"{key} {figures[key]:.4f} {'met' if met(key, figures[key]) else 'MISSED'}" for key in TARGETS]
            print(
                f"{kind}: {' · '.join(told)} · precise {figures['section_coverage_by_precise_rules']:.2f}", flush=True
            )
    write_json(
        ROOT / "bench" / "results" / "dataset_quality.json", {**results, "machine": machine(), "versions": versions()}
    )


if __name__ == "__main__":
    main()

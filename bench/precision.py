"""How often the precise rules are right: 200 rows drawn at random, each judged by reading its section.

    python bench/precision.py                                draws the rows again, and counts what was judged of them
    python bench/precision.py --to-judge FILE                writes the rows, with their sections, to be judged
    python bench/precision.py --to-judge FILE --seed 7 --rows 90     others, to improve the rules by

A third of the rows each comes from the handbook, the economics textbook and the PEPs of ../shared: a fact is drawn,
then one of its wordings. A row is right if the answer is correct and complete for the question by its section, and the
question can be understood without the page, means one thing, and is English. The verdicts are in
bench/results/precision.jsonl, with a reason for each and without the texts themselves: where the answer stands, how it
opens, and its hash. A row that the rules no longer make, or make differently, has no verdict, and the exit code is 1.
Writes bench/results/precision.json.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset_quality import texts
from lines import ROOT

from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.records import Document, Example, content_id
from tinyforge.run import write_json
from tinyforge.synthesize import Synthesis, synthesize

JUDGED = ROOT / "bench" / "results" / "precision.jsonl"
SEED, ROWS, TARGET = 20261126, 200, 0.95
_OPENING = 60  # characters of an answer that are written down


def draw(made: Synthesis, count: int, seed: int) -> list[Example]:
    """One wording each of ``count`` facts of the precise rules."""
    facts: dict[str, list[Example]] = {}
    for example in made.examples:
        if not example.metadata["coverage"]:
            facts.setdefault(example.fact, []).append(example)
    rng = random.Random(seed)
    names = sorted(facts)
    return [rng.choice(facts[name]) for name in rng.sample(names, min(count, len(names)))]


def row_of(kind: str, example: Example) -> dict[str, Any]:
    """What of a drawn row is written down beside its verdict."""
    return {
        "kind": kind,
        "rule": example.rule,
        "source": example.metadata["source"],
        "section": example.metadata["section"],
        "question": example.question,
        "evidence": [[span.start, span.end] for span in example.evidence],
        "opening": example.answer[:_OPENING],
        "answer": content_id("answer", example.answer),
    }


def section_text(example: Example, documents: dict[str, Document]) -> str:
    document = documents[example.evidence[0].document]
    sections = [s for s in document.sections() if s.span.overlaps(example.evidence[0])]
    return document.slice(sections[0].span) if sections else ""


def drawn(rows: int, seed: int) -> Iterator[tuple[str, int, list[tuple[Example, str]]]]:
    """By kind: how many facts the precise rules find, and the rows drawn, each with its section."""
    with tempfile.TemporaryDirectory() as name:
        sources = texts(Path(name))
        for number, (kind, source) in enumerate(sources.items()):
            found = read_sources([source], IngestConfig(), lambda name, outcome: None)
            made = synthesize(found.documents, SynthesizeConfig(), Config().seed)
            share = rows // len(sources) + (number < rows % len(sources))
            by_id = {document.id: document for document in found.documents}
            chosen = [(example, section_text(example, by_id)) for example in draw(made, share, seed)]
            yield kind, len({e.fact for e in made.examples if not e.metadata["coverage"]}), chosen


def wilson(right: int, total: int) -> list[float]:
    """The 95% interval of a share (Wilson 1927)."""
    if not total:
        return [0.0, 1.0]
    z, share = 1.959964, right / total
    middle, spread = share + z * z / (2 * total), z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    return [round((middle + sign * spread) / (1 + z * z / total), 4) for sign in (-1, 1)]


def verdicts() -> dict[str, dict[str, Any]]:
    """The judged rows, by all that is written down of them but the verdict."""
    lines = JUDGED.read_text(encoding="utf-8").splitlines() if JUDGED.exists() else []
    rows = [json.loads(line) for line in lines]
    return {_key(row): row for row in rows}


def _key(row: dict[str, Any]) -> str:
    return json.dumps([value for name, value in row.items() if name not in ("right", "reason")])


def share_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    right = sum(row["right"] for row in rows)
    return {"rows": len(rows), "right": right, "precision": round(right / max(1, len(rows)), 4)}


def to_judge(path: Path, rows: int, seed: int) -> None:
    known = verdicts()
    with path.open("w", encoding="utf-8") as handle:
        for kind, _, chosen in drawn(rows, seed):
            for example, section in chosen:
                row = row_of(kind, example)
                old = known.get(_key(row), {})
                row |= {"right": old.get("right"), "reason": old.get("reason", "")}
                handle.write(
                    json.dumps({**row, "answered": example.answer, "read": section}, ensure_ascii=False) + "\n"
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to-judge", type=Path, metavar="FILE", help="write the rows there, with their sections")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    if args.to_judge:
        to_judge(args.to_judge, args.rows, args.seed)
        return 0
    known = verdicts()
    judged: list[dict[str, Any]] = []
    facts, missing = {}, 0
    for kind, count, chosen in drawn(args.rows, args.seed):
        facts[kind] = count
        found = [known.get(_key(row_of(kind, example))) for example, _ in chosen]
        judged += [row for row in found if row is not None]
        missing += found.count(None)
    by_kind = {kind: share_of([row for row in judged if row["kind"] == kind]) for kind in facts}
    whole = share_of(judged)
    weighted = sum(by_kind[kind]["precision"] * count for kind, count in facts.items()) / sum(facts.values())
    results = {
        "seed": args.seed,
        **whole,
        "interval": wilson(whole["right"], whole["rows"]),
        "target": TARGET,
        "met": not missing and whole["precision"] >= TARGET,
        "not_judged": missing,
        "weighted_by_facts": round(weighted, 4),
        "by_kind": {kind: {**by_kind[kind], "facts": count} for kind, count in facts.items()},
        "by_rule": {
            rule: share_of([row for row in judged if row["rule"] == rule])
            for rule in sorted(Counter(row["rule"] for row in judged))
        },
    }
    print(json.dumps(results, indent=1))
    if missing:
        print(f"{missing} of {args.rows} rows are not in {JUDGED.name}: judge them (--to-judge FILE)", file=sys.stderr)
        return 1
    write_json(ROOT / "bench" / "results" / "precision.json", {**results, "machine": machine(), "versions": versions()})
    return 0


if __name__ == "__main__":
    sys.exit(main())

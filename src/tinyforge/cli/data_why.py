"""``tinyforge data why RUN ID``: where something in the dataset comes from, or why it is not there."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from tinyforge.cli.common import print_json

if TYPE_CHECKING:
    from tinyforge.synthesize.ledger import Entry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a `tinyforge synthesize` or `build`")
    parser.add_argument("id", metavar="ID", help="of an example, a fact or a candidate; its beginning is enough")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.examples import ledger_entries, splits_of
    from tinyforge.run import Run

    opened = Run.open(args.run)
    found = ledger_entries(opened, args.id)
    splits = splits_of(opened, found[0].id)
    if args.json:
        print_json([{**entry.to_json(), "splits": splits if not entry.gate else {}} for entry in found])
        return 0
    for entry in found:
        show(entry, splits)
    return 0


def show(entry: Entry, splits: dict[str, int] | None = None) -> None:
    """A candidate with its evidence, on standard output."""
    line("id", entry.id)
    line("rejected" if entry.gate else "accepted", f"by {entry.gate}" if entry.gate else f"by {entry.rule}")
    line("question", entry.question)
    line("answer", entry.answer + ("  (edited by you)" if entry.edited and not entry.gate else ""))
    line("from", f"{entry.source}: {entry.section}")
    spans = ", ".join(f"{span.document}[{span.start}:{span.end}]" for span in entry.evidence)
    line("evidence", spans or "none")
    score = "" if entry.score is None else f", score {entry.score:.2f}"
    line("made by", f"{entry.rule} (version {entry.version}){score}")
    if not entry.gate:
        line("wordings", f"{len(entry.wordings)}")
        line("splits", ", ".join(f"{name} {count}" for name, count in (splits or {}).items()) or "in none")


def line(name: str, text: str) -> None:
    from tinyforge.serve.terminal import plain

    print(plain(f"{name:<9} {' '.join(text.split())}"))

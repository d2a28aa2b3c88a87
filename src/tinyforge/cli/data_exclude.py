"""``tinyforge data exclude RUN ID`` and ``data edit RUN ID --answer TEXT``: a person's own changes to a dataset."""

from __future__ import annotations

import argparse
from typing import Any

from tinyforge.cli.common import print_json
from tinyforge.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a `tinyforge synthesize` or `build`")
    parser.add_argument("id", metavar="ID", help="of an example or a fact; its beginning is enough")
    if parser.prog.endswith(" edit"):
        parser.add_argument("--answer", required=True, metavar="TEXT", help="the answer, for every wording of the fact")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from tinyforge.pipeline.examples import EDITS, ledger_entries
    from tinyforge.run import Run, read_json
    from tinyforge.synthesize.edits import add_edit, edit_of

    answer = " ".join(getattr(args, "answer", "").split())
    if args.action == "edit" and not answer:
        raise InputError("--answer is empty.", "To leave it out, use `tinyforge data exclude`.")
    opened = Run.open(args.run)
    entry = ledger_entries(opened, args.id)[0]
    if entry.gate:
        raise InputError(
            f"{entry.id} was rejected by {entry.gate}: it is in no dataset.", "Name one that was accepted."
        )
    edit = edit_of(entry, args.id, answer)
    with opened.lock():
        add_edit(opened.path(*EDITS), edit)
    if args.json:
        print_json(asdict(edit))
    else:
        _show(edit, str(read_json(opened.path("run.json"))["command"]), args.run)
    return 0


def _show(edit: Any, command: str, run: str) -> None:
    from tinyforge.cli.data_why import line

    line(
        "excluded" if not edit.answer else "edited", f"example {edit.example}" if edit.example else f"fact {edit.fact}"
    )
    line("question", edit.asked)
    line("answer", f"{edit.was} -> {edit.answer}" if edit.answer else edit.was)
    print(f"Kept in {run}/edits.jsonl. Run the same `tinyforge {command}` again: it takes effect there and stays.")

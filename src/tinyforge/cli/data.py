"""``tinyforge data ACTION``: look at training data of any kind, check it, mend it, divide it, and turn it into rows."""

from __future__ import annotations

import argparse
from importlib import import_module

_ACTIONS = {
    "show": ("data_show", "show which tokens of your rows are learned"),
    "validate": ("data_validate", "list what is wrong with rows, line by line with the fix, and repair what is safe"),
    "stats": ("data_stats", "count rows, lengths, languages, labels, topics, copies, personal data and rude words"),
    "dedupe": ("data_dedupe", "leave out rows that repeat others, exactly or nearly, and list each with its twin"),
    "clean": ("data_clean", "take control characters, markup, boilerplate and stray white space out of texts"),
    "split": ("data_split", "divide rows into train, dev and test so that none gives another away"),
    "convert": ("data_convert", "chats and rows of any format into rows of one"),
    "delete": ("data_delete", "take a person out of rows that were made of chats"),
    "why": ("data_why", "say where a row of a synthesized dataset comes from, or why it is not there"),
    "rejected": ("data_rejected", "list what the gates of a synthesis refused, and why"),
    "exclude": ("data_exclude", "leave a fact or a row out of a synthesized dataset, for good"),
    "edit": ("data_exclude", "give a fact of a synthesized dataset another answer, for good"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (module, summary) in _ACTIONS.items():
        added = actions.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        import_module(f"tinyforge.cli.{module}").add_arguments(added)


def run(args: argparse.Namespace) -> int:
    code: int = import_module(f"tinyforge.cli.{_ACTIONS[args.action][0]}").run(args)
    return code

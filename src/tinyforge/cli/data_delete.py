"""``tinyforge data delete DATA --author NAME``: take a person out of rows that were made of chats."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", metavar="DATA", help="rows that `tinyforge data convert` wrote, or a run trained on them"
    )
    parser.add_argument(
        "--author", required=True, metavar="NAME", help="who is to go: a name they have in the chat, or a stand-in"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.delete import delete_author

    done = delete_author(Path(args.data), args.author)
    if args.json:
        print_json({"who": done.who, "removed": dict(done.removed), "left": done.left})
        return 0
    counts = ", ".join(f"{count:,} {what}{'s' * (count > 1)}" for what, count in done.removed.most_common())
    print(f"Removed {done.who}: {counts}.")
    for path, rows in done.left.items():
        print(f"{rows:,} rows are left in {path}; what went is listed beside it, without its text.")
    print(
        "They stay out of what is converted into this folder from now on. Backups and the chat itself still hold them."
    )
    if Path(args.data).is_dir():
        print("The model in this run was trained on them: train again, into a new folder.", file=sys.stderr)
    return 0

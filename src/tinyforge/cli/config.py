"""``tinyforge config``: every option, from its one declaration."""

from __future__ import annotations

import argparse

from tinyforge.cli.common import print_json
from tinyforge.config import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the options as JSON")


def run(args: argparse.Namespace) -> int:
    rows = [{"key": k, "type": t, "default": d, "help": h} for k, t, d, h in options()]
    if args.json:
        print_json(rows)
        return 0
    width = max(len(row["key"]) for row in rows)
    for row in rows:
        print(f"{row['key']:<{width}}  {row['default']!s:<8}  {row['help']}  [{row['type']}]")
    return 0

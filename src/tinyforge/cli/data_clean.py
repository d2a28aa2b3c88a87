"""``tinyforge data clean DATA --out FILE``: every text in one form, and how many rows each repair changed."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows of any format, or a run")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write: .jsonl, .csv or .parquet")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.cli.data_validate import print_mended
    from tinyforge.dataset.mending import clean

    done = clean(Path(args.data), Path(args.out))
    if args.json:
        print_json(done.to_json())
        return 0
    print_mended(done)
    print(f"See what else there is to mend: tinyforge data validate {shlex.quote(args.out)}")
    return 0

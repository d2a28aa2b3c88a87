"""``tinyforge data split DATA --out FOLDER``: train, dev and test, by groups that hang together."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows of any format")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="a new folder for train, dev and test.jsonl")
    parser.add_argument("--test", type=float, default=0.1, metavar="SHARE", help="of the rows (default: 0.1)")
    parser.add_argument("--dev", type=float, default=0.1, metavar="SHARE", help="of the rows; 0: none (default: 0.1)")
    parser.add_argument("--group", default="", metavar="FIELD", help="rows with the same value here stay together")
    parser.add_argument("--time", default="", metavar="FIELD", help="the latest rows by this field are the test")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="another one deals otherwise (default: 42)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.divide import Wish, divide

    wish = Wish(args.test, args.dev, args.group, args.time, args.seed)
    done = divide(Path(args.data), Path(args.out), wish)
    if args.json:
        print_json(done.to_json())
        return 0
    from tinyforge.cli.data_validate import line

    for part, count in done.rows.items():
        line(part, f"{count:,} rows in {done.groups[part]:,} groups")
    line("divided", "by time: the latest rows are the test" if done.by == "time" else "by group, dealt by chance")
    line("checked", f"{done.shared_13_grams} runs of 13 words are in answers of both train and test")
    if done.moved:
        line("moved", f"{done.moved:,} groups that shared such a run, to where it is taught")
    for reason, count in done.left_out.items():
        line("left out", f"{count:,} rows: {reason}")
    if done.dropped:
        line("unusable", f"{len(done.dropped):,} rows, first {done.dropped[0]}")
    print(f"Train on it: tinyforge train {shlex.quote(str(Path(args.out) / 'train.jsonl'))} --out RUN")
    return 0

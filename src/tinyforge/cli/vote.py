"""``tinyforge vote A B``: which answers do you prefer, not knowing whose they are?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.cli.common import add_config_arguments, config_from, print_json
from tinyforge.cli.evaluate import SECTIONS, Progress, at_most

if TYPE_CHECKING:
    from tinyforge.pipeline.vote import Shown

LIMIT = 30
_KEYS = {"1": "1", "2": "2", "=": "tie", "s": "skip", "q": "stop"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(
            name, metavar=name.upper(), help="a run, RUN:variant, a base, an adapter, an export, or URL#model"
        )
    parser.add_argument("--data", metavar="FILE", default="", help="questions (default: a run's held-out sets)")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"vote on at most N questions ({LIMIT})")
    parser.add_argument("--out", metavar="DIR", default="votes", help="where answers and votes are kept (votes)")
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    from tinyforge.evaluate.votes import sentence
    from tinyforge.pipeline.pairs import answer_pairs
    from tinyforge.pipeline.vote import hold

    config, folder = config_from(args), Path(args.out)
    with Progress() as progress:
        limit, heard = at_most(args.limit), progress.heard()
        pairs = answer_pairs(args.first, args.second, args.data, limit, folder, config, heard)
    found = hold(pairs, folder, config.seed, _choose)
    if args.json:
        print_json(found)
        return 0
    print(f"\n{sentence(found, found['first'], found['second'])}")
    if found["alike"]:
        print(f"{found['alike']} pairs of answers were the same word for word, and were not shown.")
    if found["open"]:
        print(f"{found['open']} are still open: the same command goes on with them.")
    print(f"Votes:  {found['votes']}")
    return 0


def _choose(shown: Shown) -> str:
    """Show a pair on standard error and read a key and Enter; the end of the input stops."""
    from tinyforge.serve.terminal import plain

    print(f"\n[{shown.number}/{shown.total}] {plain(shown.question)}", file=sys.stderr)
    for number, answer in enumerate(shown.answers, 1):
        print(f"\n  {number})  {plain(answer).strip() or '(nothing)'}", file=sys.stderr)
    while True:
        print("\nBetter: 1 or 2, = alike, s skip, q stop > ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        said = _KEYS.get(line.strip().lower()) if line else "stop"
        if said:
            return said
        print("Type 1, 2, =, s or q, and press Enter.", file=sys.stderr)

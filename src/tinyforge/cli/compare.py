"""``tinyforge compare A B C... --data FILE``: which is better, by how much, and is that more than chance?"""

from __future__ import annotations

import argparse

from tinyforge.cli.common import config_from
from tinyforge.cli.evaluate import Progress, add_measuring_arguments, at_most, check, read_gates, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "targets",
        nargs="+",
        metavar="CONTENDER",
        help="two or more: a run, RUN:variant, a base, an adapter, an export, URL#model; the first is the measure",
    )
    parser.add_argument("--data", required=True, metavar="FILE", help="questions with answers, for all of them")
    add_measuring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.evaluate import Wish, compare

    config, (gates, metrics) = config_from(args), read_gates(args.fail_under, args.metrics)
    wish = Wish(args.data, metrics, primary=args.primary, limit=at_most(args.limit))
    with Progress() as progress:
        result = compare(args.targets, args.out, config, wish, progress.heard())
    show(result, args.json)
    return check(result, gates, args.targets[-1])

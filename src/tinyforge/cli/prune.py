"""``tinyforge prune RUN --out RUN2 --depth N``: fewer blocks, heads or neurons."""

from __future__ import annotations

import argparse
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, print_json
from tinyforge.cli.quantize import print_figures, print_next
from tinyforge.errors import InputError

LABELS = {"prune": "pruning", "train": "healing"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, or a base: tiny, a model folder, a hub id")
    parser.add_argument("--out", metavar="DIR", help="the run folder to make, or to continue")
    parser.add_argument("--data", metavar="ROWS", help="rows to work on instead of the run's own")
    parser.add_argument("--depth", type=int, default=0, metavar="N", help="remove the N blocks of least influence")
    parser.add_argument(
        "--layers", type=_numbers(int), default=(), metavar="A,B", help="remove these blocks, from 0 on"
    )
    parser.add_argument(
        "--heads", type=float, default=0.0, metavar="SHARE", help="remove this share of attention heads"
    )
    parser.add_argument("--width", type=float, default=0.0, metavar="SHARE", help="remove this share of MLP neurons")
    parser.add_argument(
        "--unstructured", type=float, default=0.0, metavar="SHARE", help="set this share of single weights to zero"
    )
    parser.add_argument("--pattern", default="", metavar="2:4", help="keep 2 of every 4 weights of a row")
    parser.add_argument(
        "--scores", choices=("wanda", "magnitude"), default="wanda", help="which single weights go (default: wanda)"
    )
    parser.add_argument(
        "--heal",
        nargs="?",
        const="distill",
        default="",
        choices=("distill", "sft"),
        help="train again what was cut: from the source's distributions (distill) or the rows alone (sft); "
        "--set train.method=lora trains an adapter, which is merged",
    )
    parser.add_argument(
        "--ratios", type=_numbers(float), default=(), metavar="0.1,0.25", help="only show what each share would cost"
    )
    parser.add_argument(
        "--kinds", default="depth,heads,width", metavar="NAMES", help="--ratios: of depth,heads,width,wanda,magnitude"
    )
    add_config_arguments(parser, ("seed", "trust_remote_code", "train", "evaluate"))


def _numbers(kind: Any) -> Any:
    def numbers(text: str) -> tuple[Any, ...]:
        return tuple(kind(part) for part in text.split(","))

    return numbers


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.material import settle_config

    config = settle_config(args.run, args.config, args.settings)
    screen = Screen(LABELS)
    try:
        found = _study(args, config, screen) if args.ratios else _prune(args, config, screen)
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    print_figures(found["table"], found["measured_on"])
    if args.ratios:
        print(f"Prune and heal:  tinyforge prune {args.run} --depth N --heal --out DIR")
    else:
        print_next(args.out)
    return 0


def _study(args: argparse.Namespace, config: Any, screen: Screen) -> dict[str, Any]:
    from tinyforge.pipeline.prune import study

    if args.heal or args.out:
        raise InputError("--ratios makes no run, and heals nothing.", "Leave --heal and --out away, then choose.")
    return study(args.run, config, args.ratios, args.kinds.split(","), args.data, screen.say)


def _prune(args: argparse.Namespace, config: Any, screen: Screen) -> dict[str, Any]:
    from tinyforge.pipeline.prune import Cut, prune_run

    if not args.out:
        raise InputError("--out is missing.", "Give the run folder to make: --out DIR")
    cut = Cut(args.depth, args.layers, args.heads, args.width, args.unstructured, args.pattern, args.scores)
    return prune_run(args.run, args.out, config, cut, args.heal, args.data, screen.say, screen.on_status)

"""``tinyforge quantize RUN --bits 8|4 --out RUN2``: fewer bits for each weight."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--bits", type=int, choices=(8, 4), default=8, help="bits of each weight (default: 8)")
    parser.add_argument(
        "--method",
        default="auto",
        choices=("auto", "rtn", "gptq", "nf4"),
        help="rtn rounds to the nearest; gptq makes good its own error on the run's rows; nf4 is bitsandbytes' form, "
        "which plain transformers loads; auto (default) keeps what measures best",
    )
    parser.add_argument("--group", type=int, default=64, metavar="N", help="4 bits: weights to a scale (default: 64)")
    add_config_arguments(parser, ("trust_remote_code", "evaluate"))


def add_source_arguments(parser: argparse.ArgumentParser, name: str = "run") -> None:
    """What quantize, prune and distill have in common."""
    parser.add_argument(name, metavar=name.upper(), help="a run's folder, or a base: tiny, a model folder, a hub id")
    parser.add_argument("--out", required=True, metavar="DIR", help="the run folder to make, or to continue")
    parser.add_argument("--data", metavar="ROWS", help="rows to work on instead of the run's own")


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.material import settle_config
    from tinyforge.pipeline.quantize import quantize_run

    config = settle_config(args.run, args.config, args.settings)
    screen = Screen({"quantize": f"quantizing to {args.bits} bits"})
    try:
        found = quantize_run(args.run, args.out, config, args.bits, args.method, args.group, args.data, screen.say)
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    print_figures(found["table"], found["measured_on"])
    if found["certificate"]:
        print("Certificate passed: it says what its source says (certificate.json).")
    print(f"Kept: {found['measured']['name']}.")
    print_next(args.out)
    return 0


def print_figures(rows: list[dict[str, Any]], where: str) -> None:
    from rich.console import Console

    from tinyforge.compress.table import LEGEND, figures_table

    console = Console(width=110, highlight=False, markup=False)
    console.print(figures_table(rows))
    console.print(LEGEND.format(where=where), soft_wrap=True)


def print_next(out: str) -> None:
    print(f'Use it:  tinyforge predict {shlex.quote(out)} "..."    Measure it:  tinyforge evaluate {shlex.quote(out)}')

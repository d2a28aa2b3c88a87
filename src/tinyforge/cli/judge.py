"""``tinyforge judge A B --by JUDGE``: let a model compare the answers of two others."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyforge.cli.common import add_config_arguments, config_from, print_json
from tinyforge.cli.evaluate import SECTIONS, Progress, at_most

LIMIT = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("first", "second"):
        parser.add_argument(
            name, metavar=name.upper(), help="a run, RUN:variant, a base, an adapter, an export, or URL#model"
        )
    parser.add_argument(
        "--by", required=True, metavar="JUDGE", help="who judges: URL#model, openai#model, or a model on this machine"
    )
    parser.add_argument("--data", metavar="FILE", default="", help="questions (default: a run's held-out sets)")
    parser.add_argument("--limit", type=int, default=LIMIT, metavar="N", help=f"judge at most N questions ({LIMIT})")
    parser.add_argument("--out", metavar="DIR", default="judgement", help="where answers and reasons are kept")
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.judge import judge

    config = config_from(args)
    with Progress() as progress:
        names = (args.first, args.second)
        found = judge(names, args.by, args.data, at_most(args.limit), Path(args.out), config, progress.heard())
    if args.json:
        print_json(found)
        return 0
    _show(found)
    print(f"\nReasons:  {Path(args.out) / 'judgement.json'}")
    print("A judge is an opinion. Ask people as well:  tinyforge vote A B")
    return 0


def _show(found: Mapping[str, Any]) -> None:
    from tinyforge.evaluate.votes import sentence

    said = found["preference"]
    print(f"{found['judge']} on {said['pairs']} pairs of answers:")
    print(f"  {sentence(said, found['first'], found['second'])}")
    print(f"  {said['swayed']} changed with the order of the answers, {said['unreadable']} replies could not be read.")
    _share("It agreed with itself in both orders on", said["self_agreement"])
    _share("What stood first won", said["first_place"])
    if found["own"]:
        print("  It judged its own answers, which judges favour.")
    for place in ("first", "second"):
        grades = found["grades"][found[place]]
        shown = ", ".join(f"{name} {_mean(one['mean'])}" for name, one in grades.items())
        print(f"  Grades of {found[place]}, from 1 to 5: {shown}")
    _beside(found)


def _share(text: str, share: Mapping[str, float] | None) -> None:
    if share:
        print(f"  {text} {share['value']:.0%} (95% interval {share['low']:.0%} to {share['high']:.0%}).")


def _mean(value: float | None) -> str:
    return "unread" if value is None else f"{value:.1f}"


def _beside(found: Mapping[str, Any]) -> None:
    beside = found["beside"]
    print(f"Token F1: {found['first']} {beside['first']:.2f}, {found['second']} {beside['second']:.2f}", end="")
    change = beside["difference"]
    print(f" ({change['value']:+.2f}, 95% interval {change['low']:+.2f} to {change['high']:+.2f})." if change else ".")
    _share("The judge's winner has the higher token F1 in", beside["agreement"])

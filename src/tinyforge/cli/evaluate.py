"""``tinyforge evaluate RUN [--data FILE]``: how good is it, on questions that it has not seen?"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, add_metric_argument, config_from, print_json
from tinyforge.environment import clock
from tinyforge.errors import GateError, InputError

LABELS = {"answers": "asking the questions", "scores": "scoring the answers"}
SECTIONS = ("seed", "trust_remote_code", "evaluate")


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """What `evaluate` and `compare` share."""
    add_metric_argument(parser)
    parser.add_argument("--primary", metavar="NAME", default="", help="the metric that decides (token_f1 or accuracy)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="ask at most N questions, drawn at random")
    parser.add_argument(
        "--fail-under",
        action="append",
        default=[],
        metavar="METRIC=NUMBER",
        help="exit with 3 when the score is worse than this; repeatable",
    )
    parser.add_argument("--out", metavar="DIR", help="where answers and evaluation.json go, to be continued and reused")
    add_config_arguments(parser, SECTIONS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="RUN", help="a run, a base, an adapter, an export (.gguf file or folder), or URL#model"
    )
    parser.add_argument(
        "--data", metavar="FILE", default="", help="questions with answers (default: a run's held-out sets)"
    )
    parser.add_argument(
        "--variant", action="append", default=[], metavar="NAME", dest="variants", help="only this variant; repeatable"
    )
    add_measuring_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.evaluate import Wish, evaluate

    config, (gates, metrics) = config_from(args), read_gates(args.fail_under, args.metrics)
    wish = Wish(args.data, metrics, args.variants, args.primary, at_most(args.limit))
    with Progress() as progress:
        result = evaluate(args.target, args.out, config, wish, progress.heard())
    show(result, args.json)
    if not args.json:
        print(f"Compare:  tinyforge compare {shlex.quote(args.target)} OTHER --data FILE")
    return check(result, gates, _gated(args.target, result))


class Progress:
    """Notes and counts on standard error."""

    def __init__(self) -> None:
        self._screen = Screen(LABELS)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._screen.close()

    def heard(self) -> Any:
        from tinyforge.pipeline.evaluate import Heard

        return Heard(self._screen.say, self._count)

    def _count(self, name: str, done: int, total: int, eta: float) -> None:
        left = f" · {clock(eta)} left" if done < total and eta else ""
        self._screen.count(name, done, total, f"{name} {done:,}/{total:,}{left}")


def at_most(number: int) -> int:
    """The number of questions that --limit allows."""
    if number < 0:
        raise InputError(f"--limit {number}: must be a number of questions.", "0 asks them all.")
    return number


def read_gates(given: Sequence[str], metrics: Sequence[str]) -> tuple[dict[str, float], list[str]]:
    """``METRIC=NUMBER`` by the name that tables show, and the metrics to measure: those asked for and those gated.

    Raises InputError for what is not one, and for an unknown metric.
    """
    from tinyforge.evaluate.metrics import find_metric
    from tinyforge.evaluate.metrics.own import is_file

    own = {name.rpartition(":")[2] for name in metrics if is_file(name)}
    gates, wanted = dict[str, float](), list(metrics)
    for gate in given:
        name, _, number = gate.rpartition("=")
        try:
            bound = float(number)
        except ValueError:
            bound = nan
        if not name or isnan(bound):
            raise InputError(f"--fail-under {gate}: expected METRIC=NUMBER.", "For example: --fail-under token_f1=0.5")
        if is_file(name):
            wanted, name = [*wanted, name], name.rpartition(":")[2]
        elif name not in own:
            find_metric(name)
            wanted.append(name)
        gates[name] = bound
    return gates, wanted


def _gated(target: str, result: Mapping[str, Any]) -> str:
    """Whose score a gate is about: the variant that chat uses, else the tuned model, else the only contender."""
    from tinyforge.run import read_json

    names = result["contenders"]
    settings = Path(target) / "answering.json"
    chosen = str(read_json(settings)["variant"]) if settings.is_file() else "tuned"
    return next((name for name in (chosen, "tuned") if name in names), names[-1])


def check(result: Mapping[str, Any], gates: Mapping[str, float], contender: str) -> int:
    """0 when every gate holds in every set. Raises GateError naming the scores that do not."""
    from tinyforge.evaluate.legend import LOWER_IS_BETTER

    failed = []
    for name, found in result["sets"].items():
        for metric, bound in gates.items():
            score = found["scores"][contender].get(metric)
            if score is None:
                failed.append(f"{metric} of {contender} on {name} could not be measured")
            elif (score["value"] > bound) if metric in LOWER_IS_BETTER else (score["value"] < bound):
                side = "above" if metric in LOWER_IS_BETTER else "below"
                failed.append(f"{metric} of {contender} on {name} is {score['value']:.4f}, {side} {bound:g}")
    if failed:
        raise GateError(f"{'; '.join(failed)}.", "The scores were kept; nothing else was changed.")
    return 0


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Tables and sentences on standard output, or the whole result as JSON."""
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from tinyforge.evaluate.standing import (
        group_table,
        group_title,
        lines,
        regression_lines,
        score_table,
        shortened,
        title,
    )
    from tinyforge.serve.terminal import plain

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    for name, whole in result["sets"].items():
        found, told = shortened(whole)
        console.print()
        console.print(plain(title(name, found)), style="bold", markup=False, soft_wrap=True)
        console.print(score_table(found))
        for line in (*told, *lines(found)):
            console.print(plain(line), markup=False, soft_wrap=True)
        for pair in found["pairs"] if result["command"] == "compare" else ():
            console.print()
            for line in regression_lines(pair):
                console.print(plain(line), markup=False, soft_wrap=True)
            table = group_table(pair)
            if table is not None:
                console.print(plain(group_title(pair)), style="bold", markup=False, soft_wrap=True)
                console.print(table)
    reused = sum(result["reused"].values())
    again = f" ({reused:,} answers were there already)" if reused else ""
    console.print(f"\nDone in {clock(result['seconds'])}{again}.", markup=False)
    console.print(f"All of it:  {Path(result['out']) / 'evaluation.json'}", markup=False, soft_wrap=True)

"""``tinyforge demo``: the main job on the documents that TinyForge ships."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from textwrap import shorten
from typing import Any

from tinyforge.cli.build import SECTIONS, run_build, show_result
from tinyforge.cli.common import add_config_arguments, config_from, print_json

SAMPLES = Path(__file__).parents[1] / "samples"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="demo-model", metavar="DIR", help="the run folder (default: demo-model)")
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    report = run_build(
        [SAMPLES], args.out, config_from(args), shlex.join(["tinyforge", "demo", "--out", str(args.out)])
    )
    if args.json:
        print_json(report)
        return 0
    show_questions(report)
    show_result(report, args.out)
    print(f"Ask:     {shlex.join(['tinyforge', 'ask', str(args.out), pick_questions(report)[0]['question']])}")
    print("Yours:   tinyforge build YOUR_FOLDER --out my-model")
    return 0


def pick_questions(report: dict[str, Any], count: int = 3) -> list[dict[str, Any]]:
    """Questions on new wordings, from different documents: the middle ones by how much tuning changed them.

    Neither the best nor the worst: what a person should expect.
    """

    def change(row: dict[str, Any]) -> float:
        answers = row["answers"]
        return float(answers["tuned"]["token_f1"] - answers["base"]["token_f1"])

    rows = sorted((row for row in report["questions"] if row["set"] == "wordings"), key=lambda r: (-change(r), r["id"]))
    middle = len(rows) // 2
    by_nearness = sorted(range(len(rows)), key=lambda i: abs(i - middle))
    chosen: list[dict[str, Any]] = []
    for i in by_nearness:
        if rows[i]["source"] not in {row["source"] for row in chosen}:
            chosen.append(rows[i])
        if len(chosen) == count:
            break
    return chosen


def show_questions(report: dict[str, Any]) -> None:
    """Three real questions, answered by the base and by the tuned model."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for row in pick_questions(report):
        console.print()
        console.print(Text(row["question"], style="bold"))
        for label, variant, style in (("before", "base", "red"), ("after ", "tuned", "green")):
            answer = shorten(row["answers"][variant]["text"] or "(nothing)", 220, placeholder=" …")
            console.print(Text.assemble((f"  {label}  ", style), answer))
        console.print(Text.assemble(("  source  ", "dim"), (f"{row['source']} › {row['section']}", "dim")))

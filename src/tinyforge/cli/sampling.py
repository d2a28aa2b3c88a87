"""``tinyforge sampling RUN|BASE ["PROMPT"...]``: what each way of choosing the next token does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from textwrap import shorten
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, config_from, print_json
from tinyforge.serve.terminal import plain

SECTIONS = ("seed", "trust_remote_code", "evaluate")
SEEDS = 3
LONGEST = 200  # characters of an answer that are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="RUN|BASE", help="a run (its tuned model), or a base: tiny, a folder, a hub id"
    )
    parser.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="what to ask (default: a run's held-out questions)"
    )
    parser.add_argument("--data", metavar="FILE", default="", help="questions with answers; some are drawn and asked")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help=f"answers drawn per prompt ({SEEDS})")
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.sampling import study

    config = config_from(args)
    screen = Screen({})
    try:
        found = study(args.model, args.prompts, args.data, args.seeds, config, screen.count)
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    _show(found)
    return 0


def _show(found: Mapping[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "F1", "different pairs", "repeats", "same each time", "tokens/s"):
        table.add_column(name, justify="right" if name else "left", no_wrap=not name)
    for row in found["strategies"]:
        numbers = [row[key] for key in ("token_f1", "distinct_2", "repetition", "overlap")]
        speed = row["tokens_per_second"]
        shown = ["-" if n is None else f"{n:.2f}" for n in numbers]
        table.add_row(row["name"], *shown, "-" if speed is None else f"{speed:,.0f}")
    for name in found["not_offered"]:
        table.add_row(name, *["-"] * 5)
    console.print(table)
    for line in _explanations(found):
        console.print(line, markup=False)
    _examples(found, console)


def _explanations(found: Mapping[str, Any]) -> Iterator[str]:
    for row in found["strategies"]:
        yield f"{row['name']}: {row['what']}."
    for name, why in found["not_offered"].items():
        yield f"{name}: not offered; {why}."
    yield ""
    yield "F1: words shared with the reference, where there is one."
    yield "Different pairs: share of word pairs said once."
    yield "Repeats: share of four-word stretches that the answer has already said."
    yield "Same each time: what answers to one prompt share from seed to seed."
    yield (
        f"{len(found['prompts'])} prompts, one at a time, at most {found['max_new_tokens']} tokens: an impression, and "
        "no test."
    )


def _examples(found: Mapping[str, Any], console: Any) -> None:
    """Two answers of each strategy to the first prompt, beside its name."""
    from rich.table import Table
    from rich.text import Text

    prompt = found["prompts"][0]
    console.print()
    console.print(Text(prompt["prompt"], style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    rows = [("reference", prompt["reference"])] if prompt["reference"] else []
    for row in found["strategies"]:
        drawn = [answers[0] or "(nothing)" for answers in row["answers"][:2]]
        rows += zip((row["name"], ""), drawn, strict=False)
    for name, text in rows:
        grid.add_row(f"  {name}", Text(plain(shorten(text, LONGEST, placeholder=" …"))))
    console.print(grid)
    console.print()
    console.print(
        "The API takes temperature, top_k, top_p, min_p and seed with each request: tinyforge serve --help",
        markup=False,
    )

"""``tinyforge models``: which bases can be used here, what each would take, and where they lie."""

from __future__ import annotations

import argparse
from typing import Any

from tinyforge.cli.common import print_json
from tinyforge.environment import clock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "path"), default="list", help="list (default) or path")
    parser.add_argument("name", nargs="?", default="tiny", help="the base whose folder `path` prints (default: tiny)")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.models.catalogue import entries, measure_rates
    from tinyforge.models.resolve import resolve

    if args.action == "path":
        print(resolve(args.name).folder)
        return 0
    rates = measure_rates()
    rows = entries(rates)
    if args.json:
        print_json(rows)
        return 0
    _print(rows)
    memory = f"{rates.memory / 1e9:.0f} GB of memory free"
    print(f"\n{rates.operations / 1e9:,.0f} GFLOP/s measured here, {memory}. Tuning: 300,000 tokens, estimated.")
    print("* recommended: the largest that tunes here within half an hour, offline and from the hub.")
    print("A model folder or a hub id also works: tinyforge build SOURCE --out DIR --base FOLDER")
    return 0


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("base", "where", "parameters", "on disk", "to tune", "time", "writes", "licence"):
        table.add_column(title, justify="left" if title in ("base", "where", "licence") else "right", no_wrap=True)
    for row in rows:
        fits = row["fits"]
        table.add_row(
            row["name"] + (" *" if row["recommended"] else ""),
            row["where"],
            f"{row['parameters'] / 1e6:,.1f}M",
            f"{row['megabytes']:,.0f} MB",
            f"{row['tuning_memory_mb'] / 1e3:,.1f} GB" if fits else "too large",
            clock(row["tuning_seconds"]) if fits else "-",
            f"{row['tokens_per_second']:,.0f} tok/s",
            row["licence"],
        )
    Console(width=120, highlight=False).print(table)

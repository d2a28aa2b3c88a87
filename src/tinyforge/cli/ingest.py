"""``tinyforge ingest SOURCE... --out DIR``: read documents, and see what was found in each and what was left out."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, add_source_arguments, config_from, print_json

_LABELS = {"documents": "reading the sources"}
_LISTED = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    add_config_arguments(parser, ("ingest",))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.documents import ingest

    screen = Screen(_LABELS)
    try:
        summary = ingest(args.sources, args.out, config_from(args), screen.say)
    finally:
        screen.close()
    if args.json:
        print_json({"out": str(args.out), **{name: value for name, value in summary.items() if name != "key"}})
    else:
        _show(summary, args)
    return 0


def _show(summary: dict[str, Any], args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("source", overflow="fold")
    table.add_column("format")
    for name in ("characters", "sections", "tables"):
        table.add_column(name, justify="right")
    table.add_column("left out", overflow="fold")
    for file in summary["files"][:_LISTED]:
        counts = [f"{file[name]:,}" for name in ("characters", "sections", "tables")]
        table.add_row(_plain(file["source"]), file["format"], *counts, _plain(_counted(file["dropped"])))
    console.print(table)
    if len(summary["files"]) > _LISTED:
        print(f"and {len(summary['files']) - _LISTED} more (--json lists them all)")
    _show_totals(summary, args)


def _plain(text: str) -> Any:
    from rich.text import Text

    from tinyforge.serve.terminal import plain

    return Text(plain(text))


def _show_totals(summary: dict[str, Any], args: argparse.Namespace) -> None:
    from tinyforge.serve.terminal import plain

    files, skipped = summary["files"], summary["skipped"]
    print(f"\n{len(files)} read, {summary['characters']:,} characters, {len(skipped)} skipped")
    for one in skipped[:_LISTED]:
        print(plain(f"  skipped {one['source']}: {one['reason']}"))
    if len(skipped) > _LISTED:
        print(f"  and {len(skipped) - _LISTED} more (--json lists them all)")
    words = [word for word in args.given if word != "--json"]
    words[words.index("ingest")] = "build"
    print(f"\nNext:  {shlex.join(['tinyforge', *words])}")


def _counted(dropped: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in dropped.items())

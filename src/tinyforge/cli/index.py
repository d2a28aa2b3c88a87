"""``tinyforge index SOURCE... --out INDEX``: documents into a knowledge base that can be searched and chatted with."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, add_reading_arguments, config_from, print_json

_LABELS = {"documents": "reading the sources", "index": "indexing"}
_LISTED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_reading_arguments(parser)
    parser.add_argument(
        "--out", required=True, metavar="INDEX", help="the folder to make or bring up to date, or s3://bucket/path"
    )
    add_config_arguments(parser, ("ingest", "retrieve"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.index import make_index

    screen = Screen(_LABELS)
    try:
        summary, _ = make_index(args.sources, args.out, config_from(args), screen.say)
    finally:
        screen.close()
    if args.json:
        print_json({"out": args.out, **summary})
    else:
        _show(summary, args.out)
    return 0


def _show(summary: dict[str, Any], out: str) -> None:
    from tinyforge.serve.terminal import plain

    counts = [(len(summary[name]), name) for name in ("added", "changed", "unchanged", "removed")]
    print(f"documents: {', '.join(f'{count} {name}' for count, name in counts if count)}")
    for source in summary["removed"][:_LISTED]:
        print(plain(f"  removed, as it was not given this time: {source}"))
    for one in summary["skipped"][:_LISTED]:
        print(plain(f"  skipped {one['source']}: {one['reason']}"))
    if len(summary["skipped"]) > _LISTED:
        print(f"  and {len(summary['skipped']) - _LISTED} more (--json lists them all)")
    print(f"passages:  {summary['passages']:,}, of which {summary['embedded']:,} had to be embedded")
    print(f"\nNext:  {shlex.join(['tinyforge', 'search', out, 'what you want to know'])}")

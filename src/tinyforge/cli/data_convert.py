"""``tinyforge data convert CHATS --out rows.jsonl --persona NAME``: chats and other rows into rows to train on."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.cli.common import add_config_arguments, config_from, print_json

if TYPE_CHECKING:
    from tinyforge.dataset.convert import Converted

_FORMATS = ("messages", "openai", "sharegpt", "alpaca")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        help="chat exports (Discord, Slack, Telegram, WhatsApp: file, folder or zip), a file of rows, or a run",
    )
    parser.add_argument(
        "--out", required=True, metavar="ROWS.jsonl", help="the file to write: .jsonl, .csv or .parquet"
    )
    parser.add_argument("--to", choices=_FORMATS, default="messages", help="the format to write (default: messages)")
    parser.add_argument("--persona", metavar="NAME", help="a chat: whose turns become the assistant's and are learned")
    parser.add_argument(
        "--gap-minutes", type=float, metavar="N", help="a longer pause begins a new conversation (default: 60)"
    )
    parser.add_argument(
        "--keep-pii",
        action="store_const",
        const=True,
        help="keep names, addresses, numbers and secrets instead of replacing them by stand-ins",
    )
    add_config_arguments(parser, ("chats",))


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.convert import convert
    from tinyforge.ingest.pool import Limits

    config = config_from(args)
    limits = Limits(config.ingest.timeout_seconds, config.ingest.memory_mb)
    done = convert([Path(path) for path in args.data], Path(args.out), args.to, config.chats, limits)
    if args.json:
        print_json({**done.found.to_json(), "out": args.out, "written": done.written, "unfit": dict(done.unfit)})
        return 0
    _tell(done)
    print(f"{done.written:,} rows in {args.out}")
    shown = shlex.quote(args.out)
    print(f"Look at them:  tinyforge data show {shown}\nTrain on them: tinyforge train {shown} --out RUN")
    return 0


def _tell(done: Converted) -> None:
    """What was read, replaced and left out, on standard error."""
    from tinyforge.serve.terminal import plain

    def say(text: str) -> None:
        print(plain(f"  {text}"), file=sys.stderr)

    say(", ".join(f"{count:,} of {shape}" for shape, count in done.found.shapes.items()))
    for note in done.found.notes:
        say(note)
    for reason, count in done.found.reasons.items():
        first = next(row for row in done.found.dropped if row.reason == reason)
        say(f"{count:,} left out: {reason} (first {first.place})")
    for reason, count in done.unfit.items():
        say(f"{count:,} left out: {reason}")

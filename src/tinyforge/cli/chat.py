"""``tinyforge chat RUN``: talk to a built model."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a folder made by `tinyforge build`")
    parser.add_argument(
        "--variant", metavar="NAME", help="quote, base, tuned, base+retrieval or tuned+retrieval (default: the best)"
    )


def run(args: argparse.Namespace) -> int:
    from tinyforge.serve.chat import chat_loop
    from tinyforge.serve.load import Answerer

    answerer = Answerer.open(args.run, args.variant)
    sources = answerer.index.meta["sources"]
    greeting = f"{len(sources)} documents · answers by {answerer.variant} · /help lists the commands"
    chat_loop(answerer.ask, sources, greeting)
    return 0

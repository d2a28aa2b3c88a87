"""``tinyforge ask RUN "question"``: one answer, with its citations."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a folder made by `tinyforge build` or `train`, or a base model")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="quote, base, few-shot, tuned, base+retrieval or tuned+retrieval (default: the best)",
    )
    parser.add_argument(
        "--knowledge",
        action="append",
        default=[],
        metavar="INDEX",
        help="also answer out of what `tinyforge index` made; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.serve.talk import Talker
    from tinyforge.serve.terminal import plain

    reply = Talker.open(args.run, args.variant, args.knowledge).reply(args.question).reply
    if args.json:
        print_json(asdict(reply))
        return 0
    if reply.quoted:
        print("(what the model wrote is not borne out by the documents; this is what they say)")
    print(plain(reply.answer))
    for sentence in reply.unsupported():
        print(plain(f"  not in the documents: {sentence}"))
    for citation in reply.citations:
        page = f", page {citation.page}" if citation.page else ""
        print(f"  [{plain(citation.source)}{page}] {plain(citation.section)}")
    return 0

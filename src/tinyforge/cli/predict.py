"""``tinyforge predict RUN TEXT...``: what a trained model answers."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a folder made by `tinyforge train` or `build`, or a base as it is")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="questions, or texts to classify")
    parser.add_argument("--json", action="store_true", help="print the answers as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.serve.load import open_predictor
    from tinyforge.serve.terminal import plain

    answers = open_predictor(args.run).predict(args.texts)
    if args.json:
        print_json([{"input": text, **asdict(answer)} for text, answer in zip(args.texts, answers, strict=True)])
        return 0
    for answer in answers:
        score = "" if answer.score is None else f"  ({answer.score:.2f})"
        print(f"{plain(answer.text)}{score}")
    return 0

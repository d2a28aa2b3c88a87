"""``tinyforge pretrain CORPUS... --out RUN``: a base model from scratch."""

from __future__ import annotations

import argparse

from tinyforge.cli.common import (
    Screen,
    add_config_arguments,
    add_processes_arguments,
    config_from,
    print_json,
    run_by_workers,
)
from tinyforge.config import SIZES

LABELS = {
    "corpus": "reading the corpus, dropping duplicates",
    "tokens": "training the tokenizer, tokenising",
    "train": "training from scratch",
    "lessons": "writing questions over the corpus",
    "choosing": "teaching to choose the passage that is meant",
    "declines": "writing questions without an answer",
    "reading": "teaching to read and to answer",
    "declining": "teaching to say what is not there",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", nargs="+", metavar="CORPUS", help="folders of text, JSONL (.gz, .zst) or Parquet, or hub:org/name"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="the folder to make")
    parser.add_argument("--size", choices=tuple(SIZES), help="the model's shape; --set pretrain.* changes parts of it")
    add_processes_arguments(parser)
    add_config_arguments(parser, ("seed", "pretrain", "train"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.pretrain import pretrain

    args.settings[:0] = [f"pretrain.{name}={value}" for name, value in SIZES.get(args.size, {}).items()]
    config = config_from(args)
    code = run_by_workers(args, config)
    if code is not None:
        return code
    screen = Screen(LABELS)
    try:
        summary = pretrain(args.corpus, args.out, config, screen.say, screen.on_status)
    finally:
        screen.close()
    if args.json:
        print_json(summary)
        return 0
    print(f"{summary['parameters']:,} parameters after {summary['tokens']:,} tokens:", end=" ")
    print(f"{summary['validation_bits_per_byte']:.3f} bits per byte on held-out documents.")
    print(f"Use it: tinyforge build SOURCE --out DIR --base {args.out}/model")
    return 0

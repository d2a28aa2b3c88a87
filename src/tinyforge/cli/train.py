"""``tinyforge train DATA --out RUN``: train on rows of your own."""

from __future__ import annotations

import argparse
import shlex

from tinyforge.cli.common import Screen, add_config_arguments, clock, config_from, print_json

LABELS = {"data": "reading the rows", "train": "training"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows: .jsonl .json .csv .tsv .parquet, or a saved HF dataset")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make, or to continue")
    parser.add_argument("--base", metavar="BASE", help="tiny (embedded), a model folder, or a hub id")
    parser.add_argument(
        "--objective", metavar="NAME", help="sft, dpo, distill, classify, pretrain, ... (default: by the data)"
    )
    parser.add_argument("--method", metavar="NAME", help="full, lora, rslora, dora, qlora, ... (default: auto)")
    add_config_arguments(parser, ("seed", "base", "trust_remote_code", "dataset", "train"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.train import train

    for name in ("objective", "method"):
        if getattr(args, name):
            args.settings.append(f"train.{name}={getattr(args, name)}")
    screen = Screen(LABELS)
    try:
        summary = train(args.data, args.out, config_from(args), screen.say, screen.on_status)
    finally:
        screen.close()
    if args.json:
        print_json(summary)
        return 0
    loss = f", dev loss {summary['dev_loss']:.3f}" if summary["dev_loss"] is not None else ""
    print(f"{summary['steps']} steps in {clock(summary['train_seconds'])}{loss}.")
    print(f'Use it:  tinyforge predict {shlex.quote(args.out)} "..."')
    return 0

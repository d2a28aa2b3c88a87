"""``tinyforge train DATA --out RUN``: train on rows of your own."""

from __future__ import annotations

import argparse
import shlex

from tinyforge.cli.common import (
    Screen,
    add_config_arguments,
    add_processes_arguments,
    config_from,
    print_json,
    run_by_workers,
)
from tinyforge.environment import clock

LABELS = {
    "data": "reading the rows",
    "answers": "asking the teacher",
    "train": "training",
    "replay": "writing general text",
}


def add_learning_arguments(parser: argparse.ArgumentParser) -> None:
    """What is learned from what, and how."""
    parser.add_argument(
        "data", metavar="DATA", help="rows: .jsonl .json .csv .tsv .parquet, or a saved HF dataset; or a chat export"
    )
    parser.add_argument("--base", metavar="BASE", help="tiny (embedded), a model folder, or a hub id")
    parser.add_argument(
        "--objective", metavar="NAME", help="sft, dpo, distill, classify, pretrain, ... (default: by the data)"
    )
    parser.add_argument("--method", metavar="NAME", help="full, lora, rslora, dora, qlora, ... (default: auto)")
    parser.add_argument("--persona", metavar="NAME", help="a chat: whose turns become the assistant's")
    parser.add_argument(
        "--auto", action="store_true", help="choose method, batch, precision and checkpointing for this machine"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_learning_arguments(parser)
    parser.add_argument("--out", required=True, metavar="RUN", help="the run folder to make, or to continue")
    add_processes_arguments(parser)
    add_config_arguments(parser, ("seed", "base", "trust_remote_code", "chats", "dataset", "train"))


def learning_settings(args: argparse.Namespace) -> list[str]:
    """The options of the configuration that have arguments of their own."""
    return [f"train.{name}={getattr(args, name)}" for name in ("objective", "method") if getattr(args, name)]


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.train import train

    args.settings += learning_settings(args)
    config = config_from(args)
    code = run_by_workers(args, config)
    if code is not None:
        return code
    screen = Screen(LABELS)
    try:
        summary = train(args.data, args.out, config, screen.say, screen.on_status, args.auto)
    finally:
        screen.close()
    if args.json:
        print_json(summary)
        return 0
    loss = f", dev loss {summary['dev_loss']:.3f}" if summary["dev_loss"] is not None else ""
    print(f"{summary['steps']} steps in {clock(summary['train_seconds'])}{loss}.")
    print(f'Use it:  tinyforge predict {shlex.quote(args.out)} "..."')
    return 0

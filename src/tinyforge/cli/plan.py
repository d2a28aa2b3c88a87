"""``tinyforge plan DATA``: what a training would take, before it is begun."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tinyforge.cli.common import (
    Screen,
    add_config_arguments,
    add_processes_arguments,
    config_from,
    print_json,
    run_by_workers,
)
from tinyforge.cli.train import add_learning_arguments, learning_settings
from tinyforge.environment import clock
from tinyforge.errors import InputError

LABELS = {"data": "reading the rows", "train": "measuring", "replay": "writing general text"}
_MEMORY = ("weights", "masters", "gradients", "optimizer", "activations", "rest")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_learning_arguments(parser)
    parser.add_argument("--out", default=".", metavar="RUN", help="the run folder to be: its disk has to hold the run")
    parser.add_argument("--price", type=float, metavar="PER_HOUR", help="what an hour on this machine costs")
    add_processes_arguments(parser)
    add_config_arguments(parser, ("seed", "base", "trust_remote_code", "chats", "dataset", "train"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.plan import plan

    args.settings += learning_settings(args)
    if args.price is not None:
        if args.price < 0:
            raise InputError(f"--price {args.price:g}: must not be negative.", "Give what an hour costs, such as 1.20.")
        args.settings.append(f"train.price_per_hour={args.price}")
    config = config_from(args)
    code = run_by_workers(args, config)
    if code is not None:
        return code
    screen = Screen(LABELS)
    try:
        found = plan(args.data, config, args.out, args.auto, screen.say)
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    show(found)
    print(f"Begin:  {_command(args, found)}")
    return 0


def show(found: dict[str, Any]) -> None:
    memory, seconds, disk = found["memory_mb"], found["seconds"], found["disk_mb"]
    shared = " + ".join(f"{name} {memory[name]:,.0f}" for name in _MEMORY)
    times = ", ".join(f"{name} {clock(value)}" for name, value in seconds.items() if name != "total")
    batches = found["batches"]
    longest = " x ".join(f"{number:,}" for number in batches["longest"])
    table = {
        "objective": f"{found['objective']}: {found['why']}",
        "method": f"{found['method']}, {found['trained']:,} of {found['parameters']:,} weights, {found['precision']}",
        "memory": f"{memory['peak']:,.0f} MB at the peak, of {memory['available']:,.0f}\n({shared})",
        "time": f"{clock(seconds['total'])} at most for {found['steps']:,} steps ({times})",
        "disk": f"{disk['peak']:,.0f} MB at most, {disk['kept']:,.0f} kept, of {disk['available']:,.0f}",
    }
    if found["cost"] is not None:
        table["cost"] = f"{found['cost']:.2f} at {found['price_per_hour']:g} per hour"
    table["measured"] = (
        f"{batches['measured']} of {batches['all']:,} batches in {found['planning_seconds']:.1f} s, the longest "
        f"({longest} tokens) among them"
    )
    for name, text in table.items():
        for number, line in enumerate(text.splitlines()):
            print(f"{name if number == 0 else '':<10}{line}")
    for reason in found["auto"]["why"] if found["auto"] else ():
        print(f"{'auto':<10}{reason}")


def _command(args: argparse.Namespace, found: dict[str, Any]) -> str:
    """The training that was planned, as one types it."""
    chosen = [f"train.{name}={value}" for name, value in (found["auto"] or {"train": {}})["train"].items()]
    settings = [setting.replace("=True", "=true").replace("=False", "=false") for setting in (*args.settings, *chosen)]
    words = ["tinyforge", "train", args.data, "--out", args.out if args.out != "." else "RUN"]
    for option in ("base", "config", "persona", "processes", "accelerate_config"):
        if getattr(args, option, None):
            words += [f"--{option.replace('_', '-')}", str(getattr(args, option))]
    return shlex.join([*words, *(word for setting in settings for word in ("--set", setting))])

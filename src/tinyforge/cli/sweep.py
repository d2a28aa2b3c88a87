"""``tinyforge sweep DATA --out DIR``: train with many settings, keep the best."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from tinyforge.cli.common import Screen, add_config_arguments, config_from, print_json
from tinyforge.config import Config
from tinyforge.environment import clock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows, as for `tinyforge train`")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make, or to continue")
    parser.add_argument("--base", metavar="BASE", help="tiny (embedded), a model folder, or a hub id")
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=VALUES",
        help="also search this option of training: a,b,c or LOW..HIGH or LOW..HIGH:log; repeatable. Without it: "
        "learning rate, epochs and LoRA rank, but for those that --set or --config fixes",
    )
    parser.add_argument("--trials", type=_positive, default=12, metavar="N", help="settings to try (default: 12)")
    parser.add_argument(
        "--minutes", type=_minutes, default=0.0, metavar="M", help="stop after this long; more continues"
    )
    parser.add_argument("--keep", action="store_true", help="keep the weights of every trial, not of the best alone")
    add_config_arguments(parser, ("seed", "base", "trust_remote_code", "dataset", "train"))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _minutes(text: str) -> float:
    minutes = float(text)
    if not minutes > 0:
        raise ValueError
    return minutes


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.sweep import sweep

    config = config_from(args)
    screen = Screen({})
    try:
        found = sweep(
            args.data,
            args.out,
            config,
            args.over,
            args.trials,
            args.minutes,
            args.keep,
            screen.say,
            screen.on_status,
        )
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    for line in _table(found):
        print(line)
    print(f"\nTrial {found['best']['number']} is the best. Its settings are in {found['recipe']}; to train with them:")
    print(f"  {_command(args.data, found['recipe'], config)}")
    print(f'Use what it trained:  tinyforge predict {shlex.quote(found["run"])} "..."')
    return 0


def _command(data: str, recipe: str, config: Config) -> str:
    trusted = ["--set", "trust_remote_code=true"] if config.trust_remote_code else []
    return shlex.join(["tinyforge", "train", data, "--out", "RUN", "--config", recipe, *trusted])


def _table(found: dict[str, Any]) -> list[str]:
    """One line for each trial, with the best marked; the options in the order in which they are searched."""
    keys = list(found["trials"][0]["values"])
    rows = [["trial", *(key.removeprefix("train.") for key in keys), "dev loss", "steps", "time", ""]]
    for trial in found["trials"]:
        values = [str(trial["values"].get(key, "")) for key in keys]
        loss = "" if trial["dev_loss"] is None else f"{trial['dev_loss']:.4f}"
        best = trial["number"] == found["best"]["number"]
        note = "<- best" if best else " ".join(part for part in _state(trial) if part)
        rows.append([str(trial["number"]), *values, loss, str(trial["steps"]), clock(trial["seconds"]), note])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return ["  ".join([*map(str.rjust, row[:-1], widths), row[-1]]).rstrip() for row in rows]


def _state(trial: dict[str, Any]) -> tuple[str, str]:
    if trial["state"] == "finished":
        return ("as set" if trial["number"] == 0 else "", "")
    return ("unfinished" if trial["state"] == "running" else trial["state"], trial["why"])

"""``tinyforge build SOURCE... --out DIR``: the main job."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyforge.cli.common import (
    Screen,
    add_config_arguments,
    add_metric_argument,
    add_processes_arguments,
    add_source_arguments,
    config_from,
    print_json,
    run_by_workers,
)
from tinyforge.config import Config
from tinyforge.environment import clock

LABELS = {
    "documents": "reading the sources",
    "examples": "writing grounded questions and answers",
    "index": "indexing for retrieval",
    "dataset": "splitting by fact",
    "card": "measuring and describing the dataset",
    "train": "fine-tuning",
    "replay": "writing general text",
    "evaluate": "asking the held-out questions",
}
SECTIONS = ("seed", "base", "trust_remote_code", "ingest", "synthesize", "dataset", "train", "retrieve", "evaluate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--base", metavar="BASE", help="tiny (embedded), a model folder, or a hub id")
    add_metric_argument(parser)
    add_processes_arguments(parser)
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    if args.metrics:
        args.settings.append(f"evaluate.metrics={json.dumps(args.metrics)}")
    config = config_from(args)
    code = run_by_workers(args, config)
    if code is not None:
        return code
    command = shlex.join(["tinyforge", *sys.argv[1:]])
    report = run_build(args.sources, args.out, config, command)
    if args.json:
        print_json({"out": str(args.out), **{key: report[key] for key in ("verdict", "choice", "scores", "recall")}})
        return 0
    show_result(report, args.out)
    return 0


def run_build(sources: Sequence[str | Path], out: str | Path, config: Config, command: str) -> dict[str, Any]:
    """Build with progress on standard error; returns the report."""
    from tinyforge.pipeline.build import Watch, build

    screen = Screen(LABELS)
    began = time.monotonic()
    try:
        report = build(sources, out, config, Watch(screen.say, screen.on_status, screen.count), command)
    finally:
        screen.close()
    screen.say("", f"done in {clock(time.monotonic() - began)}")
    return report


def show_result(report: dict[str, Any], out: str | Path) -> None:
    """The table, the verdict, and what to type next, on standard output."""
    from rich.console import Console

    from tinyforge.evaluate.table import terminal_table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 80)
    console.print()
    console.print(terminal_table(report))
    console.print(f"\n{report['verdict']}\n", markup=False)
    console.print(f"Report:  {Path(out) / 'report.html'}", markup=False, soft_wrap=True)
    console.print(f"Talk:    tinyforge chat {shlex.quote(str(out))}", markup=False, soft_wrap=True)
    if report["verdict"].startswith("Prompting") and report["choice"] != "few-shot":
        prompted = f"Prompt:  tinyforge chat {shlex.quote(str(out))} --variant few-shot"
        console.print(prompted, markup=False, soft_wrap=True)

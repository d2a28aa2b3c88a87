"""What several commands share: the options of the configuration, and how progress looks."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, options
from tinyforge.environment import clock, worker
from tinyforge.recipe import load_config

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from tinyforge.train.status import Status


def describe_options(sections: tuple[str, ...]) -> str:
    """The options of these sections as help text, straight from their declaration."""
    import textwrap

    lines = ["options for --set KEY=VALUE and --config:"]
    for key, kind, default, help_text in options():
        if key.split(".")[0] in sections:
            shown = "''" if default == "" else default
            lines.append(f"  {key} ({kind}, default {shown})")
            lines += textwrap.wrap(help_text, 92, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def add_config_arguments(parser: argparse.ArgumentParser, sections: tuple[str, ...]) -> None:
    parser.add_argument("--config", metavar="RECIPE.yaml", help="a recipe: options in a YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="set one option; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.epilog = describe_options(sections)


def add_processes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--processes", type=int, metavar="N", help="worker processes on this machine that share the training"
    )
    parser.add_argument(
        "--accelerate-config", metavar="FILE.yaml", help="how they share the model, as `accelerate config` writes it"
    )


def add_metric_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        dest="metrics",
        help="also measure this: a name, FILE.py:function of your own, or all; repeatable",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="files, folders, archives, https://host/docs/, git+https://host/name.git, api+https://host/items, or a "
        "database's SQLAlchemy URL",
    )
    parser.add_argument("--query", metavar="SQL", help="what is read from a database: a SELECT")
    parser.add_argument(
        "--header",
        action="append",
        metavar="'NAME: {VARIABLE}'",
        dest="headers",
        help="sent to an api+https endpoint, with the variable's value from the environment; repeatable",
    )


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read, and the run that it goes into."""
    add_reading_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="the run folder to make, or to continue")


def config_from(args: argparse.Namespace) -> Config:
    settings = list(args.settings)
    if getattr(args, "base", None):
        settings.append(f"base={json.dumps(args.base)}")  # JSON, as YAML reads 007, no and colons its own way
    if getattr(args, "query", None):
        settings.append(f"ingest.query={json.dumps(args.query)}")
    if getattr(args, "headers", None):
        settings.append(f"ingest.api_headers={json.dumps(args.headers)}")
    for name in ("processes", "accelerate_config"):
        if getattr(args, name, None) is not None:
            settings.append(f"train.{name}={getattr(args, name)}")
    for name in ("persona", "gap_minutes", "keep_pii"):
        if getattr(args, name, None) is not None:
            settings.append(f"chats.{name}={json.dumps(getattr(args, name), ensure_ascii=False)}")  # quoted
    return load_config(args.config, settings)


def run_by_workers(args: argparse.Namespace, config: Config) -> int | None:
    """The exit code of this command, run by several workers; None when this process is to do the work."""
    processes = config.train.processes
    if config.train.accelerate_config:
        from tinyforge.train.sharding import read_accelerate

        processes = processes or read_accelerate(config.train.accelerate_config).processes
    if processes < 2 or worker().size > 1:
        return None
    from tinyforge.train.launch import launch

    return launch(args.given, processes)


def describe_status(status: Status, dev_loss: float | None) -> str:
    """One line of training progress, what matters most first, as a narrow terminal cuts it off.

    ``dev_loss`` is the last one that was measured.
    """
    parts = [f"step {status.step}/{status.total}", f"{clock(status.eta_seconds)} left", f"loss {status.loss:.3f}"]
    if dev_loss is not None:
        parts.append(f"dev {dev_loss:.3f}")
    parts += [f"{name.replace('_', ' ')} {value:.2f}" for name, value in status.metrics.items()]
    parts += [
        f"{status.tokens_per_second:,.0f} tok/s ({status.peak_share:.0%} of peak)",
        f"{status.memory_mb:,.0f} MB",
    ]
    return " · ".join(parts)


MEASURED_SECONDS = 2.0  # of counting, before it is said how long the rest will take


class Screen:
    """Progress on standard error: live bars on a terminal, a line now and then elsewhere.

    Standard output is left to the result, so that it can be piped.
    """

    def __init__(self, labels: dict[str, str], quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, quiet=quiet or worker().rank > 0)
        self._labels = labels
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._spoke = 0.0
        self._counting = ("", 0, 0.0)  # what, how many of it were done at first, and when
        self._dev: float | None = None

    def say(self, stage: str, note: str) -> None:
        """A stage begins (empty note), or has something to tell."""
        if note:
            self.console.print(f"  {note}", markup=False, soft_wrap=True)  # a command in it can be copied whole
            return
        self.close()
        self._dev = None
        self.console.print(f"[bold cyan]▸[/] {self._labels.get(stage, stage)}")

    def on_status(self, status: Status) -> None:
        self._dev = status.dev_loss if status.dev_loss is not None else self._dev
        self.count("training", status.step, status.total, describe_status(status, self._dev))

    def count(self, name: str, done: int, total: int, text: str = "") -> None:
        """``done`` of ``total`` things are finished; without a ``text``, with the time that is left at this pace."""
        text = text or self._counted(name, done, total)
        if not self.console.is_terminal:
            if done == total or time.monotonic() - self._spoke > 10:
                self._spoke = time.monotonic()
                self.console.print(f"  {text}", markup=False, soft_wrap=True)
            return
        bar, task = self._ensure_bar()
        bar.update(task, completed=done, total=total, description=text)
        if done >= total:
            self.close()

    def _counted(self, name: str, done: int, total: int) -> str:
        now = time.monotonic()
        if name != self._counting[0] or done < self._counting[1]:
            self._counting = (name, done, now)  # a resumed stage begins with what it had: that says nothing of the pace
        _, first, began = self._counting
        text = f"{name} {done:,}/{total:,}"
        if done == first or done >= total or now - began < MEASURED_SECONDS:
            return text
        return f"{text} · {clock((now - began) / (done - first) * (total - done))} left"

    def _ensure_bar(self) -> tuple[Any, Any]:
        if self._bar is None or self._task is None:
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn(" "), BarColumn(24), TextColumn("{task.description}", markup=False), console=self.console
            )
            self._bar.start()
            self._task = self._bar.add_task("")
        return self._bar, self._task

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None


def print_json(data: Any) -> None:
    json.dump(data, sys.stdout, ensure_ascii=False, indent=1)
    print()

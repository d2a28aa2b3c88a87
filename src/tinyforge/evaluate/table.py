"""The before/after table that the terminal shows, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyforge.evaluate import legend
from tinyforge.evaluate.cells import best_value, number

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

_COLUMNS = {"exact_match": "EM", "token_f1": "F1", "written_f1": "written", "quoted": "quoted"}
_COLUMNS |= {"rouge_l": "ROUGE-L", "chrf": "chrF", "perplexity": "PPL"}


_FIRST_TO_GO = ("chrf", "rouge_l", "written_f1", "exact_match")
"""What a terminal that is too narrow does without, in this order."""


class _Standing:
    """The tables, as many of their columns as the terminal is wide enough for, and what the words mean."""

    def __init__(self, report: Mapping[str, Any]) -> None:
        self.scores: Mapping[str, Any] = report["scores"]
        self.choice: str = report["choice"]
        self.sets = legend.ordered(self.scores, legend.SETS)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | Text]:
        from rich.text import Text

        without: list[str] = []
        tables = self._tables(without)
        for metric in _FIRST_TO_GO:
            if self._width(tables, console, options) <= options.max_width:
                break
            if any(metric in row for table in self.scores.values() for row in table.values()):
                without.append(metric)
                tables = self._tables(without)
        yield from tables
        yield Text(self._notes(without))

    def _tables(self, without: Sequence[str]) -> list[Table]:
        return [_set_table(name, self.scores[name], self.choice, without) for name in self.sets]

    @staticmethod
    def _width(tables: Sequence[Table], console: Console, options: ConsoleOptions) -> int:
        from rich.measure import Measurement

        unbounded = options.update(max_width=10_000)
        return max(Measurement.get(console, unbounded, table).maximum for table in tables)

    def _notes(self, without: Sequence[str]) -> str:
        columns = {metric for table in self.scores.values() for row in table.values() for metric in row}
        shown = columns - set(without)
        notes = ["* chat uses this variant."]
        notes += ["EM: exact match."] if "exact_match" in shown else []
        notes += ["PPL: perplexity, lower is better."] if "perplexity" in shown else []
        notes += ["\nquoted: share of answers that gave way to a quote, as in chat."] if "quoted" in shown else []
        notes += ["written: F1 before that."] if "written_f1" in shown else []
        if without:
            names = ", ".join(_COLUMNS[metric] for metric in without)
            notes.append(f"\nNot shown here for want of room, but in the report: {names}.")
        return " ".join(notes).replace(" \n", "\n")


def terminal_table(report: Mapping[str, Any]) -> RenderableType:
    """One table for each set of ``report["scores"]``: variants by metrics, with the 95% interval of token F1.

    The best of a column is bold; the variant that chat uses is marked with ``*``, which is explained below. Columns
    that a terminal is too narrow for are left out, and named.
    """
    return _Standing(report)


def _set_table(name: str, scores: Mapping[str, Any], choice: str, without: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    count = max(score["n"] for metrics in scores.values() for score in metrics.values())
    title = f"On {legend.SETS.get(name, name)} ({count} questions)"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    kept_out = {"declined", *without}
    present = dict.fromkeys(metric for row in scores.values() for metric in row if metric not in kept_out)
    metrics = legend.ordered(present, _COLUMNS)  # those that were asked for besides come last
    for metric in metrics:
        table.add_column(_COLUMNS.get(metric, legend.METRICS.get(metric, metric)), justify="right", no_wrap=True)
        if metric == "token_f1":
            table.add_column("95% interval", no_wrap=True)
    best = {metric: best_value(scores, metric) for metric in metrics}
    for variant in legend.ordered(scores, legend.READING_ORDER):
        label = variant + (" *" if variant == choice else "")
        table.add_row(label, *_cells(scores[variant], metrics, best))
    return table


def _cells(row: Mapping[str, Any], metrics: list[str], best: Mapping[str, float | None]) -> list[str]:
    cells = []
    for metric in metrics:
        score = row.get(metric)
        value = "-" if score is None else number(score["value"])
        cells.append(f"[bold]{value}[/bold]" if score is not None and score["value"] == best[metric] else value)
        if metric == "token_f1":
            cells.append("" if score is None else f"{number(score['low'])} - {number(score['high'])}")
    return cells

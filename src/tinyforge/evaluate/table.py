"""The before/after table that the terminal shows, at most 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinyforge.evaluate import legend
from tinyforge.evaluate.cells import best_value, number

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_COLUMNS = {"exact_match": "EM", "token_f1": "F1", "written_f1": "written", "quoted": "quoted"}
_COLUMNS |= {"rouge_l": "ROUGE-L", "chrf": "chrF", "perplexity": "PPL"}


def terminal_table(report: Mapping[str, Any]) -> Group:
    """One table for each set of ``report["scores"]``: variants by metrics, with the 95% interval of token F1.

    The best of a column is bold; the variant that chat uses is marked with ``*``, which is explained below.
    """
    from rich.console import Group
    from rich.text import Text

    scores = report["scores"]
    tables = [_set_table(name, scores[name], report["choice"]) for name in legend.ordered(scores, legend.SETS)]
    notes = "* chat uses this variant. EM: exact match. PPL: perplexity, lower is better."
    if any("written_f1" in row for table in scores.values() for row in table.values()):
        notes += "\nquoted: share of answers that gave way to a quote, as in chat; written: F1 before that."
    return Group(*tables, Text(notes))


def _set_table(name: str, scores: Mapping[str, Any], choice: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    count = max(score["n"] for metrics in scores.values() for score in metrics.values())
    title = f"On {legend.SETS.get(name, name)} ({count} questions)"
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    present = dict.fromkeys(metric for row in scores.values() for metric in row if metric != "declined")
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

"""Which columns a score table has, what is best in one, and how numbers and times are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyforge.evaluate import legend

Scores = Mapping[str, Mapping[str, Mapping[str, Any]]]  # of one set: [variant][metric]["value"]


def shown_metrics(scores: Scores) -> list[str]:
    """The columns: every metric that any variant has; how often it declined only where one did."""
    present = dict.fromkeys(metric for metrics in scores.values() for metric in metrics)
    declined = any(metrics.get("declined", {"value": 0})["value"] > 0 for metrics in scores.values())
    return [metric for metric in legend.ordered(present, legend.METRICS) if metric != "declined" or declined]


def best_value(scores: Scores, metric: str) -> float | None:
    """The best value in a column; None where there is nothing to be best at."""
    values = [float(metrics[metric]["value"]) for metrics in scores.values() if metric in metrics]
    if metric in legend.NO_BEST or len(set(values)) < 2:
        return None
    return min(values) if metric in legend.LOWER_IS_BETTER else max(values)


def number(value: float) -> str:
    """Two decimals where they carry something, three digits otherwise; never more than seven characters."""
    if abs(value) >= 99_999.5:
        return f"{value:.1e}"
    return f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A length of time as a person says it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"

"""A metric over the answers of one variant: rows of sums, and the rows on which it failed.

n  questions    k  sums of the metric    r  resamples
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from tinyforge.evaluate.metrics import AGREEMENT, find_metric
from tinyforge.evaluate.metrics.base import Answer, Array, Metric, Pooled, ratio, unanswerable
from tinyforge.records import Example

Metrics = Sequence[str] | Mapping[str, Metric | Pooled]


@dataclass(frozen=True, slots=True)
class Failure:
    """A metric that could not score the answer to a question (all of them where ``question`` is empty)."""

    metric: str
    question: str
    error: str


@dataclass(frozen=True, slots=True)
class Measured:
    """``sums`` (n, k) with zeros where the metric does not apply or failed; ``applies`` (n,) tells which rows count."""

    sums: Array
    applies: np.ndarray
    finish: Callable[[Array], Array]

    @property
    def n(self) -> int:
        return int(self.applies.sum())

    @property
    def value(self) -> float:
        """Over the whole set; NaN where it is not defined."""
        return float(self.finish(self.sums.sum(axis=0))) if self.n else float("nan")

    def rows(self) -> Array:
        """The value of each question alone, (n,); NaN where the metric does not apply to it."""
        with np.errstate(all="ignore"):
            return np.where(self.applies, self.finish(self.sums), np.nan)

    def only(self, applies: np.ndarray) -> Measured:
        """The same over fewer questions."""
        kept = self.applies & applies
        return Measured(np.where(kept[:, None], self.sums, 0.0), kept, self.finish)


def named(metrics: Metrics) -> dict[str, Metric | Pooled]:
    """Metrics by name. Raises InputError for a name that nothing stands behind."""
    return dict(metrics) if isinstance(metrics, Mapping) else {name: find_metric(name) for name in metrics}


def measure(
    name: str,
    metric: Metric | Pooled,
    answers: Sequence[Answer],
    examples: Sequence[Example],
    failures: list[Failure] | None = None,
) -> Measured:
    """The metric's rows. A row on which it raises, or gives no finite number, is left out and noted in ``failures``.

    Where answers are held to references, one that declines what has an answer counts as empty.
    """
    if len(answers) != len(examples):
        raise ValueError(f"{len(answers)} answers to {len(examples)} questions")
    noted = failures if failures is not None else []
    if name in AGREEMENT:
        pairs = zip(answers, examples, strict=True)
        answers = [replace(a, text="") if a.declined and not unanswerable(e) else a for a, e in pairs]
    if not isinstance(metric, Pooled):
        return _measured(_each(name, metric, answers, examples, noted), ratio)
    return _measured(_pooled(name, metric, answers, examples, noted), metric.finish)


def _measured(sums: Array, finish: Callable[[Array], Array]) -> Measured:
    applies = np.asarray(~np.isnan(sums).any(axis=1))
    return Measured(np.where(applies[:, None], sums, 0.0), applies, finish)


def _each(
    name: str, metric: Metric, answers: Sequence[Answer], examples: Sequence[Example], failures: list[Failure]
) -> Array:
    """(n, 2): the number and 1."""
    rows = np.full((len(answers), 2), np.nan)
    for row, answer, example in zip(rows, answers, examples, strict=True):
        try:
            value: Any = metric(answer.text, example)
            if not isinstance(value, Real | np.bool_) or not np.isfinite(float(value)):
                raise ValueError(f"gave {value!r}, not a finite number")
        except Exception as error:
            failures.append(Failure(name, example.id, _told(error)))
            continue
        row[:] = float(value), 1.0
    return rows


def _pooled(
    name: str, metric: Pooled, answers: Sequence[Answer], examples: Sequence[Example], failures: list[Failure]
) -> Array:
    """(n, k); where the metric fails on the set, the rows that it fails on alone are left out."""
    try:
        return metric.count(answers, examples)
    except Exception as error:
        whole = error
    sound = []
    for i, (answer, example) in enumerate(zip(answers, examples, strict=True)):
        try:
            metric.count([answer], [example])
            sound.append(i)
        except Exception as error:
            failures.append(Failure(name, example.id, _told(error)))
    if len(sound) in (0, len(answers)):
        failures.append(Failure(name, "", _told(whole)))
        return np.full((len(answers), 2), np.nan)
    counted = metric.count([answers[i] for i in sound], [examples[i] for i in sound])
    rows = np.full((len(answers), counted.shape[1]), np.nan)
    rows[sound] = counted
    return rows


def failure_lines(failures: Sequence[Failure | Mapping[str, str]]) -> list[str]:
    """One sentence for each metric that failed somewhere."""
    rows = [f if isinstance(f, Mapping) else asdict(f) for f in failures]
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        found = [row for row in rows if row["metric"] == metric]
        first = found[0]
        place = f"first on question {first['question']}: " if first["question"] else ""
        lines.append(
            f"{metric} could not score {len(found)} answers ({place}{first['error']}); they are left out of it."
        )
    return lines


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

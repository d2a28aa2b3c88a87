"""Scores of a classifier, whose answers are names of classes, with a probability for each.

C  classes that occur in the set, as a label or as an answer
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, averaged, ratio
from tinyforge.records import Example

BINS = 15  # as in Guo et al. 2017, and in models.calibrate


def accuracy(prediction: str, example: Example) -> float:
    """1 when the class is the label, letter for letter but for spaces around it."""
    return float(prediction.strip() == example.label)


def _confusions(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """For each question and class: found, wanted, and both. Shape (n, 3C), class after class."""
    given = [answer.text.strip() for answer in answers]
    names = sorted({*given, *(example.label for example in examples)})
    place = {name: i for i, name in enumerate(names)}
    rows = np.zeros((len(given), len(names), 3))
    for i, (found, example) in enumerate(zip(given, examples, strict=True)):
        rows[i, place[found], 0] = 1
        rows[i, place[example.label], 1] = 1
        rows[i, place[found], 2] = float(found == example.label)
    return rows.reshape(len(given), -1)


def _mean_f1(sums: Array) -> Array:
    """Unweighted mean of the F1 of the classes; one that is neither wanted nor found among the drawn has no say."""
    table = sums.reshape(*sums.shape[:-1], -1, 3)
    both, either = 2 * table[..., 2], table[..., 0] + table[..., 1]
    present = either > 0
    f1 = np.divide(both, either, out=np.zeros_like(both), where=present)
    return np.asarray(f1.sum(-1) / np.maximum(present.sum(-1), 1), dtype=np.float64)


def _squared_error(answer: Answer, example: Example) -> float | None:
    if not answer.probabilities:
        return None
    return sum((p - (name == example.label)) ** 2 for name, p in answer.probabilities.items()) + float(
        example.label not in answer.probabilities
    )


def _bins(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """For each question, in the bin of its confidence: the confidence, and 1 if right; then 1 for the question."""
    rows = np.zeros((len(answers), 2 * BINS + 1))
    for row, answer, example in zip(rows, answers, examples, strict=True):
        if not answer.probabilities:
            row[:] = np.nan
            continue
        best = max(answer.probabilities, key=lambda name: answer.probabilities[name])
        number = min(BINS - 1, max(0, int(np.ceil(answer.probabilities[best] * BINS)) - 1))
        row[2 * number], row[2 * number + 1], row[-1] = answer.probabilities[best], best == example.label, 1
    return rows


def _mean_gap(sums: Array) -> Array:
    gaps = np.abs(sums[..., 0:-1:2] - sums[..., 1:-1:2]).sum(-1)
    return ratio(np.stack([gaps, sums[..., -1]], axis=-1))


macro_f1 = Pooled(_confusions, _mean_f1)
"""F1 of each class, averaged so that rare classes count as much as frequent ones."""

brier = averaged(_squared_error)
"""Squared distance between the probabilities and the truth, summed over the classes (Brier 1950): from 0 to 2."""

calibration_error = Pooled(_bins, _mean_gap)
"""Mean distance between confidence and accuracy over 15 bins of the confidence (Guo et al. 2017)."""

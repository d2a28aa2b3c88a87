"""What a metric is.

A metric is one of two things:

- a function ``(prediction, example) -> float``: one number for each answer, and the mean over the set is its score;
- a :class:`Pooled`: ``count`` gives a row of sums for each question, shape (n, k), and ``finish`` turns the sums over
  any choice of questions, shape (..., k), into the score of that choice, shape (...). A score that is no mean over
  questions (corpus BLEU, macro-F1, perplexity) is of this kind, and gets its interval by the same bootstrap: sums can
  be drawn again without reading a text twice. A row of NaN leaves a question out.

    n  questions    k  sums
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.records import Example, Hit

Array = npt.NDArray[np.float64]
Metric = Callable[[str, Example], float]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one variant answered to one question.

    ``nll`` is the negative log likelihood, in nats, summed over the ``tokens`` tokens of the *reference* answer;
    both are None where no model writes (quote). ``seconds`` is the answer's share of its batch's time, ``written`` how
    many tokens the model wrote. ``as_written`` is what it wrote where a quote may take its place (see serve.answer),
    and ``text`` what a person is then told. ``probabilities`` holds every class of a classifier. ``swapped`` is what
    the same model answered when given another question's passages. ``error`` says why there is no answer.
    """

    text: str
    nll: float | None = None
    tokens: int | None = None
    declined: bool = False
    hits: tuple[Hit, ...] = ()
    seconds: float | None = None
    written: int | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    swapped: str | None = None
    error: str = ""
    as_written: str | None = None


@dataclass(frozen=True, slots=True)
class Pooled:
    """A score over a set that is no mean over its questions (see the module)."""

    count: Callable[[Sequence[Answer], Sequence[Example]], Array]
    finish: Callable[[Array], Array]


def references(example: Example) -> list[str]:
    """Every answer that counts as right; the example's own comes first. The class, for a labelled example."""
    return [example.label or example.answer, *example.metadata.get("references", [])]


def unanswerable(example: Example) -> bool:
    """Whether the right answer is to decline."""
    return bool(example.metadata.get("unanswerable")) or references(example)[0].strip() == NOT_FOUND


def ratio(sums: Array) -> Array:
    """Of sums (..., 2) the first over the second; NaN where the second is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] != 0, sums[..., 0] / sums[..., 1], np.nan)


def averaged(value: Callable[[Answer, Example], float | None]) -> Pooled:
    """The mean of ``value`` over the questions for which it is not None, for what needs more than an answer's text."""

    def count(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        found = [value(answer, example) for answer, example in zip(answers, examples, strict=True)]
        return np.array([[np.nan, np.nan] if v is None else [v, 1.0] for v in found]).reshape(-1, 2)

    return Pooled(count, ratio)

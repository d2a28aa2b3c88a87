"""How fast the answers came, on the machine and in the batches of this evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, averaged, ratio
from tinyforge.records import Example


def _written(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    timed = [a if a.seconds is not None and a.written is not None else None for a in answers]
    return np.array([[np.nan] * 2 if a is None else [a.written, a.seconds] for a in timed], dtype=np.float64).reshape(
        -1, 2
    )


seconds_per_answer = averaged(lambda answer, example: answer.seconds)
"""Seconds per answer: a batch's time divided among its answers, so a single question takes longer than this."""

tokens_per_second = Pooled(_written, ratio)
"""Tokens written per second, prompts read included in the time."""

"""How well a model expects the reference answers: nats over the answer's own tokens, summed before dividing.

Long answers weigh more than short ones; a mean of means would let one short answer count as much as a page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, log

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, ratio, references
from tinyforge.records import Example


def _nats_per(size: Callable[[Answer, Example], float]) -> Callable[[Sequence[Answer], Sequence[Example]], Array]:
    """Rows of (nats, size); answers without a likelihood are left out."""

    def count(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        rows = [_row(answer, size(answer, example)) for answer, example in zip(answers, examples, strict=True)]
        return np.array(rows).reshape(-1, 2)

    return count


def _row(answer: Answer, size: float) -> tuple[float, float]:
    if answer.nll is None or not answer.tokens:
        return np.nan, np.nan
    if not isfinite(answer.nll):
        raise ValueError(f"the likelihood of the reference is {answer.nll}")
    return answer.nll, size


def _tokens(answer: Answer, example: Example) -> float:
    return float(answer.tokens or 0)


def _bytes(answer: Answer, example: Example) -> float:
    return float(len(references(example)[0].encode()))


def _exp(sums: Array) -> Array:
    return np.asarray(np.exp(ratio(sums)), dtype=np.float64)


loss = Pooled(_nats_per(_tokens), ratio)
"""Nats per token of the reference answers."""

perplexity = Pooled(_nats_per(_tokens), _exp)
"""exp of the loss."""

bits_per_byte = Pooled(_nats_per(_bytes), lambda sums: ratio(sums) / log(2))
"""Bits per UTF-8 byte of the reference answers: the one of the three that can be compared across tokenizers."""

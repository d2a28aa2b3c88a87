"""An interpolated Kneser-Ney n-gram model over token ids: what counting alone reaches, for comparison with the base."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing modulo 2**64
DISCOUNT = 0.75


def _hashes(ids: Ids, order: int) -> NDArray[np.uint64]:
    """A 64-bit hash of each n-gram; entry i covers ``ids[i : i + order]``."""
    found = np.zeros(len(ids) - order + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for place in range(order):
            found = found * _BASE + ids[place : len(ids) - order + 1 + place].astype(np.uint64) + np.uint64(1)
    return found


class _Table:
    """Sorted keys with values; missing keys read as zero."""

    def __init__(self, keys: NDArray[np.uint64], values: NDArray[np.float64]) -> None:
        self.keys, inverse = np.unique(keys, return_inverse=True)
        self.values = np.bincount(inverse, weights=values, minlength=len(self.keys))

    def __call__(self, wanted: NDArray[np.uint64]) -> NDArray[np.float64]:
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[places] == wanted, self.values[places], 0.0)


def bits(train: Ids, test: Ids, order: int, vocabulary: int) -> float:
    """Total bits that the model (Kneser & Ney 1995, interpolated as in Chen & Goodman 1999) spends on ``test``.

    The highest order counts occurrences; a lower one counts in how many different places an n-gram continues.
    """
    start = order - 1
    probability = np.full(len(test) - start, 1.0 / vocabulary)
    for n in range(1, order + 1):
        grams = _hashes(train, n)
        if n == order:
            kept, counts = np.unique(grams, return_counts=True)
            first = np.unique(grams, return_index=True)[1]
        else:
            longer = np.unique(_hashes(train, n + 1), return_index=True)[1] + 1
            kept, first, counts = np.unique(grams[longer], return_index=True, return_counts=True)
            first = longer[first]
        histories = _hashes(train, n - 1)[first] if n > 1 else np.zeros(len(kept), dtype=np.uint64)
        count = _Table(kept, counts.astype(np.float64))
        total = _Table(histories, counts.astype(np.float64))
        kinds = _Table(histories, np.ones(len(kept)))
        asked = _hashes(test, n)[start - n + 1 :]
        before = _hashes(test, n - 1)[start - n + 1 : start - n + 1 + len(asked)] if n > 1 else np.zeros_like(asked)
        mass = total(before)
        seen = mass > 0
        safe = np.where(seen, mass, 1.0)
        mixed = (np.maximum(count(asked) - DISCOUNT, 0.0) + DISCOUNT * kinds(before) * probability) / safe
        probability = np.where(seen, mixed, probability)
    return float(-np.log2(probability).sum())

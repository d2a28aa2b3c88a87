"""Which examples go together in which step: a pure function of the lengths, the budget and the seed.

Because nothing else enters, a resumed run finds its place from the step number alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

POOL = 64  # batches sorted by length together: enough to make padding rare, few enough to keep the order random


def plan_epoch(
    lengths: Sequence[int] | NDArray[np.int64], budget: int, seed: int, epoch: int, rows: int = 0
) -> list[NDArray[np.int64]]:
    """One epoch as batches of indices: similar lengths together, each batch at most ``budget`` padded tokens.

    Where ``rows`` is not 0, a batch has at most that many. Every index appears exactly once. An example longer than
    the budget makes a batch of its own.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(sizes))
    pool = max(1, POOL * budget // max(1, int(sizes.mean()))) if len(sizes) else 1
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        window = order[start : start + pool]
        batches.extend(_cut(window[np.argsort(sizes[window], kind="stable")], sizes, budget, rows))
    return [batches[i] for i in generator.permutation(len(batches))]


def _cut(indices: NDArray[np.int64], sizes: NDArray[np.int64], budget: int, rows: int) -> Iterator[NDArray[np.int64]]:
    start = 0
    for stop in range(1, len(indices) + 1):
        full = stop == len(indices) or sizes[indices[stop]] * (stop + 1 - start) > budget
        if full or stop - start == rows:
            yield indices[start:stop]
            start = stop


class BatchPlan:
    """All the micro-batches of a training, numbered from 0 over ``epochs`` (which may be fractional)."""

    def __init__(
        self, lengths: Sequence[int] | NDArray[np.int64], budget: int, seed: int, epochs: float, rows: int = 0
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        self._budget, self._seed, self._rows = budget, seed, rows
        self._epoch = lru_cache(maxsize=2)(self._plan)
        whole, part = int(epochs), epochs - int(epochs)
        counts = [len(self._plan(epoch)) for epoch in range(whole)]
        if part > 0:
            counts.append(max(1, round(len(self._plan(whole)) * part)))
        self._ends = np.cumsum(counts)

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        return plan_epoch(self._lengths, self._budget, self._seed, epoch, self._rows)

    @property
    def first_epoch(self) -> int:
        """How many batches the first epoch has (of a part of one, that part)."""
        return int(self._ends[0]) if len(self._ends) else 0

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> NDArray[np.int64]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        return self._epoch(epoch)[number - (int(self._ends[epoch - 1]) if epoch else 0)]

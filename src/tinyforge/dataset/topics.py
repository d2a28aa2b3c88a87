"""Texts grouped by meaning: spherical k-means over embeddings, each group named by the words that set it apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinyforge.dataset.similar import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 24
_ROUNDS = 25


def group(vectors: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """The group of each unit vector; about √(n/2) groups, 24 at most. Equal vectors and seed give equal groups."""
    count = max(1, min(MOST, round(math.sqrt(len(vectors) / 2))))
    generator = np.random.default_rng(seed)
    chosen = [int(generator.integers(len(vectors)))]
    nearest = vectors @ vectors[chosen[0]]
    while len(chosen) < count:  # k-means++ without the dice: always the one that is farthest from all so far
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    centres = vectors[chosen]
    groups = np.zeros(len(vectors), dtype=np.int64)
    for _ in range(_ROUNDS):
        groups = (vectors @ centres.T).argmax(axis=1)
        sums = np.stack([vectors[groups == k].sum(axis=0) if (groups == k).any() else centres[k] for k in range(count)])
        moved = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        if np.allclose(moved, centres):
            break
        centres = moved
    return groups


def names(texts: Sequence[str], groups: NDArray[np.int64]) -> list[str]:
    """For each text the name of its group: its three words of highest tf-idf over the groups."""
    bags = {int(k): Counter[str]() for k in np.unique(groups)}
    for text, number in zip(texts, groups.tolist(), strict=True):
        bags[number].update({word for word in words(text) if len(word) > 3})
    spread = Counter(word for bag in bags.values() for word in bag)
    called: dict[int, str] = {}
    for number, bag in bags.items():
        scored = sorted(bag, key=lambda word: (-bag[word] * math.log((1 + len(bags)) / spread[word]), word))
        called[number] = f"{number + 1}: {', '.join(scored[:3])}"
    return [called[number] for number in groups.tolist()]

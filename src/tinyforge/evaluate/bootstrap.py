"""Intervals by resampling facts.

Several questions ask about the same fact, and a model that knows the fact tends to get them all. Such questions are
not independent, so what is drawn with replacement are whole facts with all their questions (the cluster bootstrap:
Davison & Hinkley 1997, "Bootstrap Methods and their Application", under hierarchical data). Drawing single questions
would give intervals that are too narrow.

Every statistic here is a function of sums over questions: a mean divides by a column of ones, a perplexity divides
the negative log likelihood by the tokens. What is drawn with the same seed shares its draws, which is what pairs it.

The interval is the expanded percentile interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap"):
the plain percentile interval is too narrow, by sqrt((c-1)/c) and by taking the normal quantile where Student's t with
c-1 degrees of freedom belongs. That matters when only ten facts are held out.

    n  questions    c  facts    k  columns    r  resamples
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Seed = int | Sequence[int]

CONFIDENCE = 0.95
_CELLS = 1 << 20  # draws held at once: memory stays flat however many resamples and facts


def cluster_sums(columns: Array, clusters: Sequence[Hashable]) -> Array:
    """Sum the rows of each cluster: (n, k) -> (c, k), clusters in the order in which they first appear."""
    index = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(index), columns.shape[1]))
    np.add.at(sums, [index[name] for name in clusters], columns)
    return sums


def redraw(sums: Array, *, resamples: int, seed: Seed, cells: int = _CELLS) -> Array:
    """Sums over clusters drawn with replacement, as many as there are: (c, k) -> (r, k).

    The draws depend on c, ``resamples`` and ``seed`` alone, so that tables drawn apart are paired all the same.
    """
    count = len(sums)
    rng = np.random.default_rng(seed)
    drawn_sums = np.empty((resamples, sums.shape[1]))
    block = max(1, cells // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        drawn_sums[start : start + rows] = times @ sums
    return drawn_sums


def resample(numerators: Array, denominators: Array, *, resamples: int, seed: Seed, cells: int = _CELLS) -> Array:
    """Ratios of sums over clusters drawn with replacement: two (c, k) tables -> (r, k)."""
    k = numerators.shape[1]
    drawn = redraw(np.hstack([numerators, denominators]), resamples=resamples, seed=seed, cells=cells)
    return np.asarray(drawn[:, :k] / drawn[:, k:], dtype=np.float64)


def interval(ratios: Array, clusters: int) -> tuple[Array, Array]:
    """The ends of the 95% interval of each column: (r, k) -> two of (k,); draws in which it is undefined are NaN."""
    tail = expanded_tail(clusters)
    low, high = np.nanquantile(ratios, [tail, 1 - tail], axis=0)
    return low, high


def expanded_tail(clusters: int) -> float:
    """The percentile to cut at either end so that the interval of a mean is as wide as Student's t asks for."""
    if clusters < 2:
        raise ValueError("an interval needs at least two clusters")
    return NormalDist().cdf(-sqrt(clusters / (clusters - 1)) * student_quantile(clusters - 1))


def student_quantile(freedom: int, level: float = (1 + CONFIDENCE) / 2) -> float:
    """The point that Student's t stays below with probability ``level``, by the expansion in 1/freedom.

    Abramowitz & Stegun 26.7.5.
    """
    z = NormalDist().inv_cdf(level)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )

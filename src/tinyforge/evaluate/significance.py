"""Whether a difference between two models on the same questions is more than chance, and what could have been seen.

n  questions    c  facts    r  resamples
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np

from tinyforge.evaluate.bootstrap import Array, Seed, cluster_sums, student_quantile

POWER = 0.8  # the chance with which a detectable effect is seen
LEVEL = 0.05
_CELLS = 1 << 20


@dataclass(frozen=True, slots=True)
class McNemar:
    """``only_a`` and ``only_b``: questions that one of the two alone got right. ``p`` is exact and two-sided."""

    only_a: int
    only_b: int
    p: float


def mcnemar(a: Array, b: Array) -> McNemar:
    """McNemar's test (1947) by the binomial distribution, for (n,) right or wrong; each question counts on its own.

    Wordings of one fact are not independent, so where there are several this p is too small: the interval decides.
    """
    only_a, only_b = int(((a > 0.5) & (b <= 0.5)).sum()), int(((b > 0.5) & (a <= 0.5)).sum())
    n = only_a + only_b
    tail = sum(comb(n, k) for k in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**n))


def sign_flip(differences: Array, clusters: Sequence[Hashable], *, resamples: int, seed: Seed) -> float:
    """Two-sided p of a mean difference of zero: facts trade the two models' places at random (Fisher's test).

    All questions of a fact change sign together. Takes (n,) differences; as it is drawn, no p is below 1/(r+1).
    """
    sums = cluster_sums(differences[:, None], clusters)[:, 0]
    seen = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // len(sums))
    extreme = 0
    for start in range(0, resamples, block):
        signs = rng.integers(2, size=(min(block, resamples - start), len(sums))) * 2 - 1
        extreme += int((np.abs(signs @ sums) >= seen).sum())
    return (1 + extreme) / (1 + resamples)


def holm(ps: Sequence[float]) -> list[float]:
    """The same p values corrected for having looked so often (Holm 1979): the family's error stays within its level."""
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        corrected[i] = highest
    return corrected


def detectable(a: Array, b: Array, clusters: Sequence[Hashable]) -> float | None:
    """The smallest true difference that these questions show in four of five tries, at the 5% level.

    (t_0.975 + t_0.8) standard errors of the paired mean difference, clustered by fact; where the two never differ,
    those of unpaired means. None where nothing varies, or with fewer than two facts.
    """
    count = len(set(clusters))
    if count < 2:
        return None
    error = _standard_error(a - b, clusters)
    if error == 0:
        error = sqrt(_standard_error(a, clusters) ** 2 + _standard_error(b, clusters) ** 2)
    quantiles = student_quantile(count - 1) + student_quantile(count - 1, POWER)
    return quantiles * error if error > 0 else None


def _standard_error(values: Array, clusters: Sequence[Hashable]) -> float:
    """Of a mean of questions drawn by cluster (linearised)."""
    sums = cluster_sums(np.stack([values, np.ones_like(values)], axis=1), clusters)
    residuals = sums[:, 0] - values.mean() * sums[:, 1]
    count = len(sums)
    return sqrt(count / (count - 1) * float((residuals**2).sum())) / len(values)

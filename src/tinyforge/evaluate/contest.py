"""Several contenders on the same questions: their scores, every pair's differences, where the second lost, and why to
believe it. Everything is JSON, so that a table, a page or a script can be made of it.

    questions, facts    how many
    primary             the metric that decides
    scores              {contender: {metric: {"value", "low", "high", "n"}}}
    pairs               one for each two contenders, see :func:`_pair`; those with the first contender come first
    failures            rows that a metric could not score
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import isfinite
from typing import Any

import numpy as np

from tinyforge.errors import InputError
from tinyforge.evaluate.bootstrap import Array, cluster_sums, interval, redraw
from tinyforge.evaluate.compare import fact_clusters, score_of
from tinyforge.evaluate.legend import LOWER_IS_BETTER
from tinyforge.evaluate.measure import Failure, Measured, Metrics, measure, named
from tinyforge.evaluate.metrics.base import Answer, ratio
from tinyforge.evaluate.significance import LEVEL, detectable, holm, mcnemar, sign_flip
from tinyforge.records import Example, Score

GROUPINGS = ("topic", "difficulty", "source")
RIGHT = ("accuracy", "exact_match")
"""Metrics of right and wrong, the first of which that was measured goes into McNemar's test."""


@dataclass(frozen=True)
class _Asked:
    examples: Sequence[Example]
    clusters: Sequence[str]
    primary: str
    resamples: int
    seed: int


def contest(
    examples: Sequence[Example],
    answers: Mapping[str, Sequence[Answer]],
    metrics: Metrics,
    primary: str,
    *,
    resamples: int,
    seed: int,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """The result described above. ``primary`` is one of the metrics, a mean over questions; ``pairs`` are the
    comparisons that are of interest (none: all), as every further one makes each of them harder to be sure of.

    Raises InputError for an unknown metric, and for questions about fewer than two facts.
    """
    asked = _Asked(examples, fact_clusters(examples), primary, resamples, seed)
    failures: list[Failure] = []
    wanted = named(metrics)
    measured = {
        contender: {name: measure(name, metric, given, examples, failures) for name, metric in wanted.items()}
        for contender, given in answers.items()
    }
    if any(primary not in found or found[primary].finish is not ratio for found in measured.values()):
        raise InputError(
            f"{primary!r} cannot decide a comparison.", "Name a measured metric that is a mean over questions."
        )
    scores: dict[str, dict[str, Score]] = {}
    for contender, found in measured.items():
        all_scores = {
            name: score_of(name, m, asked.clusters, resamples=resamples, seed=seed, failures=failures)
            for name, m in found.items()
        }
        scores[contender] = {name: score for name, score in all_scores.items() if score is not None}
    compared = [_pair(two, measured, answers, asked) for two in (combinations(answers, 2) if pairs is None else pairs)]
    _correct(compared)
    return {
        "questions": len(examples),
        "facts": len(set(asked.clusters)),
        "primary": primary,
        "scores": {name: {metric: asdict(score) for metric, score in row.items()} for name, row in scores.items()},
        "pairs": compared,
        "failures": [asdict(failure) for failure in dict.fromkeys(failures)],
    }


def _pair(
    names: tuple[str, str],
    measured: Mapping[str, Mapping[str, Measured]],
    answers: Mapping[str, Sequence[Answer]],
    asked: _Asked,
) -> dict[str, Any]:
    """``b`` less ``a``.

    ``differences[metric]`` with paired intervals; ``p`` of the primary one by sign flips and ``p_holm`` corrected over
    the pairs; ``clear``: p_holm is below 5%; ``detectable``: what could have been seen; ``mcnemar``; ``groups``, worst
    for b first, with their p corrected over the groups; ``regressions``: questions on which b lost, worst first.
    """
    a, b = (measured[name] for name in names)
    differences = {metric: _difference(a[metric], b[metric], asked) for metric in a}
    first, second = a[asked.primary], b[asked.primary]
    both = first.applies & second.applies
    rows = np.where(both, second.rows() - first.rows(), 0.0)
    clusters = _kept(asked.clusters, both)
    better = -1.0 if asked.primary in LOWER_IS_BETTER else 1.0
    right = next((metric for metric in RIGHT if metric in a), None)
    return {
        "a": names[0],
        "b": names[1],
        "differences": {metric: asdict(score) for metric, score in differences.items() if score is not None},
        "p": sign_flip(rows[both], clusters, resamples=asked.resamples, seed=asked.seed) if both.any() else 1.0,
        "detectable": detectable(first.rows()[both], second.rows()[both], clusters),
        "mcnemar": asdict(mcnemar(a[right].rows(), b[right].rows())) if right else None,
        "groups": _groups(rows, both, better, asked),
        "regressions": _regressions(names, rows * better, (first, second), answers, asked),
    }


def _kept(clusters: Sequence[Hashable], kept: np.ndarray) -> list[Hashable]:
    return [cluster for cluster, keep in zip(clusters, kept, strict=True) if keep]


def _difference(a: Measured, b: Measured, asked: _Asked) -> Score | None:
    """Over the questions that both could be scored on; None where that leaves no interval."""
    both = a.applies & b.applies
    a, b = a.only(both), b.only(both)
    facts = len(set(_kept(asked.clusters, both)))
    if facts < 2 or not isfinite(b.value - a.value):
        return None
    drawn = [
        m.finish(redraw(cluster_sums(m.sums, asked.clusters), resamples=asked.resamples, seed=asked.seed))
        for m in (a, b)
    ]
    low, high = interval((drawn[1] - drawn[0])[:, None], facts)
    return Score(b.value - a.value, float(low[0]), float(high[0]), int(both.sum()))


def groupings(examples: Sequence[Example]) -> dict[str, dict[str, list[int]]]:
    """``[by][name]``: places of the examples, for each of GROUPINGS that tells any apart."""
    found: dict[str, dict[str, list[int]]] = {}
    for by in GROUPINGS:
        places: dict[str, list[int]] = defaultdict(list)
        for i, example in enumerate(examples):
            places[str(example.metadata.get("source", "") if by == "source" else getattr(example, by))].append(i)
        if len(places) > 1:
            found[by] = dict(places)
    return found


def _groups(rows: Array, both: np.ndarray, better: float, asked: _Asked) -> list[dict[str, Any]]:
    """The mean difference in each group of questions: where b clearly lost first, then by how much it did."""
    groups = []
    for by, names in groupings(asked.examples).items():
        for name, places in names.items():
            kept = [i for i in places if both[i]]
            clusters = [asked.clusters[i] for i in kept]
            if not kept:
                continue
            facts = len(set(clusters))
            group: dict[str, Any] = {"by": by, "name": name, "questions": len(kept), "facts": facts}
            group.update(value=float(rows[kept].mean()), low=None, high=None, p=None)
            if facts > 1:
                group.update(_told(rows[kept], clusters, asked))
            groups.append(group)
    _holm(groups, "p", "p_holm")
    for group in groups:
        group["clear"] = group["p_holm"] is not None and group["p_holm"] < LEVEL
    return sorted(groups, key=lambda g: (not (g["clear"] and better * g["value"] < 0), better * g["value"]))


def _told(rows: Array, clusters: Sequence[str], asked: _Asked) -> dict[str, float]:
    sums = cluster_sums(np.stack([rows, np.ones_like(rows)], axis=1), clusters)
    drawn = ratio(redraw(sums, resamples=asked.resamples, seed=asked.seed))
    low, high = interval(drawn[:, None], len(sums))
    p = sign_flip(rows, clusters, resamples=asked.resamples, seed=asked.seed)
    return {"low": float(low[0]), "high": float(high[0]), "p": p}


def _holm(rows: Sequence[dict[str, Any]], name: str, corrected: str) -> None:
    """Write each row's ``name``, corrected over the rows that have one."""
    tested = [row for row in rows if row[name] is not None]
    for row in rows:
        row[corrected] = None
    for row, p in zip(tested, holm([row[name] for row in tested]), strict=True):
        row[corrected] = p


def _correct(pairs: Sequence[dict[str, Any]]) -> None:
    _holm(pairs, "p", "p_holm")
    _holm([pair["mcnemar"] for pair in pairs if pair["mcnemar"]], "p", "p_holm")
    for pair in pairs:
        pair["clear"] = pair["p_holm"] < LEVEL


def _regressions(
    names: tuple[str, str],
    gains: Array,
    measured: tuple[Measured, Measured],
    answers: Mapping[str, Sequence[Answer]],
    asked: _Asked,
) -> list[dict[str, Any]]:
    values = [m.rows() for m in measured]
    lost = [int(i) for i in np.argsort(gains, kind="stable") if gains[i] < 0]
    return [
        {
            "id": asked.examples[i].id,
            "question": asked.examples[i].question,
            "reference": asked.examples[i].label or asked.examples[i].answer,
            "a": answers[names[0]][i].text,
            "b": answers[names[1]][i].text,
            "a_score": float(values[0][i]),
            "b_score": float(values[1][i]),
        }
        for i in lost
    ]

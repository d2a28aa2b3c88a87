"""Answers of several variants to the same questions -> scores, paired differences and recall, all with intervals.

scores[variant][metric]          Score
differences[set][a][b]           Score of a minus b; the set "both" is the plain mean over the sets
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from typing import Any

import numpy as np

from tinyforge.errors import InputError
from tinyforge.evaluate.bootstrap import Array, Seed, cluster_sums, interval, redraw, resample
from tinyforge.evaluate.measure import Failure, Measured, Metrics, measure, named
from tinyforge.evaluate.metrics import STANDARD, Answer, find_metric
from tinyforge.records import Example, Hit, Score

__all__ = [
    "BOTH",
    "Answer",
    "difference_table",
    "fact_clusters",
    "mean_scores",
    "paired_difference",
    "plain",
    "recall_at",
    "score_of",
    "score_table",
]

BOTH = "both"
_ALWAYS = ("written_f1", "quoted", "declined", "perplexity")


def fact_clusters(
    examples: Sequence[Example], name: str = "", fix: str = "Add documents, or raise dataset.test_fraction."
) -> list[str]:
    """What each question is resampled with: its fact, or its own id where it has none.

    ``name`` is what the error calls the questions (default: their split), ``fix`` what it advises.
    Raises InputError when all questions ask about one fact: then nothing says how much another fact would differ.
    """
    clusters = [example.fact or example.id for example in examples]
    if len(set(clusters)) < 2:
        name = name or (examples[0].split if examples else "held-out")
        raise InputError(
            f"evaluation set {name!r}: {len(examples)} questions about {len(set(clusters))} facts give no interval.",
            fix,
        )
    return clusters


def score_table(
    examples: Sequence[Example],
    answers: Mapping[str, Sequence[Answer]],
    metrics: Metrics = STANDARD,
    *,
    resamples: int,
    seed: Seed,
    failures: list[Failure] | None = None,
) -> dict[str, dict[str, Score]]:
    """``[variant][metric]``: the score over the questions of one set, with its 95% interval.

    The interval comes from a cluster bootstrap over facts (see bootstrap.py): wordings of one fact stand or fall
    together, and treating them as independent would make the interval too narrow. ``declined`` is added for every
    variant, ``perplexity`` for those whose answers carry a likelihood, ``written_f1`` and ``quoted`` for those whose
    answers may give way to a quote; a metric that applies to no answer of a
    variant is left out of its row. Where a metric failed is noted in ``failures``.

    Raises InputError for an unknown metric and for a set with a single fact.
    """
    clusters = fact_clusters(examples)
    wanted = named(metrics) | named([name for name in _ALWAYS if name not in metrics])
    table: dict[str, dict[str, Score]] = {}
    for variant, given in answers.items():
        table[variant] = {}
        for name, metric in wanted.items():
            measured = measure(name, metric, given, examples, failures)
            score = score_of(name, measured, clusters, resamples=resamples, seed=seed, failures=failures)
            if score is not None:
                table[variant][name] = score
    return table


def score_of(
    name: str,
    measured: Measured,
    clusters: Sequence[Hashable],
    *,
    resamples: int,
    seed: Seed,
    failures: list[Failure] | None = None,
) -> Score | None:
    """The value with its interval; None where it is undefined, or rests on a single fact (which is noted)."""
    value = measured.value
    if not isfinite(value):
        return None
    counted = len({cluster for cluster, applies in zip(clusters, measured.applies, strict=True) if applies})
    if counted < 2:
        if failures is not None:
            failures.append(Failure(name, "", f"{measured.n} questions about one fact give no interval"))
        return None
    drawn = measured.finish(redraw(cluster_sums(measured.sums, clusters), resamples=resamples, seed=seed))
    return _scores(np.array([value]), drawn[:, None], counted, measured.n)[0]


def mean_scores(columns: Array, clusters: Sequence[Hashable], *, resamples: int, seed: Seed) -> list[Score]:
    """The mean of each column of (n, k) with its interval; every column sees the same draws."""
    ones = np.ones_like(columns)
    ratios = resample(cluster_sums(columns, clusters), cluster_sums(ones, clusters), resamples=resamples, seed=seed)
    return _scores(columns.mean(axis=0), ratios, len(set(clusters)), len(columns))


def _scores(values: Array, ratios: Array, clusters: int, questions: int) -> list[Score]:
    low, high = interval(ratios, clusters)
    return [Score(float(v), float(a), float(b), questions) for v, a, b in zip(values, low, high, strict=True)]


def paired_difference(a: Array, b: Array, clusters: Sequence[Hashable], *, resamples: int, seed: Seed) -> Score:
    """Mean of ``a - b`` over the same questions, (n,) each, with its interval: the paired cluster bootstrap.

    Pairing takes out what makes a question hard for both, so a difference can be clear although the two scores'
    own intervals overlap. ``clusters`` are those of :func:`fact_clusters`.
    """
    if a.shape != b.shape:
        raise ValueError(f"not paired: {a.shape} and {b.shape}")
    return mean_scores((a - b)[:, None], clusters, resamples=resamples, seed=seed)[0]


def difference_table(
    examples: Mapping[str, Sequence[Example]],
    answers: Mapping[str, Mapping[str, Sequence[Answer]]],
    metric: str = "token_f1",
    *,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, dict[str, Score]]]:
    """``[set][a][b]``: how much variant a scores above variant b, for every ordered pair, in each set and in "both".

    "both" is the mean of the sets' means, each set counting the same; sets are resampled on their own, as their
    facts are different ones.
    """
    variants = [name for name in next(iter(answers.values())) if all(name in given for given in answers.values())]
    table: dict[str, dict[str, dict[str, Score]]] = {}
    means, draws, fewest, questions = [], [], 0, 0
    for number, (name, asked) in enumerate(examples.items()):
        clusters = fact_clusters(asked)
        found = [measure(metric, find_metric(metric), answers[name][v], asked) for v in variants]
        means.append(np.array([measured.value for measured in found]))
        sums = [redraw(cluster_sums(m.sums, clusters), resamples=resamples, seed=(seed, number)) for m in found]
        draws.append(np.stack([m.finish(drawn) for m, drawn in zip(found, sums, strict=True)], axis=1))
        facts = len(set(clusters))
        table[name] = _pairs(variants, means[-1], draws[-1], facts, len(asked))
        fewest, questions = min(fewest or facts, facts), questions + len(asked)
    table[BOTH] = _pairs(variants, np.mean(means, axis=0), np.mean(draws, axis=0), fewest, questions)
    return table


def _pairs(variants: list[str], means: Array, draws: Array, clusters: int, n: int) -> dict[str, dict[str, Score]]:
    result: dict[str, dict[str, Score]] = {}
    for i, first in enumerate(variants):
        scores = _scores(means[i] - means, draws[:, i, None] - draws, clusters, n)
        result[first] = {second: scores[j] for j, second in enumerate(variants) if j != i}
    return result


def recall_at(
    hits: Sequence[Sequence[Hit]], examples: Sequence[Example], k: int, *, resamples: int, seed: Seed
) -> Score:
    """Share of the questions for which one of the first ``k`` passages overlaps a span of the evidence.

    Being in the same section is not enough: only a passage that carries some of the evidence can support the answer.
    Questions without evidence cannot be judged; they are left out, and ``n`` counts those that are in.
    Raises ValueError when none has evidence.
    """
    judged = [(found, ex) for found, ex in zip(hits, examples, strict=True) if ex.evidence]
    if not judged:
        raise ValueError("no question carries evidence, so recall is undefined")
    column = np.array([[float(_carries_evidence(found[:k], example))] for found, example in judged])
    clusters = fact_clusters([example for _, example in judged])
    return mean_scores(column, clusters, resamples=resamples, seed=seed)[0]


def _carries_evidence(hits: Sequence[Hit], example: Example) -> bool:
    return any(hit.span.overlaps(span) for hit in hits for span in example.evidence)


def plain(table: Any) -> Any:
    """The same nested mappings with every Score as ``{"value", "low", "high", "n"}``, ready for JSON."""
    if isinstance(table, Score):
        return asdict(table)
    return {key: plain(value) for key, value in table.items()}

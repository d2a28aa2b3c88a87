"""Answers of several variants to the same questions -> scores, paired differences and recall, all with intervals.

values[variant][metric]          one number per question, numpy (n,)
scores[variant][metric]          Score
differences[set][a][b]           Score of a minus b; the set "both" is the plain mean over the sets
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, isfinite
from typing import Any

import numpy as np

from tinyforge.errors import InputError
from tinyforge.evaluate.bootstrap import Array, Seed, cluster_sums, interval, resample
from tinyforge.evaluate.metrics import METRICS, find_metric
from tinyforge.records import Example, Hit, Score

BOTH = "both"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one variant answered to one question.

    ``nll`` is the negative log likelihood, in nats, summed over the ``tokens`` tokens of the *reference* answer;
    both are None where no model writes (quote).
    """

    text: str
    nll: float | None = None
    tokens: int | None = None
    declined: bool = False
    hits: tuple[Hit, ...] = ()


def fact_clusters(examples: Sequence[Example]) -> list[str]:
    """What each question is resampled with: its fact, or its own id where it has none.

    Raises InputError when all questions ask about one fact: then nothing says how much another fact would differ.
    """
    clusters = [example.fact or example.id for example in examples]
    if len(set(clusters)) < 2:
        name = examples[0].split if examples else "held-out"
        raise InputError(
            f"evaluation set {name!r}: {len(examples)} questions about {len(set(clusters))} facts give no interval.",
            "Add documents, or raise dataset.test_fraction.",
        )
    return clusters


def question_values(examples: Sequence[Example], answers: Sequence[Answer], metrics: Sequence[str]) -> dict[str, Array]:
    """Each metric's value for each question. A declined answer scores 0: every question here has an answer."""
    if len(answers) != len(examples):
        raise ValueError(f"{len(answers)} answers to {len(examples)} questions")
    pairs = list(zip(examples, answers, strict=True))
    values = {}
    for name in metrics:
        metric = find_metric(name)
        values[name] = np.array([0.0 if answer.declined else metric(answer.text, ex) for ex, answer in pairs])
    values["declined"] = np.array([float(answer.declined) for answer in answers])
    return values


def score_table(
    examples: Sequence[Example],
    answers: Mapping[str, Sequence[Answer]],
    metrics: Sequence[str] = tuple(METRICS),
    *,
    resamples: int,
    seed: Seed,
) -> dict[str, dict[str, Score]]:
    """``[variant][metric]``: the mean over the questions of one set, with its 95% interval.

    The interval comes from a cluster bootstrap over facts (see bootstrap.py): wordings of one fact stand or fall
    together, and treating them as independent would make the interval too narrow. ``declined`` is added for every
    variant, and ``perplexity`` for those whose answers carry a likelihood.

    Raises InputError for an unknown metric and for a set with a single fact.
    """
    clusters = fact_clusters(examples)
    table: dict[str, dict[str, Score]] = {}
    for variant, given in answers.items():
        values = question_values(examples, given, metrics)
        scores = mean_scores(np.stack(list(values.values()), axis=1), clusters, resamples=resamples, seed=seed)
        table[variant] = dict(zip(values, scores, strict=True))
        surprise = perplexity(examples, given, resamples=resamples, seed=seed)
        if surprise is not None:
            table[variant]["perplexity"] = surprise
    return table


def mean_scores(columns: Array, clusters: Sequence[Hashable], *, resamples: int, seed: Seed) -> list[Score]:
    """The mean of each column of (n, k) with its interval; every column sees the same draws."""
    ones = np.ones_like(columns)
    ratios = resample(cluster_sums(columns, clusters), cluster_sums(ones, clusters), resamples=resamples, seed=seed)
    return _scores(columns.mean(axis=0), ratios, len(set(clusters)), len(columns))


def _scores(values: Array, ratios: Array, clusters: int, questions: int) -> list[Score]:
    low, high = interval(ratios, clusters)
    return [Score(float(v), float(a), float(b), questions) for v, a, b in zip(values, low, high, strict=True)]


def perplexity(examples: Sequence[Example], answers: Sequence[Answer], *, resamples: int, seed: Seed) -> Score | None:
    """exp(sum of nats / sum of tokens) over the reference answers: long answers weigh more than short ones.

    None when no answer carries a likelihood. Answers without one are left out, and ``n`` counts those that are in.
    """
    rows = [(ex, a.nll, a.tokens) for ex, a in zip(examples, answers, strict=True) if a.nll is not None and a.tokens]
    if not rows:
        return None
    for example, nll, _ in rows:
        if not isfinite(nll):
            raise ValueError(f"question {example.id}: the likelihood of its reference is {nll}")
    clusters = fact_clusters([example for example, _, _ in rows])
    nats = np.array([[nll] for _, nll, _ in rows], dtype=np.float64)
    tokens = np.array([[count] for _, _, count in rows], dtype=np.float64)
    ratios = resample(cluster_sums(nats, clusters), cluster_sums(tokens, clusters), resamples=resamples, seed=seed)
    # exp is monotone, so it may follow the quantiles; and exp of the ratio cannot overflow before 709 nats a token.
    mean = _scores(nats.sum(axis=0) / tokens.sum(axis=0), ratios, len(set(clusters)), len(rows))[0]
    return Score(exp(mean.value), exp(mean.low), exp(mean.high), mean.n)


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
        columns = np.stack([question_values(asked, answers[name][v], [metric])[metric] for v in variants], axis=1)
        sums, sizes = cluster_sums(columns, clusters), cluster_sums(np.ones_like(columns), clusters)
        means.append(columns.mean(axis=0))
        draws.append(resample(sums, sizes, resamples=resamples, seed=(seed, number)))
        table[name] = _pairs(variants, means[-1], draws[-1], len(sums), len(asked))
        fewest, questions = min(fewest or len(sums), len(sums)), questions + len(asked)
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

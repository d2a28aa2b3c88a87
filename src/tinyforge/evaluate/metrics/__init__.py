"""Scores of answers: each metric has a small function or object of its own, found by its name.

base.py says what a metric is and what it is given. A metric of your own is ``(prediction, example) -> float``: in a
file, named ``my_metrics.py:politeness`` on the command line, or behind the entry-point group ``tinyforge.metric``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinyforge.evaluate.metrics.base import Answer, Metric, Pooled, references, unanswerable
from tinyforge.evaluate.metrics.own import from_file, is_file
from tinyforge.evaluate.metrics.squad import exact_match, normalise, token_f1, word_f1
from tinyforge.plugins import load

__all__ = [
    "ALL",
    "METRICS",
    "STANDARD",
    "Answer",
    "Metric",
    "Pooled",
    "exact_match",
    "expanded",
    "find_metric",
    "find_metrics",
    "normalise",
    "references",
    "token_f1",
    "unanswerable",
    "word_f1",
]

METRICS: dict[str, str] = {
    "exact_match": "tinyforge.evaluate.metrics.squad:exact_match",
    "token_f1": "tinyforge.evaluate.metrics.squad:token_f1",
    "bleu": "tinyforge.evaluate.metrics.ngrams:bleu",
    "chrf": "tinyforge.evaluate.metrics.ngrams:chrf",
    "rouge_1": "tinyforge.evaluate.metrics.ngrams:rouge_1",
    "rouge_2": "tinyforge.evaluate.metrics.ngrams:rouge_2",
    "rouge_l": "tinyforge.evaluate.metrics.ngrams:rouge_l",
    "meteor": "tinyforge.evaluate.metrics.meteor:meteor",
    "similarity": "tinyforge.evaluate.metrics.meaning:similarity",
    "coherence": "tinyforge.evaluate.metrics.meaning:coherence",
    "loss": "tinyforge.evaluate.metrics.likelihood:loss",
    "perplexity": "tinyforge.evaluate.metrics.likelihood:perplexity",
    "bits_per_byte": "tinyforge.evaluate.metrics.likelihood:bits_per_byte",
    "accuracy": "tinyforge.evaluate.metrics.classes:accuracy",
    "macro_f1": "tinyforge.evaluate.metrics.classes:macro_f1",
    "brier": "tinyforge.evaluate.metrics.classes:brier",
    "calibration_error": "tinyforge.evaluate.metrics.classes:calibration_error",
    "distinct_1": "tinyforge.evaluate.metrics.diversity:distinct_1",
    "distinct_2": "tinyforge.evaluate.metrics.diversity:distinct_2",
    "repetition": "tinyforge.evaluate.metrics.diversity:repetition",
    "length_ratio": "tinyforge.evaluate.metrics.diversity:length_ratio",
    "groundedness": "tinyforge.evaluate.metrics.grounding:groundedness",
    "written_f1": "tinyforge.evaluate.metrics.grounding:written_f1",
    "quoted": "tinyforge.evaluate.metrics.grounding:quoted",
    "context_use": "tinyforge.evaluate.metrics.grounding:context_use",
    "refusal_f1": "tinyforge.evaluate.metrics.grounding:refusal_f1",
    "declined": "tinyforge.evaluate.metrics.grounding:declined",
    "seconds_per_answer": "tinyforge.evaluate.metrics.speed:seconds_per_answer",
    "tokens_per_second": "tinyforge.evaluate.metrics.speed:tokens_per_second",
}

STANDARD = ("exact_match", "token_f1", "rouge_l", "chrf")
"""What a build reports unless it is asked for more."""

CLASSIFICATION = ("accuracy", "macro_f1", "brier", "calibration_error")

ALL = "all"
"""Stands for every metric that suits the rows."""

AGREEMENT = frozenset(
    ("exact_match", "token_f1", "bleu", "chrf", "rouge_1", "rouge_2", "rouge_l", "meteor", "similarity")
)
"""Those that hold an answer to its references: for them, declining what has an answer is an empty answer."""


def find_metric(name: str) -> Metric | Pooled:
    """The metric of this name. Raises InputError listing the known ones."""
    metric: Metric | Pooled = load("metric", name, METRICS)
    return metric


def expanded(names: Sequence[str], labelled: bool = False) -> list[str]:
    """The names, each once, with ALL replaced by every metric for such rows."""
    suited = [name for name in METRICS if labelled or name not in CLASSIFICATION]
    return list(dict.fromkeys(one for name in names for one in (suited if name == ALL else [name])))


def find_metrics(names: Sequence[str]) -> dict[str, Metric | Pooled]:
    """The metrics under the names that tables show; ``FILE.py:function`` runs that file and is shown as the function.

    Only what a person typed may come here: a name out of a recipe or a run goes to :func:`find_metric`.
    """
    found: dict[str, Metric | Pooled] = {}
    for name in names:
        if is_file(name):
            shown, metric = from_file(name, [*METRICS, *found])
            found[shown] = metric
        else:
            found[name] = find_metric(name)
    return found

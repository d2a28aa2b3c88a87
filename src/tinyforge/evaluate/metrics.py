"""One answer against its references: a number from 0 (nothing in common) to 1 (the same).

An example's references are its answer and whatever ``metadata["references"]`` lists; the best one counts.
A metric of your own is ``(prediction, example) -> float`` behind the entry-point group ``tinyforge.metric``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tinyforge.plugins import load
from tinyforge.records import Example

Metric = Callable[[str, Example], float]

METRICS: dict[str, str] = {
    "exact_match": "tinyforge.evaluate.metrics:exact_match",
    "token_f1": "tinyforge.evaluate.metrics:token_f1",
    "rouge_l": "tinyforge.evaluate.metrics:rouge_l",
    "chrf": "tinyforge.evaluate.metrics:chrf",
}

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def find_metric(name: str) -> Metric:
    """The metric of this name. Raises InputError listing the known ones."""
    metric: Metric = load("metric", name, METRICS)
    return metric


def references(example: Example) -> list[str]:
    """Every answer that counts as right; the example's own comes first."""
    return [example.answer, *example.metadata.get("references", [])]


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, without ASCII punctuation and English articles, single spaces.

    Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text".
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, example: Example) -> float:
    """1 when the normal forms are equal, else 0."""
    found = normalise(prediction)
    return float(any(found == normalise(reference) for reference in references(example)))


def token_f1(prediction: str, example: Example) -> float:
    """Harmonic mean of precision and recall of the words of the normal forms, as multisets."""
    found = normalise(prediction).split()
    return max(_overlap_f1(found, normalise(reference).split()) for reference in references(example))


def _overlap_f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)  # as in SQuAD 2.0: nothing equals only nothing
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


def rouge_l(prediction: str, example: Example) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004), without stemming.

    The words are rouge-score's: runs of a-z and 0-9, so text in another script has none and scores 0.
    """
    scorer = _rouge_scorer()
    return max(float(scorer.score(reference, prediction)["rougeL"].fmeasure) for reference in references(example))


def chrf(prediction: str, example: Example) -> float:
    """Sentence chrF2 over character 1- to 6-grams (Popović 2015) as sacrebleu computes it, scaled to 0..1."""
    return float(_chrf_scorer().sentence_score(prediction, references(example)).score) / 100


# Both libraries take from a fifth of a second to two seconds to import, so that waits for the first answer.
@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)


@lru_cache(maxsize=1)
def _chrf_scorer() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()

"""Overlap of pieces of text, as the libraries that the field reports with compute it: rouge-score and sacrebleu.

Both take from a fifth of a second to two seconds to import, so that waits for the first answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, references
from tinyforge.records import Example


def rouge_1(prediction: str, example: Example) -> float:
    """F-measure of shared words (Lin 2004), without stemming.

    The words are rouge-score's: runs of a-z and 0-9, so text in another script has none and scores 0.
    """
    return _rouge("rouge1", prediction, example)


def rouge_2(prediction: str, example: Example) -> float:
    """F-measure of shared pairs of words."""
    return _rouge("rouge2", prediction, example)


def rouge_l(prediction: str, example: Example) -> float:
    """F-measure of the longest common subsequence of words."""
    return _rouge("rougeL", prediction, example)


def _rouge(kind: str, prediction: str, example: Example) -> float:
    scorer = _rouge_scorer()
    return max(float(scorer.score(reference, prediction)[kind].fmeasure) for reference in references(example))


def chrf(prediction: str, example: Example) -> float:
    """Sentence chrF2 over character 1- to 6-grams (Popović 2015) as sacrebleu computes it, scaled to 0..1."""
    return float(_chrf_scorer().sentence_score(prediction, references(example)).score) / 100


def _bleu_counts(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """For each answer sacrebleu's ten statistics: its length, the reference's, matches and n-grams of 1 to 4 words."""
    scorer = _bleu_scorer()
    rows = [
        scorer._extract_corpus_statistics([answer.text], [[text] for text in references(example)])[0]
        for answer, example in zip(answers, examples, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 10)


def _bleu_of(sums: Array) -> Array:
    scorer = _bleu_scorer()
    flat = [float(scorer._compute_score_from_stats(row.tolist()).score) / 100 for row in sums.reshape(-1, 10)]
    return np.array(flat).reshape(sums.shape[:-1])


bleu = Pooled(_bleu_counts, _bleu_of)
"""Corpus BLEU with 1- to 4-grams (Papineni et al. 2002) as sacrebleu computes it, scaled to 0..1; 0 where no answer
shares four words in a row with its reference, as among answers of three words."""


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)


@lru_cache(maxsize=1)
def _chrf_scorer() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@lru_cache(maxsize=1)
def _bleu_scorer() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(force=True)

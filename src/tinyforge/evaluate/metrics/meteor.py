"""METEOR's score with two of its matchers, the exact word and the stem; without synonyms, which need WordNet.

Lavie & Agarwal 2007, "METEOR: An Automatic Metric for MT Evaluation with High Levels of Correlation with Human
Judgments", with that paper's first parameters: recall weighs nine times precision, and m matched words that lie in c
stretches cost 0.5 (c/m)^3. Held to NLTK, given the same stems, by a test.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from tinyforge.evaluate.metrics.base import references
from tinyforge.evaluate.metrics.squad import normalise
from tinyforge.records import Example
from tinyforge.retrieve.words import stem

RECALL = 0.9  # its weight against precision
PENALTY, POWER = 0.5, 3


def meteor(prediction: str, example: Example) -> float:
    """The score against the best reference, from 0 to less than 1: even equal words are one stretch of matches."""
    found = normalise(prediction).split()
    return max(score(found, normalise(reference).split()) for reference in references(example))


def score(found: list[str], wanted: list[str]) -> float:
    pairs = _align(found, wanted)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(found), len(pairs) / len(wanted)
    mean = precision * recall / (RECALL * precision + (1 - RECALL) * recall)
    return mean * (1 - PENALTY * float(_stretches(pairs) / len(pairs)) ** POWER)


def _align(found: list[str], wanted: list[str]) -> list[tuple[int, int]]:
    """Places of matched words, each used once, exact ones first; from the end, as NLTK does."""
    pairs: list[tuple[int, int]] = []
    left, right = list(range(len(found))), list(range(len(wanted)))
    forms: tuple[Callable[[str], str], ...] = (str, stem)
    for form in forms:
        for i in reversed(left.copy()):
            match = next((j for j in reversed(right) if form(found[i]) == form(wanted[j])), None)
            if match is not None:
                pairs.append((i, match))
                left.remove(i)
                right.remove(match)
    return sorted(pairs)


def _stretches(pairs: list[tuple[int, int]]) -> int:
    """How many runs of words stand in the same order, without a gap, on both sides."""
    breaks = sum((b[0] - a[0], b[1] - a[1]) != (1, 1) for a, b in pairwise(pairs))
    return breaks + 1

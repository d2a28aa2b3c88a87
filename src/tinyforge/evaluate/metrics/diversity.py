"""What can be seen in the answers alone: how varied they are, how much they repeat themselves, how long they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, ratio, references
from tinyforge.records import Example


def _grams(text: str, size: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]


def _different(size: int) -> Callable[[Sequence[Answer], Sequence[Example]], Array]:
    """Rows of (different n-grams, n-grams): one that stands in several places counts for a part in each of them.

    The sums over the whole set are then exact; those over drawn questions, for the interval, keep these parts.
    """

    def count(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
        grams = [_grams(answer.text, size) for answer in answers]
        times = Counter(gram for row in grams for gram in row)
        return np.array([[sum(1 / times[gram] for gram in row), float(len(row))] for row in grams]).reshape(-1, 2)

    return count


def repetition(prediction: str, example: Example) -> float:
    """Share of an answer's four-word stretches that it has already said; 0 below five words."""
    grams = _grams(prediction, 4)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def length_ratio(prediction: str, example: Example) -> float:
    """Words of the answer for each word of the reference that is nearest in length."""
    found = len(prediction.split())
    wanted = min((max(1, len(text.split())) for text in references(example)), key=lambda n: abs(n - found))
    return found / wanted


distinct_1 = Pooled(_different(1), ratio)
"""Different words among all words of all answers (Li et al. 2016, "A Diversity-Promoting Objective Function")."""

distinct_2 = Pooled(_different(2), ratio)
"""The same of pairs of words."""

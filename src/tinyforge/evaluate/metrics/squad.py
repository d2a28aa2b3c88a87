"""Exact match and token F1 as the SQuAD benchmark defines them.

Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text".
"""

from __future__ import annotations

import re
import string
from collections import Counter

from tinyforge.evaluate.metrics.base import references
from tinyforge.records import Example

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, without ASCII punctuation and English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, example: Example) -> float:
    """1 when the normal forms are equal, else 0."""
    found = normalise(prediction)
    return float(any(found == normalise(reference) for reference in references(example)))


def token_f1(prediction: str, example: Example) -> float:
    """Harmonic mean of precision and recall of the words of the normal forms, as multisets."""
    return max(word_f1(prediction, reference) for reference in references(example))


def word_f1(one: str, other: str) -> float:
    """Token F1 of two texts."""
    found, wanted = normalise(one).split(), normalise(other).split()
    if not found or not wanted:
        return float(found == wanted)  # as in SQuAD 2.0: nothing equals only nothing
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))

"""Whether an answer stands on its passages, and whether a model declines when, and only when, it should."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, averaged, unanswerable
from tinyforge.evaluate.metrics.squad import token_f1, word_f1
from tinyforge.records import Example
from tinyforge.retrieve.sentences import sentences

_REFUSALS = re.compile(
    r"\b(?:do(?:es)? not (?:say|know|contain|mention|provide|specify|have (?:the|that|any|enough))|"
    r"(?:is|are) not (?:mentioned|specified|stated|provided|given|in the (?:documents?|passages?|context|text))|"
    r"(?:can ?not|unable to) (?:answer|determine|find|tell|say)|no (?:information|mention|answer))\b"
)


def declines(text: str) -> bool:
    """Whether a text says that it has no answer: NOT_FOUND, or one sentence with a usual wording of it."""
    plain = text.strip().lower().replace("’", "'").replace("can't", "can not").replace("n't", " not")
    return plain == NOT_FOUND.lower() or (len(sentences(text)) <= 1 and bool(_REFUSALS.search(plain)))


def _grounded(answer: Answer, example: Example) -> float | None:
    """The share of the answer's sentences that one of its passages supports; None where nothing was to be read."""
    from tinyforge.serve.support import supported

    if not answer.hits or declines(answer.text):
        return None
    passages = [f"{' > '.join(hit.path)}\n{hit.text}" for hit in answer.hits]
    parts = [answer.text[start:end] for start, end in sentences(answer.text)]
    return sum(supported(part, passages) for part in parts) / len(parts) if parts else 0.0


def _changed(answer: Answer, example: Example) -> float | None:
    said = answer.text if answer.as_written is None else answer.as_written
    return None if answer.swapped is None else 1 - word_f1(said, answer.swapped)


def _as_written(answer: Answer, example: Example) -> float | None:
    if answer.as_written is None:
        return None
    empty = declines(answer.as_written) and not unanswerable(example)
    return 0.0 if empty else token_f1(answer.as_written, example)


def _gave_way(answer: Answer, example: Example) -> float | None:
    return None if answer.as_written is None else float(answer.as_written != answer.text)


def _refusals(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    """Rows of (declined rightly, declined, should have declined)."""
    rows = [
        [float(said and right), float(said), float(right)]
        for said, right in ((declines(a.text), unanswerable(e)) for a, e in zip(answers, examples, strict=True))
    ]
    return np.array(rows).reshape(-1, 3)


def _refusal_f1(sums: Array) -> Array:
    either = sums[..., 1] + sums[..., 2]
    f1 = np.divide(2 * sums[..., 0], either, out=np.zeros_like(either), where=either > 0)
    return np.where(sums[..., 2] > 0, f1, np.nan)


declined = averaged(lambda answer, example: float(answer.declined))
"""Share of the questions that were declined."""

groundedness = averaged(_grounded)
"""Share of an answer's sentences that one of its passages supports (see serve.support: three quarters of the content
words, every number, every name, the same negation); only where passages were given."""

written_f1 = averaged(_as_written)
"""Token F1 of what a model wrote, before a quote took the place of what its passages do not support."""

quoted = averaged(_gave_way)
"""Share of a model's answers that gave way to a quote."""

context_use = averaged(_changed)
"""How much the answer changes when the passages are another question's: 1 less the token F1 of the two answers."""

refusal_f1 = Pooled(_refusals, _refusal_f1)
"""Harmonic mean of how many of the declined questions have no answer, and how many of those without one are declined.
Undefined, and not shown, in a set where every question has an answer."""

"""Where a teacher's examples go once the facts of the documents are divided: into training, or nowhere.

What the tests ask stays as the rules made it. A teacher's example is trained when nothing held out stands in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tinyforge.records import Example, Span
from tinyforge.synthesize.language import normal, words

_GRAM = 8  # words of an answer in a row, as in the clusters of dataset.split


def is_own(example: Example) -> bool:
    """Whether a teacher made the fact, and not only another wording of it."""
    return "teacher" in example.metadata and example.rule != "teacher_paraphrase"


def with_passages(example: Example) -> bool:
    """Whether it is to be trained with passages in its prompt, and only so."""
    return example.metadata.get("ask") == "with passages"


def join(own: Sequence[Example], divided: Sequence[Example]) -> tuple[list[Example], dict[str, int]]:
    """The examples of a teacher that may be trained beside ``divided``, and how many may not, by reason."""
    taught = {e.fact for e in divided if e.split == "train"}
    held = [e for e in divided if e.fact not in taught]
    spans = [span for e in held for span in e.evidence]
    grams = {gram for e in held for gram in _grams(e.answer)}
    asked = {normal(e.question) for e in divided if e.split != "train"}
    reasons: Counter[str] = Counter()
    kept = []
    for example in own:
        reason = _held_out(example, spans, grams, asked)
        if reason:
            reasons[reason] += 1
        else:
            kept.append(replace(example, split="train", cluster=example.fact))
    return kept, dict(reasons)


def _held_out(example: Example, spans: Sequence[Span], grams: set[tuple[str, ...]], asked: set[str]) -> str:
    if any(own.overlaps(span) for own in example.evidence for span in spans):
        return "a teacher's example about a held-out fact"
    said = [m.content for m in example.messages if m.role == "assistant"]
    if not grams.isdisjoint(gram for text in said for gram in _grams(text)):
        return "a teacher's answer that holds a held-out one"
    if any(normal(m.content) in asked for m in example.messages if m.role == "user"):
        return "a teacher's question that a test asks"
    return ""


def _grams(text: str) -> list[tuple[str, ...]]:
    found = words(text)
    return [found[i : i + _GRAM] for i in range(len(found) - _GRAM + 1)]

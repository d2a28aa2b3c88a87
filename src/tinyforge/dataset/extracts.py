"""Examples that are read from a few sentences instead of whole passages: for models too small to find their way there.

The sentences stand in the order in which the search ranks them, as they will when the model is asked: how far down the
answer usually lies is worth knowing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinyforge.dataset.prompts import fit
from tinyforge.dataset.reading import DEPTH, UNANSWERABLE_SHARE, Length, Search, carries, with_prompt
from tinyforge.records import Example, Hit, Span

Nearest = Callable[[Sequence[str], Sequence[Sequence[Hit]]], list[list[Hit]]]
"""Questions and their passages to every sentence of these, each a hit, the one nearest to its question first."""

Split = Callable[[Sequence[Hit]], list[Hit]]
"""Passages to their sentences, each a hit."""


@dataclass(frozen=True)
class Extracts:
    """How sentences are found: the best ``count`` of the best ``passages`` of a search."""

    search: Search
    nearest: Nearest
    split: Split
    passages: int
    count: int

    def ranked(self, questions: Sequence[str], untaught: Sequence[Span]) -> list[tuple[list[Hit], list[Hit]]]:
        """For each question the sentences that it will be asked with, and those of the passages further down.

        None of them carries an ``untaught`` span.
        """
        found = self.search(questions, DEPTH)
        near = self.nearest(questions, [hits[: self.passages] for hits in found])
        far = [self.split(hits[self.passages :]) for hits in found]
        return [(_allowed(a, untaught), _allowed(b, untaught)) for a, b in zip(near, far, strict=True)]


def _allowed(sentences: Sequence[Hit], untaught: Sequence[Span]) -> list[Hit]:
    return [sentence for sentence in sentences if not carries(sentence, untaught)]


def extract_examples(
    examples: Sequence[Example],
    extracts: Extracts,
    untaught: Sequence[Span],
    length: Length,
    limit: int,
    seed: int,
) -> tuple[list[Example], dict[str, int]]:
    """Each example again with the sentences nearest to its question in its prompt, and a count of what was left out.

    In a share of them the sentences of the answer are missing, and the answer is NOT_FOUND; in the others those that
    the search did not bring up are put in. ``length`` counts a prompt's tokens, ``limit`` is the most.
    """
    rng = random.Random(seed)
    result: list[Example] = []
    dropped = {"answer's sentence not retrieved": 0, "answer's sentence too long": 0}
    ranked = extracts.ranked([example.question for example in examples], untaught)
    for example, (near, far) in zip(examples, ranked, strict=True):
        shown, kind = _shown(example, near, far, extracts.count, rng)
        if not shown:
            dropped["answer's sentence not retrieved"] += 1
        elif fit(example.question, shown, length, limit)[1]:
            dropped["answer's sentence too long"] += 1
        else:
            result.append(with_prompt(example, shown, kind))
    return result, {reason: count for reason, count in dropped.items() if count}


def _shown(
    example: Example, near: Sequence[Hit], far: Sequence[Hit], count: int, rng: random.Random
) -> tuple[list[Hit], str]:
    """The sentences of a prompt and what kind it is; none where the answer was not found."""
    if rng.random() < UNANSWERABLE_SHARE:
        others = [hit for hit in near if not carries(hit, example.evidence) and example.answer not in hit.text]
        return others[:count], "missing"
    gold = [hit for hit in (*near, *far) if carries(hit, example.evidence)]
    if not gold:
        return [], ""
    shown = list(near[:count])
    missing = [hit for hit in gold if hit not in shown]
    shown = _without_last(shown, example, len(shown) + len(missing) - max(count, len(gold)))
    for hit in missing:
        shown.insert(rng.randint(0, len(shown)), hit)
    return shown, "passages"


def _without_last(shown: Sequence[Hit], example: Example, surplus: int) -> list[Hit]:
    """Without so many of those that do not carry the answer, the last ones first."""
    others = [i for i, hit in enumerate(shown) if not carries(hit, example.evidence)]
    gone = set(others[len(others) - max(0, surplus) :])
    return [hit for i, hit in enumerate(shown) if i not in gone]

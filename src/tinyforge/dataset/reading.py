"""Examples that are read, not remembered: a question with retrieved passages, and the answer that stands in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from tinyforge.dataset.prompts import NOT_FOUND, closed_book, fit, passages_of, with_passages
from tinyforge.records import Example, Hit, Message, Span, content_id

Search = Callable[[Sequence[str], int], list[list[Hit]]]
Length = Callable[[list[Message]], int]
DEPTH = 10  # how far down the ranking the passage with the answer may lie
UNANSWERABLE_SHARE = 0.15


def carries(hit: Hit, spans: Sequence[Span]) -> bool:
    """Whether the passage overlaps any of the spans."""
    return any(hit.span.overlaps(span) for span in spans)


def reading_examples(
    examples: Sequence[Example],
    search: Search,
    passages: int,
    untaught: Sequence[Span],
    length: Length,
    limit: int,
    seed: int,
) -> tuple[list[Example], dict[str, int]]:
    """Each example again with ``passages`` retrieved passages in its prompt, and a count of what was left out.

    Distractors come with the passage that carries the evidence (RAFT, Zhang et al. 2024); in a share of them that
    passage is missing, and the answer is NOT_FOUND. Passages that carry an ``untaught`` span never appear.
    ``length`` counts a prompt's tokens: distractors are left out, worst first, until it is within ``limit``.
    """
    rng = random.Random(seed)
    found = search([example.question for example in examples], DEPTH)
    result: list[Example] = []
    dropped = {"answer's passage not retrieved": 0, "answer's passage too long": 0}
    for example, hits in zip(examples, found, strict=True):
        allowed = [hit for hit in hits if not carries(hit, untaught)]
        gold = next((hit for hit in allowed if carries(hit, example.evidence)), None)
        others = [hit for hit in allowed if not carries(hit, example.evidence)]
        if gold is None:
            dropped["answer's passage not retrieved"] += 1
        elif rng.random() < UNANSWERABLE_SHARE:
            _, cut = fit(example.question, others[:passages], length, limit)
            result.append(with_prompt(example, others[: passages - cut], "missing"))
        else:
            _, cut = fit(example.question, [gold, *others[: passages - 1]], length, limit)
            if cut == len([gold, *others[: passages - 1]]):
                dropped["answer's passage too long"] += 1
                continue
            result.append(with_prompt(example, place_gold(gold, others, passages - cut, rng), "passages"))
    return result, {reason: count for reason, count in dropped.items() if count}


def place_gold(gold: Hit, others: Sequence[Hit], passages: int, rng: random.Random) -> list[Hit]:
    """The gold passage among its best distractors, at a place drawn at random: its rank must not give it away."""
    chosen = list(others[: passages - 1])
    chosen.insert(rng.randint(0, len(chosen)), gold)
    return chosen


def with_prompt(example: Example, hits: Sequence[Hit], kind: str) -> Example:
    """The example asked with these passages (none: alone); of kind ``missing``, the answer is NOT_FOUND."""
    prompt = with_passages(example.question, passages_of(hits)) if hits else closed_book(example.question)
    answerable = kind != "missing"
    answer = example.answer if answerable else NOT_FOUND
    return replace(
        example,
        id=content_id(example.id, kind),
        messages=(*prompt, Message("assistant", answer)),
        evidence=example.evidence if answerable else (),
        metadata={**example.metadata, "reading": kind, "question": example.question},
    )

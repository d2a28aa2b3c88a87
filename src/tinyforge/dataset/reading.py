"""Examples that are read, not remembered: a question with retrieved passages, and the answer that stands in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from tinyforge.dataset.prompts import NOT_FOUND, fit
from tinyforge.records import Example, Hit, Message, Span, content_id

Search = Callable[[Sequence[str], int], list[list[Hit]]]
DEPTH = 10  # how far down the ranking the passage with the answer may lie
UNANSWERABLE_SHARE = 0.15


def _carries(hit: Hit, spans: Sequence[Span]) -> bool:
    return any(hit.span.overlaps(span) for span in spans)


def reading_examples(
    examples: Sequence[Example],
    search: Search,
    passages: int,
    untaught: Sequence[Span],
    length: Callable[[list[Message]], int],
    limit: int,
    seed: int,
) -> tuple[list[Example], dict[str, int]]:
    """Each example again with ``passages`` retrieved passages in its prompt, and a count of what was left out.

    Distractors come with the passage that carries the evidence (RAFT, Zhang et al. 2024); in a share of them that
    passage is missing, and the answer is NOT_FOUND. Passages that carry an ``untaught`` span never appear.
    ``length`` counts a prompt's tokens; passages beyond ``limit`` are dropped from the end of the ranking, but never
    the one that carries the evidence.
    """
    rng = random.Random(seed)
    found = search([example.question for example in examples], DEPTH)
    result: list[Example] = []
    dropped = {"answer's passage not retrieved": 0, "answer's passage did not fit": 0}
    for example, hits in zip(examples, found, strict=True):
        allowed = [hit for hit in hits if not _carries(hit, untaught)]
        gold = [hit for hit in allowed if _carries(hit, example.evidence)]
        others = [hit for hit in allowed if hit not in gold]
        answerable = rng.random() >= UNANSWERABLE_SHARE
        if not gold:
            dropped["answer's passage not retrieved"] += 1
            continue
        chosen = _place(gold[0], others, passages, rng) if answerable else others[:passages]
        if not chosen:
            continue
        messages, cut = fit(example.question, chosen, length, limit)
        if answerable and gold[0] not in chosen[: len(chosen) - cut]:
            dropped["answer's passage did not fit"] += 1
            continue
        result.append(_with_prompt(example, messages, answerable))
    return result, {reason: count for reason, count in dropped.items() if count}


def _place(gold: Hit, others: Sequence[Hit], passages: int, rng: random.Random) -> list[Hit]:
    """The gold passage among its best distractors, at a place drawn at random: its rank must not give it away."""
    chosen = list(others[: passages - 1])
    chosen.insert(rng.randint(0, len(chosen)), gold)
    return chosen


def _with_prompt(example: Example, messages: list[Message], answerable: bool) -> Example:
    answer = example.answer if answerable else NOT_FOUND
    return replace(
        example,
        id=content_id(example.id, "reading"),
        messages=(*messages, Message("assistant", answer)),
        evidence=example.evidence if answerable else (),
        metadata={**example.metadata, "reading": True, "answerable": answerable},
    )

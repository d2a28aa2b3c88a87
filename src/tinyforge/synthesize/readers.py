"""The round trip: whether a reader that sees only the retrieved passages arrives at the answer.

Filtering by it comes within half a point of F1 of questions written by people (Alberti et al. 2019, arXiv:1906.05416;
Lewis et al. 2021, arXiv:2102.07033).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tinyforge.dataset.prompts import passages_of, with_passages
from tinyforge.dataset.reading import carries
from tinyforge.models.calls import Call
from tinyforge.models.endpoint import Options
from tinyforge.models.structured import extract_json
from tinyforge.records import Document, Hit, Message
from tinyforge.retrieve.quote import quote_many
from tinyforge.synthesize.grounding import share_held, token_f1
from tinyforge.synthesize.prompts import READ
from tinyforge.synthesize.teacher import Item, Reader

if TYPE_CHECKING:
    from tinyforge.retrieve.index import Index

PASSAGES, DEPTH = 3, 10
ANSWERED = 0.7  # share of a question's content words in the sentence found, from which that counts as its answer
SAME = 0.5  # token F1 of two answers from which they are one
READ_TOKENS = 200

Ask = Callable[[Sequence[Call]], list[str | None]]


def quoting(index: Index, documents: dict[str, Document]) -> Reader:
    """The reader without a model that writes: its sentence must be one that the answer stands on."""

    def read(items: Sequence[Item]) -> list[tuple[bool, float]]:
        found = _passages(items, index)
        usable = [i for i, hits in enumerate(found) if hits]
        quotes = quote_many([items[i].asked for i in usable], [found[i] for i in usable], index.embedder)
        results = [(False, 0.0)] * len(items)
        for i, quote in zip(usable, quotes, strict=True):
            item = items[i]
            if item.task.prompt.name == "unanswerable":
                answered = share_held(item.asked, quote.text)
                results[i] = (answered < ANSWERED, 1 - answered)
            else:
                meets = any(span.overlaps(own) for span in quote.spans for own in item.evidence)
                evidence = " ".join(documents[span.document].slice(span) for span in item.evidence)
                results[i] = (meets, token_f1(quote.text, evidence))
        return results

    return read


def teaching(index: Index, ask: Ask) -> Reader:
    """The teacher reads its own questions, with the passages and without its answers."""

    def read(items: Sequence[Item]) -> list[tuple[bool, float]]:
        found = _passages(items, index)
        replies = ask([_call(item, hits) for item, hits in zip(items, found, strict=True)])
        return [_compare(item, reply) for item, reply in zip(items, replies, strict=True)]

    return read


def _passages(items: Sequence[Item], index: Index) -> list[list[Hit]]:
    """The best passages for each question; none where the evidence of its answer is not retrieved at all."""
    found = index.search_many([item.asked for item in items], DEPTH) if items else []
    return [_chosen(item, hits) for item, hits in zip(items, found, strict=True)]


def _chosen(item: Item, hits: Sequence[Hit]) -> list[Hit]:
    gold = [hit for hit in hits if carries(hit, item.evidence)]
    if item.task.prompt.name == "unanswerable":
        return list(hits[:PASSAGES])
    return list(dict.fromkeys([*hits[:PASSAGES], *gold[:2]])) if gold else []


def _call(item: Item, hits: Sequence[Hit]) -> Call:
    prompt = with_passages(item.asked, passages_of(hits))
    return Call((Message("system", READ), *prompt), "read", Options(READ_TOKENS, json=True))


def _compare(item: Item, reply: str | None) -> tuple[bool, float]:
    data = extract_json(reply or "")
    answer = str(data.get("answer", "")) if isinstance(data, dict) else ""
    if item.task.prompt.name == "unanswerable":
        return isinstance(data, dict) and not answer.strip(), float(not answer.strip())
    score = max(token_f1(answer, item.answer), share_held(answer, item.answer) if answer.strip() else 0.0)
    return score >= SAME, score

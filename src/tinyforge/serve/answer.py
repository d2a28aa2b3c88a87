"""The one way to answer a question from a run; `tinyforge ask`, the chat and the API all come through here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.quote import Piece, pieces, quote
from tinyforge.retrieve.words import words
from tinyforge.serve.support import evidence, supported

__all__ = ["VARIANTS", "Citation", "Reply", "calibrate", "respond", "supported"]

VARIANTS = ("quote", "base", "tuned", "base+retrieval", "tuned+retrieval")
LONGEST_QUESTION = 4000  # characters

Stream = Callable[[list[Message]], Iterator[str]]
Prompt = Callable[[str, Sequence[Hit]], list[Message]]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where an answer stands: characters ``[start, end)`` of the source's normalised text, which say ``text``.

    ``page`` counts from 1; 0 where the source has no pages.
    """

    source: str
    section: str
    start: int
    end: int
    text: str
    page: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``quoted``: what the model wrote was not supported by the documents and gave way to their words."""

    answer: str
    citations: tuple[Citation, ...]
    declined: bool
    variant: str
    quoted: bool = False


def respond(
    question: str,
    *,
    variant: str,
    index: Index,
    complete: Stream | None,
    prompt: Prompt,
    threshold: float,
    k: int,
    on_token: Callable[[str], None] | None = None,
    context: str = "",
) -> Reply:
    """Answer from the documents, or say that they do not hold the answer.

    The question is declined when no passage is as similar to it as ``threshold``. The variants with "+retrieval" put
    the hits into the prompt, the closed-book ones none. What a model wrote is replaced by a quote when it is empty, a
    decline or not supported by the hits; only ``base`` alone is left as it is, being there for comparison.
    ``context`` is put before the question when searching (an earlier question that it leans on). ``on_token`` gets
    the model's tokens as they come.
    Raises InputError for an empty or overlong question, an unknown variant, and a missing model.
    """
    _check(question, variant, complete)
    searched = f"{context} {question}".strip()
    hits = index.search(searched, k)
    if max(hit.similarity for hit in hits) < threshold:
        return Reply(_no_answer(hits), (), True, variant)
    if variant == "quote" or complete is None:
        return _quote(searched, hits, index, variant, quoted=False)
    messages = prompt(question, hits if variant.endswith("+retrieval") else ())
    answer = _collect(complete(messages), on_token).strip()
    if variant != "base" and not _stands(answer, hits):
        return _quote(searched, hits, index, variant, quoted=True)
    return Reply(answer, tuple(_cite(index, *found) for found in evidence(answer, hits)), False, variant)


def _check(question: str, variant: str, complete: Stream | None) -> None:
    if not question.strip():
        raise InputError("the question is empty.", "Ask something.")
    if len(question) > LONGEST_QUESTION:
        raise InputError(f"the question has {len(question)} characters.", f"Ask in at most {LONGEST_QUESTION}.")
    if variant not in VARIANTS:
        raise InputError(f"unknown variant {variant!r}.", f"Known: {', '.join(VARIANTS)}.")
    if complete is None and variant != "quote":
        raise InputError(f"variant {variant!r} needs a model, and none is loaded.", "Use --variant quote.")


def _collect(tokens: Iterable[str], on_token: Callable[[str], None] | None) -> str:
    parts = []
    for token in tokens:
        parts.append(token)
        if on_token is not None:
            on_token(token)
    return "".join(parts)


def _stands(answer: str, hits: Sequence[Hit]) -> bool:
    """Whether a model's answer may be given as it is."""
    declines = words(answer) == words(NOT_FOUND)
    return not declines and supported(answer, [f"{' > '.join(hit.path)}\n{_named(hit)}" for hit in hits])


def _named(hit: Hit) -> str:
    """The text of a passage with its table cells behind their row and column."""
    return "\n".join(f"{piece.name}: {piece.text}" if piece.name else piece.text for piece in pieces(hit))


def _quote(searched: str, hits: Sequence[Hit], index: Index, variant: str, quoted: bool) -> Reply:
    found = quote(searched, hits, index.embedder)
    places = {piece.span: (hit, piece) for hit in reversed(hits) for piece in pieces(hit)}
    return Reply(found.text, tuple(_cite(index, *places[span]) for span in found.spans), False, variant, quoted)


def _cite(index: Index, hit: Hit, piece: Piece) -> Citation:
    span = piece.span
    return Citation(hit.source, section(hit), span.start, span.end, piece.text, index.page(span))


def section(hit: Hit) -> str:
    """The headings above a passage as one line."""
    return " > ".join(hit.path)


def _no_answer(hits: Sequence[Hit]) -> str:
    nearest = list(dict.fromkeys(f"{section(hit)} ({hit.source})" for hit in hits))
    return f"The documents do not hold the answer. The nearest sections are: {'; '.join(nearest)}."


def calibrate(top_similarities_answerable: Sequence[float]) -> float:
    """The similarity below which a question is declined.

    The 5th percentile (linear between ranks) of the best similarities of questions that the documents do answer, so
    that about one answerable question in twenty is declined. It is kept within 0.25 and 0.42: measured on a
    handbook, questions on other matters stay below 0.40 in five of six cases, while 95% of the answerable ones lie
    above 0.42; and below 0.25 nothing would be declined.
    """
    if not top_similarities_answerable:
        raise InputError("no answerable question to set the decline threshold from.", "Build the run again.")
    ordered = sorted(top_similarities_answerable)
    place = 0.05 * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return min(0.42, max(0.25, below + (above - below) * (place - math.floor(place))))

"""The one way to answer a question from a run; `tinyforge ask`, the chat and the API all come through here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message, Span
from tinyforge.retrieve.knowledge import Searchable
from tinyforge.retrieve.quote import Piece, Quote, closeness, pieces, quote, to_read
from tinyforge.retrieve.sentences import sentences as split_sentences
from tinyforge.retrieve.words import words
from tinyforge.serve.support import evidence, supported, verbatim

__all__ = ["VARIANTS", "Citation", "Reply", "Sentence", "calibrate", "respond", "stands", "supported"]

VARIANTS = ("quote", "base", "few-shot", "tuned", "base+retrieval", "tuned+retrieval")
LONGEST_QUESTION = 4000  # characters
THRESHOLD = 0.44  # closeness below which a question is declined where no run has set one; see `calibrate`

Stream = Callable[[list[Message]], Iterator[str]]
Prompt = Callable[[str, Sequence[Hit]], list[Message]]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where an answer stands: characters ``[start, end)`` of the source's normalised text, which say ``text``.

    ``page`` counts from 1; 0 where the source has no pages. ``passage`` is the text around it, from ``passage_start``.
    """

    source: str
    section: str
    start: int
    end: int
    text: str
    page: int = 0
    passage: str = ""
    passage_start: int = 0

    def parts(self) -> tuple[str, str, str]:
        """The passage before the cited characters, these, and what comes after."""
        start, end = self.start - self.passage_start, self.end - self.passage_start
        return self.passage[:start], self.passage[start:end], self.passage[end:]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Characters ``[start, end)`` of an answer. ``citation`` is the place in ``Reply.citations`` of what it stands on.

    ``supported`` is False where the documents do not bear it out, and where nothing was looked up.
    """

    start: int
    end: int
    supported: bool
    citation: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. ``quoted``: what the model wrote was not supported by the documents and gave way to their words."""

    answer: str
    citations: tuple[Citation, ...]
    declined: bool
    variant: str
    quoted: bool = False
    sentences: tuple[Sentence, ...] = ()

    def unsupported(self) -> list[str]:
        """The sentences that are not borne out."""
        return [self.answer[one.start : one.end] for one in self.sentences if not one.supported]


def respond(
    question: str,
    *,
    variant: str,
    index: Searchable,
    complete: Stream | None,
    prompt: Prompt,
    threshold: float,
    k: int,
    on_token: Callable[[str], None] | None = None,
    context: str = "",
    sentences: int = 0,
) -> Reply:
    """Answer from the documents, or say that they do not hold the answer.

    The question is declined when the documents come no nearer to it than ``threshold`` (see ``closeness``). The
    variants with "+retrieval" put the hits into the prompt, or so many of their ``sentences`` (see ``to_read``), the
    closed-book ones none. What a model wrote is replaced by a quote where it does not stand (see ``stands``); where
    some of its sentences are supported it does, and ``Reply.sentences`` tells which are not. Only ``base`` alone is
    left as it is, being there for comparison. ``context`` is an earlier question that this one leans on: it helps the
    search, and is not in the prompt. ``on_token`` gets the model's tokens as they come.
    Raises InputError for an empty or overlong question, an unknown variant, and a missing model.
    """
    _check(question, variant, complete)
    searched = f"{question} {context} {question}" if context else question
    hits = index.search(searched, k)
    found = quote(searched, hits, index.embedder)
    if closeness(found, hits) < threshold:
        return Reply(_no_answer(hits), (), True, variant)
    if variant == "quote" or complete is None:
        return _quoted(found, hits, index, variant, quoted=False)
    given = to_read([searched], [hits], index.embedder, sentences)[0] if variant.endswith("+retrieval") else ()
    answer = _collect(complete(prompt(question, given)), on_token).strip()
    if variant == "base" or stands(answer, hits, copied=bool(given and sentences)):
        return _examined(answer, hits, index, variant)
    return _quoted(found, hits, index, variant, quoted=True)


def stands(answer: str, hits: Sequence[Hit], copied: bool) -> bool:
    """Whether what a model wrote is an answer, and supported by the hits in at least one of its sentences.

    ``copied`` asks for more, of models that are small enough to be given single sentences: the hits' own words.
    """
    passages = _passages(hits)
    if copied:
        return words(answer) != words(NOT_FOUND) and verbatim(answer, [*passages, *(hit.text for hit in hits)])
    parts = [answer[start:end] for start, end in split_sentences(answer)]
    return words(answer) != words(NOT_FOUND) and any(supported(part, passages) for part in parts)


def model_of(variant: str) -> str:
    """Which of a run's models a variant asks: ``base`` or ``tuned``."""
    return "tuned" if variant.startswith("tuned") else "base"


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


def _examined(answer: str, hits: Sequence[Hit], index: Searchable, variant: str) -> Reply:
    """What a model wrote, sentence by sentence: is it supported, and by which place."""
    passages = _passages(hits)
    cited: dict[Citation, int] = {}
    found = []
    for (start, end), place in evidence(answer, hits):
        number = cited.setdefault(_cite(index, *place), len(cited)) if place else None
        found.append(Sentence(start, end, supported(answer[start:end], passages), number))
    return Reply(answer, tuple(cited), False, variant, sentences=tuple(found))


def _passages(hits: Sequence[Hit]) -> list[str]:
    return [f"{' > '.join(hit.path)}\n{_named(hit)}" for hit in hits]


def _named(hit: Hit) -> str:
    """The text of a passage with its table cells behind their row and column."""
    return "\n".join(f"{piece.name}: {piece.text}" if piece.name else piece.text for piece in pieces(hit))


def _quoted(found: Quote, hits: Sequence[Hit], index: Searchable, variant: str, quoted: bool) -> Reply:
    citations = tuple(_cite(index, *_place(span, hits)) for span in found.spans)
    sentences, start = [], 0
    for number, citation in enumerate(citations):
        sentences.append(Sentence(start, start + len(citation.text), True, number))
        start += len(citation.text) + 1
    return Reply(found.text, citations, False, variant, quoted, tuple(sentences))


def _place(span: Span, hits: Sequence[Hit]) -> tuple[Hit, Piece]:
    """The first of the hits that holds the quoted characters, and these."""
    own = (hit for hit in hits if hit.span.document == span.document)
    hit = next(hit for hit in own if hit.span.start <= span.start and span.end <= hit.span.end)
    return hit, Piece(span, hit.text[span.start - hit.span.start : span.end - hit.span.start], "")


def _cite(index: Searchable, hit: Hit, piece: Piece) -> Citation:
    span = piece.span
    page = index.page(span)
    return Citation(hit.source, section(hit), span.start, span.end, piece.text, page, hit.text, hit.span.start)


def section(hit: Hit) -> str:
    """The headings above a passage as one line."""
    return " > ".join(hit.path)


def _no_answer(hits: Sequence[Hit]) -> str:
    nearest = list(dict.fromkeys(f"{section(hit)} ({hit.source})" for hit in hits))
    return f"The documents do not hold the answer. The nearest sections are: {'; '.join(nearest)}."


def calibrate(closeness_answerable: Sequence[float]) -> float:
    """The closeness below which a question is declined.

    The 5th percentile (linear between ranks) of the closeness of questions that the documents do answer, so that about
    one answerable question in twenty is declined. A run's own questions are made from its sentences and lie nearer to
    them than what people ask, so it is kept within 0.25 and ``THRESHOLD``: on 178 questions written by hand on a
    handbook, on which it was chosen, 0.44 declines one in ten of those that it answers and four in five of those that
    it does not, most of which are on its own matters (bench/retrieval.py); and below 0.25 nothing would be declined. Of
    questions in words that are hardly the documents' own it declines more of the first and fewer of the second.
    """
    if not closeness_answerable:
        raise InputError("no answerable question to set the decline threshold from.", "Build the run again.")
    ordered = sorted(closeness_answerable)
    place = 0.05 * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return min(THRESHOLD, max(0.25, below + (above - below) * (place - math.floor(place))))

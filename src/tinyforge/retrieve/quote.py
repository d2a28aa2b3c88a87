"""An answer without a model that writes: the sentence of the retrieved passages that fits the question best.

A sentence (or the sentence of a table cell or list item) is embedded behind its heading, because "Open enrollment is
in November" alone does not say of what. The cosine to the question decides; small terms settle what embeddings see
poorly: shared rare words (of a cell also those of its row and column), the early sentences that state what later ones
qualify, and that a colon, a question or a fragment is no answer. The constants were measured once, on hand-written
questions (docs/decisions/retrieval.md).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tinyforge.errors import InputError
from tinyforge.records import Hit, Span
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.sentences import sentences
from tinyforge.retrieve.words import content_words

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Vectors

PASSAGE = 0.2  # times the cosine of the whole passage
WORDS = 0.1  # times the share of the question's words that sentence and cell name have, rare ones counting more
EARLY = 0.1  # over the place of the sentence in its passage
LENGTH = 0.05  # times its length, in full from 200 characters
NO_STATEMENT = 0.1  # taken off a question, an announcement that ends in a colon, a bare link, a fragment, an echo
CELL = 0.2  # for a cell of a table whose row and column the question names
NEIGHBOUR_MARGIN = 0.02
LONGEST_ROW = 300  # characters of a table's row that are quoted as a whole


@dataclass(frozen=True, slots=True)
class Quote:
    """``text`` is the sentences of ``spans`` (or a table's row), each verbatim, joined by a space.

    ``cosine`` is that of the sentence which is nearest to the question, which need not be one of these.
    """

    text: str
    spans: tuple[Span, ...]
    cosine: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence of a passage: where it stands, and the cell it belongs to ("" outside tables)."""

    span: Span
    text: str
    name: str


def pieces(hit: Hit) -> list[Piece]:
    """The sentences of a passage in order; those of a table cell by cell, without its header."""
    found = []
    for start, end, name in _stretches(hit):
        for left, right in sentences(hit.text[start:end]):
            span = Span(hit.span.document, hit.span.start + start + left, hit.span.start + start + right)
            found.append(Piece(span, hit.text[start + left : start + right], name))
    return found


def _stretches(hit: Hit) -> Iterator[tuple[int, int, str]]:
    """The cells and what lies between them."""
    last = 0
    for start, end, name in hit.cells:
        yield last, start, ""
        if name:
            yield start, end, name
        last = end
    yield last, len(hit.text), ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    hit: Hit
    place: int  # of the sentence in its passage, from 0
    piece: Piece

    @property
    def searched(self) -> str:
        return ": ".join(part for part in (self.hit.path[-1], self.piece.name, self.piece.text) if part)

    @property
    def alone(self) -> Hit:
        """The sentence as a passage."""
        path = tuple(part for part in (self.hit.path[-1], self.piece.name) if part)
        return replace(self.hit, span=self.piece.span, text=self.piece.text, path=path, cells=())

    def joined(self, other: Piece) -> Hit:
        """The same with the sentence next to it, and what stands between them."""
        start, end = min(self.piece.span.start, other.span.start), max(self.piece.span.end, other.span.end)
        text = self.hit.text[start - self.hit.span.start : end - self.hit.span.start]
        return replace(self.alone, span=Span(self.piece.span.document, start, end), text=text)

    @property
    def prior(self) -> float:
        """What speaks for the sentence whatever the question is."""
        text = self.piece.text
        fragment = len(text.split()) < 4 and not self.piece.name
        no_statement = text[-1] in ":?" or "://" in text or fragment
        return (
            PASSAGE * self.hit.similarity
            + EARLY / (1 + self.place)
            + LENGTH * min(len(text), 200) / 200
            - NO_STATEMENT * no_statement
        )


def quote(question: str, hits: Sequence[Hit], embedder: Embedder) -> Quote:
    """The best sentence of the hits, with its neighbour where that fits nearly as well.

    Raises InputError when there is nothing to quote from.
    """
    return quote_many([question], [hits], embedder)[0]


def quote_many(questions: Sequence[str], hits: Sequence[Sequence[Hit]], embedder: Embedder) -> list[Quote]:
    """The same for many questions; every distinct sentence is embedded once, all in one go."""
    ranked = list(_ranked(questions, hits, embedder))
    for question, (row, _, _) in zip(questions, ranked, strict=True):
        if not row:
            raise InputError(f"nothing was found to quote for {question!r}.", "Ask about what the documents hold.")
    return [_best(row, scores, float(cosines.max())) for row, scores, cosines in ranked]


def nearest_many(
    questions: Sequence[str], hits: Sequence[Sequence[Hit]], embedder: Embedder, count: int
) -> list[list[Hit]]:
    """For each question the ``count`` sentences of its hits that fit it best, best first; all of them for 0.

    Each is a hit of its own, under its heading and the name of its cell alone. The first is what would be quoted,
    with its neighbour. A model too small to find its way in whole passages is given these.
    """
    return [_nearest(row, scores)[: count or None] for row, scores, _ in _ranked(questions, hits, embedder)]


def to_read(
    questions: Sequence[str], hits: Sequence[Sequence[Hit]], embedder: Embedder, sentences: int
) -> Sequence[Sequence[Hit]]:
    """What a model is given of each question's hits: so many of their best sentences, or for 0 the hits as they are."""
    return nearest_many(questions, hits, embedder, sentences) if sentences else hits


def sentences_of(hits: Sequence[Hit]) -> list[Hit]:
    """Every sentence of the hits as :func:`nearest_many` gives it, in reading order and not ranked."""
    return [_Candidate(hit, i, piece).alone for hit in hits for i, piece in enumerate(pieces(hit))]


def _nearest(row: Sequence[_Candidate], scores: Sequence[float]) -> list[Hit]:
    order = sorted(range(len(row)), key=lambda i: (-scores[i], i))
    taken = [i for i in _neighbour(order[0], row, scores) if not row[i].piece.name] if order else []
    found = [row[i].joined(row[taken[0]].piece) if taken and i == order[0] else row[i].alone for i in order]
    first: dict[str, Hit] = {}
    for i, hit in zip(order, found, strict=True):
        if i not in taken:
            first.setdefault(hit.text, hit)
    return list(first.values())


def _ranked(
    questions: Sequence[str], hits: Sequence[Sequence[Hit]], embedder: Embedder
) -> Iterator[tuple[list[_Candidate], list[float], Vectors]]:
    """For each question the sentences of its hits, with their scores and their cosines."""
    rows = [[_Candidate(h, i, piece) for h in found for i, piece in enumerate(pieces(h))] for found in hits]
    texts = list(dict.fromkeys(candidate.searched for row in rows for candidate in row))
    known = {text: i for i, text in enumerate(texts)}
    sentence_vectors, question_vectors = embedder.embed(texts), embedder.embed(questions)
    for i, (question, row) in enumerate(zip(questions, rows, strict=True)):
        cosines = sentence_vectors[[known[c.searched] for c in row]] @ question_vectors[i]
        yield row, _scores(question, row, cosines), cosines


def closeness(quoted: Quote, hits: Sequence[Hit]) -> float:
    """How near the documents come to a question: the mean of the best passage's cosine and the best sentence's.

    A passage is near to every question on its matter, its sentences only to those that it answers. At the threshold of
    bench/retrieval.py fewer answerable questions are declined than by the passage's cosine alone.
    """
    return (max(hit.similarity for hit in hits) + quoted.cosine) / 2


def _scores(question: str, row: Sequence[_Candidate], cosines: Vectors) -> list[float]:
    shared = _shared_words(question, [f"{c.piece.name} {c.piece.text}" for c in row])
    asked = frozenset(content_words(question))
    return [
        float(cosine) + WORDS * share + c.prior + _fit(c.piece, asked)
        for cosine, share, c in zip(cosines, shared, row, strict=True)
    ]


def _fit(piece: Piece, asked: frozenset[str]) -> float:
    """By the content words of the question: whether it asks for just this cell, or says already what this says."""
    name = content_words(piece.name) if ", " in piece.name else []
    named = bool(name) and asked.issuperset(name)
    return CELL * named - NO_STATEMENT * asked.issuperset(content_words(piece.text))


def _shared_words(question: str, texts: Sequence[str]) -> list[float]:
    """For each text, the share of the question's content words in it, weighted by their rarity among the texts."""
    asked = list(dict.fromkeys(content_words(question)))
    held = [frozenset(content_words(text)) for text in texts]
    frequency = Counter(word for words in held for word in words)
    weight = {word: math.log(1 + len(texts) / (1 + frequency[word])) for word in asked}
    total = sum(weight.values())
    return [sum(weight[word] for word in asked if word in words) / total if total else 0.0 for words in held]


def _best(row: Sequence[_Candidate], scores: Sequence[float], cosine: float) -> Quote:
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    taken = [row[i].piece for i in sorted({best, *_neighbour(best, row, scores)})]
    names = {piece.name for piece in taken}
    whole = _row(row[best]) if len(names) > 1 or not _answers_alone(row[best].piece) else None
    if whole is not None:
        return Quote(whole.text, (whole.span,), cosine)
    return Quote(" ".join(piece.text for piece in taken), tuple(piece.span for piece in taken), cosine)


def _answers_alone(piece: Piece) -> bool:
    """Whether a piece answers by itself: it is no cell, or one that row and column name, unlike a row's own name."""
    return not piece.name or ", " in piece.name


def _row(found: _Candidate) -> Piece | None:
    """The row of a table that a cell is in; None for anything else, and for a row too long to quote."""
    text, start = found.hit.text, found.piece.span.start - found.hit.span.start
    if not found.piece.name:
        return None
    first, last = text.rfind("\n", 0, start) + 1, text.find("\n", start)
    whole = text[first : last if last >= 0 else len(text)]
    if len(whole) > LONGEST_ROW:
        return None
    place = found.hit.span.start + first
    return Piece(Span(found.hit.span.document, place, place + len(whole)), whole, "")


def _neighbour(best: int, row: Sequence[_Candidate], scores: Sequence[float]) -> list[int]:
    """The sentence next to the best one that is quoted with it, if any: an announcement brings what it announces."""
    around = [i for i in (best - 1, best + 1) if 0 <= i < len(row) and row[i].hit == row[best].hit]
    if row[best].piece.text.endswith(":") and best + 1 in around:
        return [best + 1]
    close = [i for i in around if scores[i] >= scores[best] - NEIGHBOUR_MARGIN]
    return sorted(close, key=lambda i: (-scores[i], i))[:1]

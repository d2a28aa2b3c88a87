"""Search one index or several as one: two rankings, by meaning and by words, joined by reciprocal rank fusion.

A passage's score is the sum over the rankings of ``1 / (60 + rank)`` (Cormack, Clarke and Buettcher, SIGIR 2009). Of
several indexes the rankings are merged first, by cosine and by BM25 score; the latter is an index's own, in which a
word is as rare as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tinyforge.records import Hit, Span

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Embedder

FUSION = 60.0
DEPTH = 50  # how far down each ranking is read; more changes nothing within the top ten
RERANKED = 20  # passages that a cross-encoder looks at

Scored = tuple[float, int]
Place = tuple[int, int]
Order = Callable[[str, Sequence[Hit]], list[Hit]]
"""A question and its hits to the same hits in a better order."""


class Ranked(Protocol):
    """What an index has to offer to be searched."""

    @property
    def embedder(self) -> Embedder: ...

    def by_meaning(self, vector: Any, depth: int) -> list[Scored]:
        """The best ``(cosine, position)``, best first."""

    def by_words(self, question: str, depth: int) -> list[Scored]:
        """The best ``(BM25 score, position)``, best first."""

    def fetch(self, positions: Sequence[int]) -> None:
        """Read these passages in one go, for the calls of ``hit`` that follow."""

    def hit(self, position: int, score: float, vector: Any, widen: int) -> Hit:
        """The passage at a position, with as much of its section as ``widen`` characters hold."""


def search_together(
    indexes: Sequence[Ranked], questions: Sequence[str], k: int, widen: int = 0, order: Order | None = None
) -> list[list[Hit]]:
    """For each question the ``k`` best passages of all indexes, best first, no passage twice.

    ``widen`` above 0 lets a passage grow to its section, or that part of it that so many characters hold; what another
    passage already shows is left out. ``order`` puts the first ``RERANKED`` in order anew. The indexes must share
    their embedding model.
    """
    vectors = indexes[0].embedder.embed(questions)
    return [_search(indexes, question, vectors[i], k, widen, order) for i, question in enumerate(questions)]


def _search(
    indexes: Sequence[Ranked], question: str, vector: Any, k: int, widen: int, order: Order | None
) -> list[Hit]:
    depth = max(DEPTH, k)
    by_meaning = _merge((index.by_meaning(vector, depth) for index in indexes), depth)
    by_words = _merge((index.by_words(question, depth) for index in indexes), depth)
    scores = fuse(by_meaning, by_words)
    ranked = sorted(scores, key=lambda place: (-scores[place], place))
    wanted = ranked[:k] if order is None else ranked[: max(RERANKED, k)]
    for n, index in enumerate(indexes):
        index.fetch([position for number, position in wanted if number == n])
    if order is None:
        hits = (indexes[number].hit(position, scores[number, position], vector, widen) for number, position in ranked)
        return _distinct(hits, k)
    found = {indexes[n].hit(p, scores[n, p], vector, 0): (n, p) for n, p in wanted}
    best = [found[hit] for hit in order(question, list(found))]
    return _distinct((indexes[n].hit(p, scores[n, p], vector, widen) for n, p in best), k)


def _merge(rankings: Iterable[Sequence[Scored]], depth: int) -> list[Place]:
    """The places ``(index, position)`` of all rankings, best score first."""
    scored = [(-score, number, position) for number, found in enumerate(rankings) for score, position in found]
    return [(number, position) for _, number, position in sorted(scored)][:depth]


def fuse(*rankings: Sequence[Place]) -> dict[Place, float]:
    """The fused score of everything that is in one of the rankings."""
    scores: dict[Place, float] = {}
    for ranking in rankings:
        for rank, place in enumerate(ranking, 1):
            scores[place] = scores.get(place, 0.0) + 1 / (FUSION + rank)
    return scores


def _distinct(hits: Iterable[Hit], k: int) -> list[Hit]:
    """The first ``k`` hits of which none lies within an earlier one."""
    kept: list[Hit] = []
    for hit in hits:
        if not any(_within(hit.span, other.span) for other in kept):
            kept.append(hit)
        if len(kept) == k:
            break
    return kept


def _within(inner: Span, outer: Span) -> bool:
    return inner.document == outer.document and outer.start <= inner.start and inner.end <= outer.end

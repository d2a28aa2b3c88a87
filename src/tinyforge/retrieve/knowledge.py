"""Several indexes searched as one: the documents of a run with other knowledge bases beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tinyforge.errors import InputError
from tinyforge.records import Hit, Span
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.fusion import Order, search_together
from tinyforge.retrieve.index import Index


class Searchable(Protocol):
    """What answers questions with passages: an Index, or a Knowledge of several."""

    @property
    def sources(self) -> list[str]: ...

    @property
    def embedder(self) -> Embedder: ...

    def page(self, span: Span) -> int: ...

    def search(self, question: str, k: int) -> list[Hit]: ...


@dataclass(frozen=True)
class Knowledge:
    """``widen`` and ``order`` are as in fusion.py: the section around a passage, and a cross-encoder's order."""

    indexes: tuple[Index, ...]
    widen: int = 0
    order: Order | None = None

    @classmethod
    def open(cls, places: Sequence[str | Path], widen: int = 0, reranker: str = "") -> Knowledge:
        """The indexes at these places (see ``Index.open``), and the cross-encoder in the folder ``reranker``.

        Raises InputError when one is no index, or when their embedding models differ.
        """
        from tinyforge.retrieve.rerank import Reranker

        indexes = tuple(Index.open(place) for place in places)
        for index in indexes[1:]:
            if index.meta["embedding_hash"] != indexes[0].meta["embedding_hash"]:
                raise InputError(
                    f"{index.location}: was embedded with {index.meta['embedding_model']!r}, {indexes[0].location} "
                    f"with {indexes[0].meta['embedding_model']!r}; their passages cannot be compared.",
                    "Index one of them again with the other's retrieve.embedding_model.",
                )
        return cls(indexes, widen, Reranker(reranker).order if reranker else None)

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(source for index in self.indexes for source in index.sources))

    @property
    def embedder(self) -> Embedder:
        return self.indexes[0].embedder

    def page(self, span: Span) -> int:
        return max(index.page(span) for index in self.indexes)

    def search(self, question: str, k: int) -> list[Hit]:
        return self.search_many([question], k)[0]

    def search_many(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        for index in self.indexes:
            index.embedder  # noqa: B018  # each refuses a model that is not its own
        return search_together(self.indexes, questions, k, self.widen, self.order)

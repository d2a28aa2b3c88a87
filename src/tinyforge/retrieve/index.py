"""The search index of a run: a LanceDB table that is asked by meaning and by words, the two rankings fused.

Vector search is exact (no approximate index): below 100,000 passages it takes milliseconds and finds everything.
The rankings are joined by reciprocal rank fusion: a passage's score is the sum over the rankings of
``1 / (60 + rank)`` (Cormack, Clarke and Buettcher, SIGIR 2009). What was measured is in docs/decisions/retrieval.md.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.records import Document, Hit, Span
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.passages import Passage, cut
from tinyforge.run import read_json, write_folder_atomic, write_json

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Vectors

FORMAT = 1
FUSION = 60.0
DEPTH = 50  # how far down each ranking is read; more changes nothing within the top ten
_TABLE = "passages"
_WORD = re.compile(r"\w+", re.UNICODE)


class Index:
    """Open with :meth:`open`, make with :meth:`build`. ``meta`` is what meta.json says."""

    def __init__(self, folder: Path, meta: dict[str, Any], embedder: Embedder) -> None:
        self.folder = folder
        self.meta = meta
        self._embedder = embedder

    @classmethod
    def build(
        cls, folder: Path, documents: Sequence[Document], config: RetrieveConfig, embedder: Embedder | None = None
    ) -> Index:
        """Cut, embed and index the documents; ``folder`` is replaced as a whole or not at all.

        Raises InputError when the documents hold no text to index.
        """
        passages = cut(documents, config.passage_characters)
        if not passages:
            raise InputError(f"{folder}: there is no text to index.", "Give documents that contain text.")
        embedder = embedder or Embedder(config.embedding_model)
        vectors = embedder.embed([passage.searched for passage in passages])
        meta = {
            "format": FORMAT,
            "embedding_model": embedder.name,
            "embedding_hash": embedder.content_hash,
            "dimension": embedder.dimension,
            "passage_characters": config.passage_characters,
            "passages": len(passages),
            "sources": list(dict.fromkeys(document.source for document in documents)),
            "page_starts": {d.id: d.metadata["page_starts"] for d in documents if d.metadata.get("page_starts")},
        }

        def write(temporary: Path) -> None:
            _write_table(temporary, passages, vectors)
            write_json(temporary / "meta.json", meta)

        write_folder_atomic(folder, write)
        return cls(folder, meta, embedder)

    @classmethod
    def open(cls, folder: Path, embedding_model: str | None = None) -> Index:
        """An index made before. Nothing heavy is loaded until the first search.

        ``embedding_model`` is where the model lies now, when that is not where it lay at the time of the build.
        Raises InputError when this is no index, or (at the first search) when the model is not the one it was built
        with.
        """
        if not (folder / "meta.json").is_file():
            raise InputError(f"{folder}: is not a search index (it has no meta.json).", "Run `tinyforge build` again.")
        meta = read_json(folder / "meta.json")
        if meta.get("format") != FORMAT:
            raise InputError(f"{folder}: index format {meta.get('format')} is unknown.", "Run `tinyforge build` again.")
        return cls(folder, meta, Embedder(embedding_model or meta["embedding_model"]))

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, once it is known to be the one that the vectors were made with."""
        if self._embedder.content_hash != self.meta["embedding_hash"]:
            raise InputError(
                f"{self.folder}: was built with the embedding model {self.meta['embedding_model']!r}; "
                f"{self._embedder.name!r} has other weights.",
                "Build the index again, or set retrieve.embedding_model to the model it was built with.",
            )
        return self._embedder

    @cached_property
    def _table(self) -> Any:
        import lancedb

        try:
            return lancedb.connect(self.folder).open_table(_TABLE)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.folder}: the index cannot be read ({error}).", "Build it again.") from error

    def page(self, span: Span) -> int:
        """The page, from 1, on which a span starts; 0 where the source has no pages."""
        return bisect_right(self.meta["page_starts"].get(span.document, ()), span.start)

    def search(self, question: str, k: int) -> list[Hit]:
        """The ``k`` best passages, best first; fewer when the index holds fewer."""
        return self.search_many([question], k)[0]

    def search_many(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """The same for many questions, which are embedded in one go."""
        vectors = self.embedder.embed(questions)
        return [self._search(question, vectors[i], k) for i, question in enumerate(questions)]

    def _search(self, question: str, vector: Any, k: int) -> list[Hit]:
        by_meaning = self._by_meaning(vector, max(DEPTH, k))
        by_words = self._by_words(question, max(DEPTH, k))
        rows = {row["position"]: row for row in (*by_meaning, *by_words)}
        scores = _fuse(by_meaning, by_words)
        best = sorted(scores, key=lambda position: (-scores[position], position))[:k]
        return [_hit(rows[position], scores[position], vector) for position in best]

    def _by_meaning(self, vector: Any, depth: int) -> list[dict[str, Any]]:
        found = self._table.search(vector, vector_column_name="vector").distance_type("cosine").limit(depth).to_list()
        return sorted(found, key=lambda row: (row["_distance"], row["position"]))

    def _by_words(self, question: str, depth: int) -> list[dict[str, Any]]:
        """The full-text ranking (BM25); only words go in, so nothing in a question is read as query syntax."""
        from lancedb.query import MatchQuery

        words = " ".join(_WORD.findall(question))
        if not words:
            return []
        found = self._table.search(MatchQuery(words, "searched"), query_type="fts").limit(depth).to_list()
        return sorted(found, key=lambda row: (-row["_score"], row["position"]))


def _fuse(by_meaning: list[dict[str, Any]], by_words: list[dict[str, Any]]) -> dict[int, float]:
    """Reciprocal rank fusion: the score of each passage, by its position."""
    scores: dict[int, float] = {}
    for ranking in (by_meaning, by_words):
        for rank, row in enumerate(ranking, 1):
            scores[row["position"]] = scores.get(row["position"], 0.0) + 1 / (FUSION + rank)
    return scores


def _hit(row: dict[str, Any], score: float, vector: Any) -> Hit:
    span = Span(row["document"], row["start"], row["end"])
    similarity = float(sum(a * b for a, b in zip(row["vector"], vector.tolist(), strict=True)))
    cells = tuple((cell["start"], cell["end"], cell["name"]) for cell in row["cells"])
    return Hit(span, row["text"], row["source"], tuple(row["path"]), score, similarity, cells)


def _write_table(folder: Path, passages: Sequence[Passage], vectors: Vectors) -> None:
    import lancedb
    import pyarrow as pa
    from lancedb.index import FTS

    cell = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("name", pa.string())])
    rows = {
        "position": pa.array(range(len(passages)), pa.int64()),
        "document": [p.span.document for p in passages],
        "start": pa.array([p.span.start for p in passages], pa.int64()),
        "end": pa.array([p.span.end for p in passages], pa.int64()),
        "text": [p.text for p in passages],
        "searched": [p.searched for p in passages],
        "source": [p.source for p in passages],
        "path": pa.array([list(p.path) for p in passages], pa.list_(pa.string())),
        "cells": pa.array([list(p.cells) for p in passages], pa.list_(cell)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
    }
    table = lancedb.connect(folder).create_table(_TABLE, data=pa.table(rows))
    table.create_index("searched", config=FTS())

"""The search index of a run: a LanceDB table that is asked by meaning and by words, the two rankings fused.

Vector search is exact: the vectors lie in memory, which for 100,000 passages are 150 MB and 10 ms a question; from
``IN_MEMORY`` passages on LanceDB searches them on the disk. How the rankings are joined is in fusion.py, what was
measured in docs/decisions/retrieval.md.
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
from tinyforge.retrieve import store
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.fusion import Order, Scored, search_together
from tinyforge.retrieve.passages import Passage, cut
from tinyforge.retrieve.store import Location

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Vectors

FORMAT = 1
IN_MEMORY = 400_000
_WORD = re.compile(r"\w+", re.UNICODE)


class Index:
    """Open with :meth:`open`, make with :meth:`build`. ``meta`` is what its record says; ``embedded`` counts the
    passages that :meth:`build` had to embed."""

    def __init__(self, location: Location, meta: dict[str, Any], embedder: Embedder, embedded: int = 0) -> None:
        self.location = location
        self.meta = meta
        self.embedded = embedded
        self._embedder = embedder
        self._fetched: dict[int, dict[str, Any]] = {}

    @classmethod
    def build(
        cls,
        location: str | Path,
        documents: Sequence[Document],
        config: RetrieveConfig,
        embedder: Embedder | None = None,
    ) -> Index:
        """Cut, embed and index the documents; what is at ``location`` is replaced as a whole or not at all.

        A passage that stands in the old index as it is now keeps its vector, if the embedding model is the same.
        Raises InputError when the documents hold no text to index.
        """
        passages = cut(documents, config.passage_characters)
        if not passages:
            raise InputError(f"{location}: there is no text to index.", "Give documents that contain text.")
        place: Location = str(location) if "://" in str(location) else Path(location).resolve()
        embedder = embedder or Embedder(config.embedding_model)
        known = _vectors_at(place, embedder)
        vectors, embedded = _embed(passages, embedder, known)
        meta = {
            "format": FORMAT,
            "embedding_model": embedder.name,
            "embedding_hash": embedder.content_hash,
            "dimension": embedder.dimension,
            "passage_characters": config.passage_characters,
            "passages": len(passages),
            "sources": list(dict.fromkeys(document.source for document in documents)),
            "documents": [[document.source, document.id] for document in documents],
            "page_starts": {d.id: d.metadata["page_starts"] for d in documents if d.metadata.get("page_starts")},
        }
        texts = {document.id: document.text for document in documents}
        stored = store.write(place, meta, lambda to, name: _write_table(to, name, passages, vectors, texts))
        return cls(place, stored, embedder, embedded)

    @classmethod
    def open(cls, location: str | Path, embedding_model: str | None = None) -> Index:
        """An index made before: its folder, a run that holds one, or its URL. Nothing heavy is loaded until the first
        search.

        ``embedding_model`` is where the model lies now, when that is not where it lay at the time of the build.
        Raises InputError when this is no index, or (at the first search) when the model is not the one it was built
        with.
        """
        place = store.locate(location)
        meta = store.read_meta(place)
        if meta.get("format") != FORMAT:
            raise InputError(f"{location}: index format {meta.get('format')} is unknown.", "Make it again.")
        if "embedding_model" not in meta:
            raise InputError(f"{location}: holds something that is no index.", "Give another folder.")
        return cls(place, meta, Embedder(embedding_model or meta["embedding_model"]))

    @property
    def sources(self) -> list[str]:
        """The names of the documents."""
        return list(self.meta["sources"])

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, once it is known to be the one that the vectors were made with."""
        if self._embedder.content_hash != self.meta["embedding_hash"]:
            raise InputError(
                f"{self.location}: was built with the embedding model {self.meta['embedding_model']!r}; "
                f"{self._embedder.name!r} has other weights.",
                "Build the index again, or set retrieve.embedding_model to the model it was built with.",
            )
        return self._embedder

    @cached_property
    def _table(self) -> Any:
        return store.open_table(self.location, self.meta)

    @cached_property
    def _matrix(self) -> Vectors:
        """Every vector, in the order of the positions: float32 of shape (passages, d)."""
        import numpy as np

        column = self._table.search().select(["position", "vector"]).limit(self.meta["passages"]).to_arrow()
        order = np.argsort(column["position"].to_numpy(), kind="stable")
        rows = column["vector"].combine_chunks().flatten().to_numpy().reshape(len(order), -1)
        return np.ascontiguousarray(rows[order], dtype=np.float32)

    def vectors(self) -> list[tuple[Span, Any]]:
        """Every passage's place and its unit vector (float32, ``dimension`` long), in reading order."""
        table = self._table.to_arrow().sort_by("position")
        places = zip(*(table[name].to_pylist() for name in ("document", "start", "end")), strict=True)
        rows = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
        return [(Span(*place), row) for place, row in zip(places, rows, strict=True)]

    def page(self, span: Span) -> int:
        """The page, from 1, on which a span starts; 0 where the source has no pages."""
        return bisect_right(self.meta["page_starts"].get(span.document, ()), span.start)

    def search(self, question: str, k: int, widen: int = 0, order: Order | None = None) -> list[Hit]:
        """The ``k`` best passages, best first; fewer when the index holds fewer. For the rest see fusion.py."""
        return self.search_many([question], k, widen, order)[0]

    def search_many(
        self, questions: Sequence[str], k: int, widen: int = 0, order: Order | None = None
    ) -> list[list[Hit]]:
        """The same for many questions, which are embedded in one go."""
        return search_together([self], questions, k, widen, order)

    def by_meaning(self, vector: Any, depth: int) -> list[Scored]:
        """The best ``(cosine, position)``, best first; exact."""
        if self.meta["passages"] > IN_MEMORY:
            query = self._table.search(vector, vector_column_name="vector").distance_type("cosine")
            rows = query.select(["position", "_distance"]).limit(depth).to_list()
            return sorted(((1 - row["_distance"], row["position"]) for row in rows), key=_best_first)
        import numpy as np

        cosines = self._matrix @ vector
        best = np.argpartition(-cosines, depth)[:depth] if depth < len(cosines) else range(len(cosines))
        return sorted(((float(cosines[i]), int(i)) for i in best), key=_best_first)

    def by_words(self, question: str, depth: int) -> list[Scored]:
        """The best ``(BM25 score, position)``; only words go in, so nothing in a question is read as query syntax."""
        from lancedb.query import MatchQuery

        words = " ".join(_WORD.findall(question))
        if not words:
            return []
        query = self._table.search(MatchQuery(words, "searched"), query_type="fts").select(["position", "_score"])
        return sorted(((row["_score"], row["position"]) for row in query.limit(depth).to_list()), key=_best_first)

    def hit(self, position: int, score: float, vector: Any, widen: int = 0) -> Hit:
        """The passage at a position, with as much of its section as ``widen`` characters hold."""
        row = self._fetched.get(position) or self._rows([position])[0]
        similarity = float(sum(a * b for a, b in zip(row["vector"], vector.tolist(), strict=True)))
        rows = self._around(position, row, widen) if widen > row["end"] - row["start"] else [row]
        return _joined(rows, row, score, similarity)

    def fetch(self, positions: Sequence[int]) -> None:
        """Read these passages in one go, for the calls of :meth:`hit` that follow: each reading alone takes as long."""
        self._fetched = {int(row["position"]): row for row in self._rows(sorted(positions))}

    def _rows(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        found = self._table.take_offsets(list(positions)).to_arrow().to_pylist()
        return sorted(found, key=lambda row: int(row["position"]))

    def _around(self, position: int, row: dict[str, Any], widen: int) -> list[dict[str, Any]]:
        """The passage with its neighbours in the section, taken in turn from behind and before while they fit."""
        if "gap" not in row:
            raise InputError(f"{self.location}: was made by an earlier version.", "Make it again to show sections.")
        reach = 2 + widen // 100
        first = max(0, position - reach)
        near = self._rows(range(first, min(self.meta["passages"], position + reach + 1)))
        left = right = position - first
        while True:
            after = right + 1 if right + 1 < len(near) and near[right + 1]["section"] == row["section"] else None
            before = left - 1 if left > 0 and near[left - 1]["section"] == row["section"] else None
            if after is not None and near[after]["end"] - near[left]["start"] <= widen:
                right = after
            elif before is not None and near[right]["end"] - near[before]["start"] <= widen:
                left = before
            else:
                return near[left : right + 1]


def _best_first(scored: Scored) -> Scored:
    return -scored[0], scored[1]


def _joined(rows: Sequence[dict[str, Any]], row: dict[str, Any], score: float, similarity: float) -> Hit:
    """Neighbouring passages as one hit; ``gap`` is what stands between a passage and the one before."""
    text, cells = "", []
    for number, part in enumerate(rows):
        text += part["gap"] if number else ""
        cells += [(len(text) + cell["start"], len(text) + cell["end"], cell["name"]) for cell in part["cells"]]
        text += part["text"]
    span = Span(row["document"], rows[0]["start"], rows[-1]["end"])
    return Hit(span, text, row["source"], tuple(row["path"]), score, similarity, tuple(cells))


def _vectors_at(location: Location, embedder: Embedder) -> dict[str, Vectors]:
    """What was embedded, and its vector, in the index that is there; nothing when another model made it."""
    if not store.exists(location):
        return {}
    meta = store.read_meta(location)
    if meta.get("format") != FORMAT or meta.get("embedding_hash") != embedder.content_hash:
        return {}
    index = Index(location, meta, embedder)
    rows = index._table.search().select(["position", "searched"]).limit(meta["passages"]).to_arrow()
    return {
        text: index._matrix[position]
        for position, text in zip(rows["position"].to_pylist(), rows["searched"].to_pylist(), strict=True)
    }


def _embed(passages: Sequence[Passage], embedder: Embedder, known: dict[str, Vectors]) -> tuple[Vectors, int]:
    """One vector for each passage, and how many of them are new."""
    import numpy as np

    new = list(dict.fromkeys(p.searched for p in passages if p.searched not in known))
    made = dict(zip(new, embedder.embed(new), strict=True))
    vectors = np.stack([made[p.searched] if p.searched in made else known[p.searched] for p in passages])
    return vectors, sum(p.searched in made for p in passages)


def _write_table(
    connection: Any, name: str, passages: Sequence[Passage], vectors: Vectors, texts: dict[str, str]
) -> Any:
    import pyarrow as pa
    from lancedb.index import FTS

    cell = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("name", pa.string())])
    sections, gaps = _in_sections(passages, texts)
    rows = {
        "position": pa.array(range(len(passages)), pa.int64()),
        "section": pa.array(sections, pa.int64()),
        "gap": gaps,
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
    table = store.create(connection, name, pa.table(rows))
    table.create_index("searched", config=FTS())
    return table


def _in_sections(passages: Sequence[Passage], texts: dict[str, str]) -> tuple[list[int], list[str]]:
    """For each passage the number of its section, and the text between it and the one before it there."""
    sections: list[int] = []
    gaps: list[str] = []
    for number, passage in enumerate(passages):
        last = passages[number - 1] if number else None
        same = last is not None and last.section == passage.section and last.span.document == passage.span.document
        sections.append(sections[-1] + (not same) if sections else 0)
        gaps.append(texts[passage.span.document][last.span.end : passage.span.start] if same and last else "")
    return sections, gaps

"""What was read from each source, counted: for a person to see that nothing is missing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

from tinyforge.records import Document


def tables_in(document: Document) -> int:
    """How many tables: rows of one table stand on neighbouring lines."""
    rows = [block.span for block in document.blocks if block.kind == "table_row"]
    return bool(rows) + sum(after.start > before.end + 1 for before, after in pairwise(rows))


class Summary:
    """Counts per source file, in order, of documents that come one after another."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Any]] = {}

    def add(self, document: Document) -> None:
        path = str(document.metadata.get("path", document.source))
        empty = {"documents": 0, "characters": 0, "sections": 0, "tables": 0, "dropped": Counter()}
        about = {"source": document.source, "format": document.metadata.get("format", "")}
        file = self._files.setdefault(path, {**about, **empty})
        file["documents"] += 1
        file["characters"] += len(document.text)
        file["sections"] += len(document.sections())
        file["tables"] += tables_in(document)
        file["dropped"].update(document.metadata.get("dropped", {}))

    @property
    def files(self) -> list[dict[str, Any]]:
        """For each file its name, its format, counts of documents, characters, sections and tables, and of what the
        parser left out, by reason."""
        return [{**file, "dropped": dict(sorted(file["dropped"].items()))} for file in self._files.values()]

    def total(self, name: str) -> int:
        """A count over all files."""
        return sum(file[name] for file in self._files.values())

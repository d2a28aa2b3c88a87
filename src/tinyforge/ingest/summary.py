"""What was read from each source, counted: for a person to see that nothing is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from tinyforge.records import Document


def tables_in(document: Document) -> int:
    """How many tables: rows of one table stand on neighbouring lines."""
    rows = [block.span for block in document.blocks if block.kind == "table_row"]
    return bool(rows) + sum(after.start > before.end + 1 for before, after in pairwise(rows))


def summary_of(documents: Iterable[Document]) -> list[dict[str, Any]]:
    """Per source file, in order: its name, format, counts of documents, characters, sections, tables, and of what the
    parser left out, by reason."""
    files: dict[str, dict[str, Any]] = {}
    for document in documents:
        path = str(document.metadata.get("path", document.source))
        name = document.source if path not in files else files[path]["source"]
        empty = {"documents": 0, "characters": 0, "sections": 0, "tables": 0, "dropped": Counter()}
        file = files.setdefault(path, {"source": name, "format": document.metadata.get("format", ""), **empty})
        file["documents"] += 1
        file["characters"] += len(document.text)
        file["sections"] += len(document.sections())
        file["tables"] += tables_in(document)
        file["dropped"].update(document.metadata.get("dropped", {}))
    return [{**file, "dropped": dict(sorted(file["dropped"].items()))} for file in files.values()]

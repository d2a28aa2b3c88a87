"""Rows of a table that may be long, as Documents: a table where values are short, a record per row where they are text.

A million characters make one Document; the next part of the same source starts with the column names again and is
called after its first row ("prices.csv:20001").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from tinyforge.ingest.builder import TextBuilder
from tinyforge.ingest.fields import add_record, is_long
from tinyforge.records import Document

PART = 1_000_000
"""Characters of a source's rows that make one Document."""
_SAMPLE = 50  # rows looked at to tell text from short values

Row = tuple[int, Sequence[str]]
"""The place of a row in its source, from 1, and its values."""


def title_of(source: str) -> str:
    """The title of rows and records, which have no heading over all of them: the file's name without its extension."""
    return source.rpartition("/")[2].partition(".")[0] or source


def documents_of(
    rows: Iterable[Row], names: Sequence[str], source: str, metadata: dict[str, Any]
) -> Iterator[Document]:
    """The rows as Documents, one after another; ``names`` of the columns may be empty where there are none.

    ``metadata`` is shared by all parts; whatever the caller counts in it meanwhile is in the last one.
    """
    iterator = iter(rows)
    sample = list(islice(iterator, _SAMPLE))
    as_records = bool(names) and any(is_long(value) for _, row in sample for value in row)
    first = True
    for part in _parts(chain(sample, iterator)):
        out = TextBuilder()
        if as_records:
            for _, row in part:
                add_record(_fields(names, row), out)
        else:
            grid = [list(names)] if names else []
            out.table(grid + [list(row) for _, row in part], header_rows=len(grid))
        name = source if first else f"{source}:{part[0][0]}"
        first = False
        yield out.document(name, {**metadata, "title": title_of(source), "first_row": part[0][0]})


def _fields(names: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    """A row by column; values beyond the last named column go by their number."""
    fields: dict[str, str] = {}
    for number, value in enumerate(row):
        name = names[number] if number < len(names) and names[number] else f"column {number + 1}"
        fields[name if name not in fields else f"{name} ({number + 1})"] = value
    return fields


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    length = 0
    for row in rows:
        part.append(row)
        length += sum(map(len, row[1]))
        if length >= PART:
            yield part
            part, length = [], 0
    if part:
        yield part

"""CSV and TSV: one table, its first row the column names where it reads like names; delimiter told by the content."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.builder import names_columns
from tinyforge.ingest.reading import text_lines
from tinyforge.ingest.rows import Row, documents_of
from tinyforge.records import Document

_DELIMITERS = ",;\t|"
_SAMPLE = 40  # records looked at
_LONGEST_FIELD = 10_000_000


def _delimiter(lines: Sequence[str], suffix: str) -> str:
    """The one that parts the first records into the same number of fields most often, and into two at least."""
    if suffix == ".tsv":
        return "\t"
    scores = {mark: _evenness(lines, mark) for mark in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda mark: scores[mark])
    return best if scores[best] > (0.0, 1) else ","


def _evenness(lines: Sequence[str], mark: str) -> tuple[float, int]:
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=mark) if row)
    except csv.Error:
        return 0.0, 1
    width, count = max(widths.items(), key=lambda item: (item[0] > 1, item[1], item[0]), default=(1, 0))
    return (count / max(1, widths.total()), width) if width > 1 else (0.0, 1)


def _rows(lines: Iterator[str], mark: str, path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(lines, delimiter=mark, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise InputError(
                f"{path}: line {line}: not CSV ({error}).",
                "Close every quote, and write a quote inside of a quoted value twice; or save it again from the "
                "program that made it.",
            ) from error
        if row is None:
            return
        if any(value.strip() for value in row):
            yield line, row


def parse(path: Path, source: str) -> Iterator[Document]:
    """Documents of a million characters each; metadata: ``columns`` (names), ``delimiter``, ``first_row`` (a line)."""
    lines = text_lines(path)
    head = list(islice(lines, _SAMPLE))
    mark = _delimiter(head, path.suffix.lower())
    rows = _rows(chain(head, lines), mark, path)
    first = next(rows, None)
    if first is None:
        return
    names = list(first[1]) if names_columns(first[1]) else []
    metadata: dict[str, Any] = {"path": str(path), "format": "csv", "delimiter": mark, "columns": names}
    yield from documents_of(rows if names else chain([first], rows), names, source, metadata)

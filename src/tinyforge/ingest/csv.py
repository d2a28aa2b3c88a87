"""CSV and TSV: one table, its first row the column names where it reads like names; delimiter told by the content."""

from __future__ import annotations

import csv
import re
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

_DELIMITERS = "\t;|,"  # a comma stands inside of values most often
_SAMPLE = 40  # records looked at
_STATED = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*', re.IGNORECASE)  # the first line that Excel writes for itself
_LONGEST_FIELD = 10_000_000


def _delimiter(lines: Sequence[str], suffix: str) -> str:
    """The one that parts the first records into the same number of fields most often, and into two at least."""
    if suffix == ".tsv":
        return "\t"
    scores = {mark: _evenness(lines, mark) for mark in _DELIMITERS}
    best = max(_DELIMITERS, key=lambda mark: scores[mark])
    return best if scores[best] else ","


def _evenness(lines: Sequence[str], mark: str) -> float:
    """The share of records with the most frequent number of fields; 0 where that is one."""
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=mark, skipinitialspace=True) if row)
    except csv.Error:
        return 0.0
    width, count = max(widths.items(), key=lambda item: (item[0] > 1, item[1]), default=(1, 0))
    return count / widths.total() if width > 1 else 0.0


def _rows(lines: Iterator[str], mark: str, path: Path, skipped: int) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(lines, delimiter=mark, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1 + skipped
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
    stated = _STATED.fullmatch(head[0]) if head else None
    if stated:
        del head[0]
    mark = stated[1] if stated else _delimiter(head, path.suffix.lower())
    rows = _rows(chain(head, lines), mark, path, skipped=1 if stated else 0)
    sample = list(islice(rows, _SAMPLE))
    if not sample:
        return
    names = _names([row for _, row in sample])
    metadata: dict[str, Any] = {"path": str(path), "format": "csv", "delimiter": mark, "columns": names}
    yield from documents_of(chain(sample[1:] if names else sample, rows), names, source, metadata)


def _names(sample: Sequence[Sequence[str]]) -> list[str]:
    """The names of the columns; a delimiter at the end of every line makes no column."""
    width = max((place for row in sample for place, value in enumerate(row, 1) if value.strip()), default=0)
    first, *below = sample
    names = list(first[:width])
    return names if names_columns(names, below) else []

"""XLSX: a heading per sheet, its tables with merged headers resolved, numbers and dates as the sheet shows them."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.builder import TextBuilder, guess_header_rows
from tinyforge.ingest.package import check_package, damaged, opening_errors, read_xml
from tinyforge.ingest.rows import title_of
from tinyforge.ingest.xlsx_numbers import shown
from tinyforge.records import Document

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_WIDEST = 16_384  # columns, the format's own limit
_MOST_MERGED = 1_000_000  # places that the merged cells of a sheet may cover


@dataclass
class _Marks:
    """What the sheet says besides its values, rows and columns from 1: merged ranges and what is hidden."""

    merged: list[tuple[int, int, int, int]] = field(default_factory=list)  # top, left, bottom, right
    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: set[int] = field(default_factory=set)
    uncomputed: int = 0


@dataclass
class _Row:
    texts: list[str]
    written: list[bool]  # false where a merged cell only covers the place
    bold: bool
    spans: bool = False  # holds a cell that is merged with those to its right

    def widen(self, width: int) -> None:
        self.texts += [""] * (width - len(self.texts))
        self.written += [True] * (width - len(self.written))

    def keep(self, columns: list[int]) -> None:
        self.texts = [self.texts[column] for column in columns]
        self.written = [self.written[column] for column in columns]

    def part(self, columns: list[int]) -> _Row:
        """The row in some of its columns only."""
        part = replace(self)
        part.keep(columns)
        part.spans = self.spans and any(bool(t) and not w for t, w in zip(part.texts, part.written, strict=True))
        return part

    def says_one_thing(self) -> bool:
        return sum(bool(text) and place for text, place in zip(self.texts, self.written, strict=True)) == 1


def _sheet_parts(archive: zipfile.ZipFile) -> dict[str, str]:
    """The part of each sheet by its name."""
    relations = read_xml(archive.read("xl/_rels/workbook.xml.rels"))
    targets = {item.get("Id"): posixpath.join("/xl", item.get("Target", "")).lstrip("/") for item in relations}
    sheets = read_xml(archive.read("xl/workbook.xml")).iter(f"{_S}sheet")
    return {sheet.get("name"): targets.get(sheet.get(f"{_R}id"), "") for sheet in sheets}


def _marks(archive: zipfile.ZipFile, part: str) -> _Marks:
    from lxml import etree
    from openpyxl.utils.cell import range_boundaries

    marks = _Marks()
    tags = [f"{_S}row", f"{_S}col", f"{_S}mergeCell"]
    with archive.open(part) as handle:
        for _, element in etree.iterparse(handle, tag=tags, resolve_entities=False, no_network=True):
            hidden = element.get("hidden") in {"1", "true"}
            if element.tag == tags[0]:
                marks.hidden_rows |= {int(element.get("r", 0))} if hidden else set()
                marks.uncomputed += sum(map(_is_uncomputed, element.iter(f"{_S}f")))
            elif element.tag == tags[1] and hidden:
                first, last = int(element.get("min", 1)), int(element.get("max", 1))
                marks.hidden_columns |= set(range(first, min(last, _WIDEST) + 1))
            elif element.tag == tags[2]:
                left, top, right, bottom = range_boundaries(element.get("ref"))
                marks.merged.append((top, left, bottom, right))
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
    return marks


def _is_uncomputed(formula: Any) -> bool:
    value = formula.getnext()
    return value is None or (not value.text and formula.getparent().get("t") != "str")


class _Reader:
    def __init__(self) -> None:
        self.out = TextBuilder()
        self.dropped: Counter[str] = Counter()

    def sheet(self, sheet: Any, marks: _Marks) -> None:
        self.out.add("heading", sheet.title, level=1)
        self.dropped["formula without a stored value"] += marks.uncomputed
        rows: dict[int, _Row] = {}
        sheet.reset_dimensions()  # what a file states about its size is often wrong, and costs memory
        for number, cells in enumerate(sheet.iter_rows(), 1):
            if number in marks.hidden_rows:
                self.dropped["hidden row"] += any(cell.value is not None for cell in cells)
            elif any(cell.value is not None for cell in cells):
                rows[number] = self._row(cells)
        _spread(rows, marks.merged)
        self._hide_columns(rows, marks.hidden_columns)
        for block in _blocks(rows):
            self._block(block)

    def _row(self, cells: Any) -> _Row:
        texts = [self._text(cell) for cell in cells]
        filled = [cell for cell in cells if cell.value is not None]
        return _Row(texts, [True] * len(texts), all(cell.font is not None and cell.font.b for cell in filled))

    def _text(self, cell: Any) -> str:
        if cell.data_type == "e":
            self.dropped["error value"] += 1
            return ""
        return "" if cell.value is None else shown(cell.value, cell.number_format)

    def _hide_columns(self, rows: dict[int, _Row], hidden: set[int]) -> None:
        told = {c for c in hidden if any(c <= len(row.texts) and row.texts[c - 1] for row in rows.values())}
        self.dropped["hidden column"] += len(told)
        for row in rows.values() if hidden else ():  # an empty one too, since it parts nothing that is seen
            row.keep([column for column in range(len(row.texts)) if column + 1 not in hidden])

    def _block(self, rows: list[_Row]) -> None:
        """A run of rows with no empty one between: lines above, then its tables from left to right."""
        width = max(len(row.texts) for row in rows)
        for row in rows:
            row.widen(width)
        above = next((place for place, row in enumerate(rows) if not row.says_one_thing()), len(rows))
        parts = _side_by_side(rows[above:])
        if len(parts) < 2:
            self._table(rows)
            return
        for row in rows[:above]:
            self.out.add("paragraph", max(row.texts))
        for part in parts:
            for run in _blocks({number: row for number, row in enumerate(part) if any(map(str.strip, row.texts))}):
                self._table(run)

    def _table(self, rows: list[_Row]) -> None:
        """Lines above the table, then the table."""
        width = len(rows[0].texts)
        used = [column for column in range(width) if any(row.texts[column].strip() for row in rows)]
        for row in rows:
            row.keep(used)
        if len(used) == 1:
            for row in rows:
                self.out.add("list_item" if len(rows) > 1 else "paragraph", row.texts[0], marker="- " * (len(rows) > 1))
            return
        table = next((place for place, row in enumerate(rows) if not row.says_one_thing()), len(rows))
        for row in rows[:table]:
            self.out.add("paragraph", max(row.texts))
        if rows := rows[table:]:
            grid = [row.texts for row in rows]
            self.out.table(grid, _header_rows(grid, rows), [row.written for row in rows])


def _header_rows(grid: list[list[str]], rows: list[_Row]) -> int:
    """Rows with merged names and the row of names under them; a bold first row; else what reads like names."""
    spanning = 0
    while spanning < len(rows) and rows[spanning].spans:
        spanning += 1
    if 0 < spanning < len(rows) - 1:
        return spanning + 1
    if len(rows) > 1 and rows[0].bold and not rows[1].bold and all(grid[0][1:]):
        return 1
    return guess_header_rows(grid)


def _spread(rows: dict[int, _Row], merged: list[tuple[int, int, int, int]]) -> None:
    """Write a merged cell's text at every place that it covers."""
    covered = 0
    for top, left, bottom, right in merged:
        covered += (bottom - top + 1) * (right - left + 1)
        if top not in rows or left > len(rows[top].texts) or covered > _MOST_MERGED:
            continue
        text = rows[top].texts[left - 1]
        rows[top].spans |= right > left and bool(text)
        for row in (rows[number] for number in range(top, bottom + 1) if number in rows):
            row.widen(right)
            row.texts[left - 1 : right] = [text] * (right - left + 1)
            row.written[left - 1 : right] = [False] * (right - left + 1)
        rows[top].written[left - 1] = True


def _blocks(rows: dict[int, _Row]) -> Iterator[list[_Row]]:
    block: list[_Row] = []
    last = 0
    for number, row in rows.items():
        if block and number > last + 1:
            yield block
            block = []
        if any(text.strip() for text in row.texts):
            block.append(row)
        last = number
    if block:
        yield block


def _side_by_side(rows: list[_Row]) -> list[list[_Row]]:
    """The tables that empty columns part: each of two columns or more, those after the first with names of its rows.

    Numbers behind an empty column belong to the names before it, as in accounts that are set with space.
    """
    width = len(rows[0].texts) if rows else 0
    filled = [any(row.texts[column].strip() for row in rows) for column in range(width)]
    tables: list[list[int]] = []
    for is_filled, group in groupby(range(width), key=filled.__getitem__):
        columns = list(group)
        if not is_filled:
            continue
        if tables and (min(len(tables[-1]), len(columns)) < 2 or not _names_rows(rows, columns[0], tables[-1][0])):
            tables[-1] += columns
        else:
            tables.append(columns)
    return [[row.part(columns) for row in rows] for columns in tables]


def _names_rows(rows: list[_Row], column: int, before: int) -> bool:
    """Whether a column says words below its first cell, or has the name of the column that does so before it."""
    first, *below = (row.texts[column] for row in rows if row.texts[column].strip())
    own = next(row.texts[before] for row in rows if row.texts[before].strip())
    return first == own or any(re.search(r"[^\W\d]", text) for text in below)


def _open(path: Path) -> Any:
    import openpyxl

    check_package(path, ".xlsx", "xl/workbook")
    try:
        return openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
    except opening_errors(ValueError, TypeError, AttributeError, IndexError) as error:
        raise damaged(path, ".xlsx", error) from error


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title``, ``sheets`` (names), ``dropped`` by reason.

    Raises InputError for a damaged or protected file, and for one whose formulas were never computed.
    """
    reader = _Reader()
    with closing(_open(path)) as book, zipfile.ZipFile(path) as archive:
        parts = _sheet_parts(archive)
        for sheet in book.worksheets:
            if sheet.sheet_state == "visible":
                reader.sheet(sheet, _marks(archive, parts[sheet.title]))
            else:
                reader.dropped["hidden sheet"] += 1
        title = str(book.properties.title or "").strip()
        names = book.sheetnames
    reader.dropped["comment"] += _comments(path)
    document = reader.out.document(source, {"path": str(path), "format": "xlsx", "sheets": names})
    if (
        not any(block.kind != "heading" for block in document.blocks)
        and reader.dropped["formula without a stored value"]
    ):
        raise InputError(
            f"{path}: holds only formulas without their values.", "Open it in a spreadsheet program and save it there."
        )
    document.metadata["dropped"] = {reason: count for reason, count in sorted(reader.dropped.items()) if count}
    document.metadata["title"] = title or title_of(source)
    yield document


def _comments(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        parts = [name for name in archive.namelist() if name.startswith("xl/comments")]
        return sum(sum(1 for _ in read_xml(archive.read(name)).iter(f"{_S}comment")) for name in parts)

"""The grid behind an HTML table, with spanning cells spread over the places that they cover."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from bs4.element import Tag

_WIDEST_SPAN = 100


class Cell(NamedTuple):
    """A cell and the row that it stands in: the table itself where old pages write it outside of any."""

    row: Tag
    tag: Tag
    seen: bool


def is_layout(table: Tag) -> bool:
    """Whether a table only places things on the page: it holds tables, headings or a single cell, or says so."""
    if table.get("role") in {"presentation", "none"}:
        return True
    return table.find(["table", "h1", "h2", "h3", "h4"]) is not None or len(table.find_all(["td", "th"], limit=2)) < 2


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1"))
    return min(max(int(value), 1), _WIDEST_SPAN) if value.isdecimal() else 1


def _header_rows(rows: list[list[Cell]]) -> int | None:
    """How many leading rows are marked as a header; None where none is."""
    count = 0
    for row in rows:
        if row[0].row.find_parent("thead") is None and not all(cell.tag.name == "th" for cell in row):
            break
        count += 1
    return count if 0 < count < len(rows) else None


def _place(rows: list[list[Cell]]) -> Iterator[tuple[int, int, Cell, bool]]:
    """``(row, column, cell, is where the cell is written)`` for every place that a cell covers."""
    taken: set[tuple[int, int]] = set()
    for number, row in enumerate(rows):
        column = 0
        for cell in row:
            while (number, column) in taken:
                column += 1
            for down in range(min(_span(cell.tag, "rowspan"), len(rows) - number)):
                for right in range(_span(cell.tag, "colspan")):
                    taken.add((number + down, column + right))
                    yield number + down, column + right, cell, down == right == 0


def grid_of(
    cells: Iterable[Cell], text_of: Callable[[Tag], str]
) -> tuple[list[list[str]], list[list[bool]], int | None]:
    """Texts, where each is written, and the number of header rows (None: not marked).

    Cells that are not seen are blank. Rows of none but these are left out last, as spanning cells reach across them.
    """
    rows = [list(row) for _, row in groupby(cells, key=lambda cell: id(cell.row))]
    places = list(_place(rows))
    width = 1 + max((column for _, column, _, _ in places), default=-1)
    grid = [[""] * width for _ in rows]
    shown = [[False] * width for _ in rows]
    texts: dict[int, str] = {}
    for row, column, cell, first in places:
        if id(cell.tag) not in texts:
            texts[id(cell.tag)] = text_of(cell.tag) if cell.seen else ""
        grid[row][column] = texts[id(cell.tag)]
        shown[row][column] = first
    seen = [number for number, row in enumerate(rows) if any(cell.seen for cell in row)]
    return [grid[n] for n in seen], [shown[n] for n in seen], _header_rows([rows[n] for n in seen])

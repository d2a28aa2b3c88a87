"""The grid behind an HTML table, with spanning cells spread over the places that they cover."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bs4.element import Tag

_WIDEST_SPAN = 100


def is_layout(table: Tag) -> bool:
    """Whether a table only places things on the page: it holds tables, headings or a single cell, or says so."""
    if table.get("role") in {"presentation", "none"}:
        return True
    return table.find(["table", "h1", "h2", "h3", "h4"]) is not None or len(table.find_all(["td", "th"], limit=2)) < 2


def _span(cell: Tag, name: str) -> int:
    value = str(cell.get(name, "1"))
    return min(max(int(value), 1), _WIDEST_SPAN) if value.isdecimal() else 1


def _cells(row: Tag) -> list[Tag]:
    return row.find_all(["td", "th"], recursive=False)


def _header_rows(rows: list[Tag]) -> int | None:
    """How many leading rows are marked as a header; None where none is."""
    count = 0
    for row in rows:
        cells = _cells(row)
        if row.find_parent("thead") is None and not all(cell.name == "th" for cell in cells):
            break
        count += 1
    return count if 0 < count < len(rows) else None


def _place(rows: list[Tag]) -> Iterator[tuple[int, int, Tag, bool]]:
    """``(row, column, cell, is where the cell is written)`` for every place that a cell covers."""
    taken: set[tuple[int, int]] = set()
    for number, row in enumerate(rows):
        column = 0
        for cell in _cells(row):
            while (number, column) in taken:
                column += 1
            for down in range(min(_span(cell, "rowspan"), len(rows) - number)):
                for right in range(_span(cell, "colspan")):
                    taken.add((number + down, column + right))
                    yield number + down, column + right, cell, down == right == 0


def grid_of(table: Tag, text_of: Callable[[Tag], str]) -> tuple[list[list[str]], list[list[bool]], int | None]:
    """Texts, where each is written, and the number of header rows (None: not marked)."""
    rows = [row for row in table.find_all("tr") if _cells(row)]
    places = list(_place(rows))
    width = 1 + max(column for _, column, _, _ in places)
    grid = [[""] * width for _ in rows]
    shown = [[False] * width for _ in rows]
    texts: dict[int, str] = {}
    for row, column, cell, first in places:
        if id(cell) not in texts:
            texts[id(cell)] = text_of(cell)
        grid[row][column] = texts[id(cell)]
        shown[row][column] = first
    return grid, shown, _header_rows(rows)

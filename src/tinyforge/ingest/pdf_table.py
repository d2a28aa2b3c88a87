"""Tables without rules in a PDF: lines whose cells stand in the same columns."""

from __future__ import annotations

from tinyforge.ingest.pdf_lines import Cell, Line


def table_at(lines: list[Line], place: int) -> list[list[str]]:
    """The table that starts at a line, as a grid with one row per line; empty where none does.

    A table is a run of lines of one page with two or more cells each, of which every cell falls into a column of its
    own. It takes three lines, or two with at least three cells.
    """
    end = place
    while end < len(lines) and len(lines[end].cells) > 1 and lines[end].page == lines[place].page:
        end += 1
    while end - place >= 2:
        rows = [line.cells for line in lines[place:end]]
        grid = _grid(rows)
        if grid and (len(rows) > 2 or min(map(len, rows)) > 2):
            return grid
        end -= 1
    return []


def _columns(cells: list[Cell]) -> list[tuple[float, float]]:
    """The stretches of the page's width that cells cover, from left to right; touching ones are one."""
    columns: list[tuple[float, float]] = []
    for cell in sorted(cells, key=lambda cell: cell.left):
        if columns and cell.left <= columns[-1][1]:
            columns[-1] = (columns[-1][0], max(columns[-1][1], cell.right))
        else:
            columns.append((cell.left, cell.right))
    return columns


def _grid(rows: list[tuple[Cell, ...]]) -> list[list[str]]:
    columns = _columns([cell for row in rows for cell in row])
    grid: list[list[str]] = []
    for row in rows:
        texts = [""] * len(columns)
        for cell in row:
            place = next((i for i, (left, right) in enumerate(columns) if left <= cell.left <= right), None)
            if place is None or texts[place]:  # None: a damaged file whose cells end before they start
                return []
            texts[place] = cell.text
        grid.append(texts)
    return grid

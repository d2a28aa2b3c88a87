"""Inside a slide: its shapes in reading order, which of them are furniture, and which paragraphs are list items."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tinyforge.ingest.builder import clean

A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_FURNITURE = {"DATE": "date", "FOOTER": "page footer", "HEADER": "page header", "SLIDE_NUMBER": "slide number"}
_BODY = frozenset({"BODY", "OBJECT", "VERTICAL_BODY", "VERTICAL_OBJECT"})
_ROW = 300_000  # English Metric Units, a third of an inch: shapes this close in height stand side by side


def kind_of(shape: Any) -> str:
    """The name of a placeholder's type (TITLE, BODY, FOOTER); empty for any other shape."""
    return str(shape.placeholder_format.type.name) if shape.is_placeholder and shape.placeholder_format.type else ""


def in_order(shapes: Iterable[Any]) -> Iterator[Any]:
    """The shapes from top to bottom and left to right; those of a group together, at the place of the group."""
    for shape in sorted(shapes, key=lambda shape: ((shape.top or 0) // _ROW, shape.left or 0)):
        if hasattr(shape, "shapes"):
            yield from in_order(shape.shapes)
        else:
            yield shape


def furniture(shape: Any) -> str:
    """What a shape is counted as that repeats on every slide by design; empty for content."""
    return _FURNITURE.get(kind_of(shape), "")


def repeated(slides: Iterable[Iterable[Any]]) -> set[tuple[str, int]]:
    """The keys of text boxes that stand, digits aside, at the same height on 40% of the slides and three at least."""
    per_slide = [{key_of(shape) for shape in in_order(shapes) if _may_repeat(shape)} for shapes in slides]
    seen = Counter(key for keys in per_slide for key in keys)
    needed = max(3, math.ceil(0.4 * len(per_slide)))
    return {key for key, count in seen.items() if count >= needed}


def _may_repeat(shape: Any) -> bool:
    return shape.has_text_frame and not shape.is_placeholder and bool(shape.text_frame.text.strip())


def key_of(shape: Any) -> tuple[str, int]:
    return re.sub(r"\d+", "#", clean(shape.text_frame.text)), round((shape.top or 0) / _ROW)


def text_of(paragraph: Any) -> str:
    return str(paragraph.text).replace("\v", "\n")


def marker(paragraph: Any, shape: Any) -> str:
    """``"- "`` or ``"1. "`` before a list item; empty for a paragraph.

    Where the slide does not say, the paragraphs of a body placeholder are items, as its master has bullets.
    """
    properties = paragraph._p.find(f"{A}pPr")
    tags = [child.tag for child in properties] if properties is not None else []
    if f"{A}buAutoNum" in tags:
        return "1. "
    if f"{A}buChar" in tags or f"{A}buBlip" in tags:
        return "- "
    if f"{A}buNone" in tags or kind_of(shape) not in _BODY:
        return ""
    many = sum(bool(other.text.strip()) for other in shape.text_frame.paragraphs) > 1
    return "- " if many or paragraph.level else ""


def table_grid(table: Any) -> tuple[list[list[str]], list[list[bool]], int | None]:
    """Texts by row and column, where each is written, and the header rows (None where the table does not say)."""
    grid = [[""] * len(table.columns) for _ in table.rows]
    written = [[True] * len(table.columns) for _ in table.rows]
    for number, row in enumerate(table.rows):
        for column, cell in enumerate(row.cells):
            if cell.is_spanned:
                written[number][column] = False
                continue
            text = " ".join(text_of(paragraph) for paragraph in cell.text_frame.paragraphs)
            for down in range(min(cell.span_height, len(grid) - number) if cell.is_merge_origin else 1):
                for right in range(min(cell.span_width, len(grid[0]) - column) if cell.is_merge_origin else 1):
                    grid[number + down][column + right] = text
    return grid, written, 1 if table.first_row and len(grid) > 1 else None


def chart_grid(chart: Any) -> list[list[str]]:
    """The numbers behind a chart: a row per category, a column per series."""
    grid: list[list[str]] = []
    for plot in chart.plots:
        names = [str(category) for category in plot.categories]
        series = list(plot.series)
        values = [list(one.values) for one in series]
        grid.append(["", *(str(one.name) for one in series)])
        for number in range(max(map(len, values), default=0)):
            name = names[number] if number < len(names) else str(number + 1)
            grid.append([name, *(_number(column, number) for column in values)])
    return grid


def _number(values: list[Any], place: int) -> str:
    value = values[place] if place < len(values) else None
    return "" if value is None else f"{value:.15g}"

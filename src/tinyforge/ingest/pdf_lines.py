"""The lines of a PDF's text layer in reading order, with their place, size and weight. Lengths are in points."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from tinyforge.ingest.builder import clean

_HYPHEN = "\ufffe"  # what PDFium puts in place of a hyphen and the line break after it
_LINE = re.compile(rf"[^\r\n{_HYPHEN}]+")
_INNER_SPACE = re.compile(r"(?<=\S)\s+(?=\S)")
_BULLET = str.maketrans({"\uf0b7": "•", "\uf0a7": "•", "\uf0d8": "•", "\uf076": "•", "\uf02d": "-"})
_PAGE_NUMBER = re.compile(r"(?:page |- )?#(?: ?(?:of|/) ?#| -)?$", re.IGNORECASE)
_BOLD_WEIGHT = 600
_WIDE_GAP = 1.0  # a gap of this many font sizes inside a line separates cells, not words
_DEEPEST_CUT = 60
_PROSE = 25  # characters; rows of cells longer than this are columns of running text, not a table
_EDGE = 0.1  # share of the text's height at the top and at the bottom where headers and footers stand


@dataclass(frozen=True)
class Cell:
    text: str
    left: float
    right: float


@dataclass(frozen=True)
class Line:
    """One line of a page; ``cells`` are its parts between wide gaps, ``hyphen`` that its last word is cut."""

    page: int
    text: str
    left: float
    right: float
    top: float
    bottom: float
    size: float
    bold: bool
    hyphen: bool
    cells: tuple[Cell, ...]


class _Boxes:
    """Where the characters of a page stand, font bounds included: its callers ask for two at every gap of a line."""

    def __init__(self, text_page: Any) -> None:
        import pypdfium2.raw as pdfium

        self._page = text_page.raw
        self._box = pdfium.FPDFText_GetLooseCharBox
        self._rect = pdfium.FS_RECTF()

    def at(self, index: int) -> Any:
        """Its ``left``, ``bottom``, ``right`` and ``top``, until the next one is asked for."""
        if not self._box(self._page, index, self._rect):
            raise ValueError(f"character {index} of the page has no place")
        return self._rect


def _font(text_page: Any, index: int) -> tuple[float, bool]:
    """Size on the page and whether the character is bold."""
    import pypdfium2.raw as pdfium

    matrix = pdfium.FS_MATRIX(1, 0, 0, 1, 0, 0)
    pdfium.FPDFText_GetMatrix(text_page, index, matrix)
    size = pdfium.FPDFText_GetFontSize(text_page, index) * math.hypot(matrix.c, matrix.d)
    name = ctypes.create_string_buffer(128)
    pdfium.FPDFText_GetFontInfo(text_page, index, name, 128, ctypes.c_int())
    return size, pdfium.FPDFText_GetFontWeight(text_page, index) >= _BOLD_WEIGHT or b"bold" in name.value.lower()


def _cells(boxes: _Boxes, text: str, at: int, ends: tuple[float, float], widest: float) -> tuple[Cell, ...]:
    cells: list[Cell] = []
    begin, left = 0, ends[0]
    for gap in _INNER_SPACE.finditer(text):
        before = boxes.at(at + gap.start() - 1).right
        after = boxes.at(at + gap.end()).left
        if after - before > widest:
            cells.append(Cell(clean(text[begin : gap.start()]), left, before))
            begin, left = gap.end(), after
    return (*cells, Cell(clean(text[begin:]), left, ends[1]))


def lines_of(text_page: Any, page: int) -> Iterator[Line]:
    """The lines of one page as they come in the file."""
    import pypdfium2.raw as pdfium

    text: str = text_page.get_text_range()
    boxes = _Boxes(text_page)
    for match in _LINE.finditer(text):
        raw = match[0].strip()
        shown = clean(raw.translate(_BULLET))
        if not shown:
            continue
        skipped = len(match[0]) - len(match[0].lstrip())
        at = pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, match.start() + skipped)
        box = boxes.at(at)
        left, top, bottom = box.left, box.top, box.bottom
        box = boxes.at(at + len(raw) - 1)
        right, top, bottom = box.right, max(top, box.top), min(bottom, box.bottom)
        size, bold = _font(text_page, at)
        bold = bold and _font(text_page, at + len(raw) - 1)[1]
        hyphen = text[match.end() : match.end() + 1] == _HYPHEN or (shown[-1] == "-" and shown[-2:-1].isalpha())
        cells = _cells(boxes, raw, at, (left, right), _WIDE_GAP * size)
        yield Line(page, shown, left, right, top, bottom, size, bold, hyphen, cells)


def _overlap(a: Line, b: Line) -> bool:
    return a.left < b.right and b.left < a.right


def in_reading_order(lines: list[Line]) -> list[Line]:
    """The order of the file, unless it jumps back up over the same column; then columns and rows are cut apart."""
    rows = _rows(lines)
    wide = [row for row in rows if len(row.cells) > 1 and all(len(cell.text) > _PROSE for cell in row.cells)]
    if len(wide) >= 4:
        return _cut([part for row in rows for part in (_parts(row) if row in wide else [row])], 0)
    jumps = any(_overlap(a, b) and b.bottom >= a.top for a, b in pairwise(rows))
    return _cut(rows, 0) if jumps else rows


def _rows(lines: list[Line]) -> list[Line]:
    """Lines that follow each other on one baseline (PDFium parts them at the widest gaps) as one line of cells."""
    rows: list[Line] = []
    for line in lines:
        before = rows[-1] if rows else None
        level = before is not None and abs(before.bottom - line.bottom) < 0.3 * line.size
        if before is not None and level and line.left > before.right:
            text, cells = f"{before.text} {line.text}", before.cells + line.cells
            rows[-1] = replace(before, text=text, right=line.right, hyphen=line.hyphen, cells=cells)
        else:
            rows.append(line)
    return rows


def _parts(row: Line) -> list[Line]:
    hyphens = [cell.text[-1] == "-" for cell in row.cells[:-1]] + [row.hyphen]
    return [
        replace(row, text=cell.text, left=cell.left, right=cell.right, hyphen=hyphen, cells=(cell,))
        for cell, hyphen in zip(row.cells, hyphens, strict=True)
    ]


def _cut(lines: list[Line], depth: int) -> list[Line]:
    """Recursive XY cut: a gutter between two text columns first, else the widest white stripe across."""
    by_height = sorted(lines, key=lambda line: (-line.top, line.left))
    if len(lines) < 2 or depth > _DEEPEST_CUT:
        return by_height
    if gutter := _gutter(lines):
        left = [line for line in lines if line.right <= gutter]
        return _cut(left, depth + 1) + _cut([line for line in lines if line.right > gutter], depth + 1)
    lowest = by_height[0].bottom
    stripes: list[tuple[float, int]] = []
    for place, line in enumerate(by_height[1:], 1):
        stripes.append((lowest - line.top, -place))
        lowest = min(lowest, line.bottom)
    width, place = max(stripes)
    if width <= 0:
        return by_height
    return _cut(by_height[:-place], depth + 1) + _cut(by_height[-place:], depth + 1)


def _gutter(lines: list[Line]) -> float | None:
    """The right edge of the left one of two columns with at least four wide lines each."""
    by_left = sorted(lines, key=lambda line: line.left)
    width = max(line.right for line in lines) - by_left[0].left
    reach = by_left[0].right
    for place, line in enumerate(by_left[1:], 1):
        if line.left > reach + line.size and place >= 4 and len(lines) - place >= 4:
            widths = sorted(other.right - other.left for other in lines)
            return reach if widths[len(widths) // 2] > 0.2 * width else None
        reach = max(reach, line.right)
    return None


def without_furniture(pages: list[list[Line]]) -> tuple[list[list[Line]], int]:
    """The pages without the headers, footers and page numbers that repeat, and how many lines that took.

    A line is one of these when, digits aside, it stands at the same height, near the top or the bottom, among the two
    outermost lines of at least 40% of the pages (three at the least; two for a bare page number).
    """
    lines = [line for page in pages for line in page]
    highest = max((line.top for line in lines), default=0.0)
    lowest = min((line.bottom for line in lines), default=0.0)
    margin = _EDGE * (highest - lowest)

    def key(line: Line) -> tuple[str, int]:
        return re.sub(r"\d+", "#", line.text), round(line.top / 12)

    seen: Counter[tuple[str, int]] = Counter()
    outer: list[set[int]] = []
    for page in pages:
        by_height = sorted(page, key=lambda line: -line.top)
        edge = [line for line in by_height[:2] if line.top > highest - margin]
        edge += [line for line in by_height[2:][-2:] if line.bottom < lowest + margin]
        outer.append({id(line) for line in edge})
        seen.update({key(line) for line in edge})
    needed = max(3, math.ceil(0.4 * len(pages)))

    def repeats(line: Line) -> bool:
        name = key(line)
        return seen[name] >= needed or (seen[name] >= 2 and _PAGE_NUMBER.match(name[0]) is not None)

    kept = [
        [line for line in page if not (id(line) in edge and repeats(line))]
        for page, edge in zip(pages, outer, strict=True)
    ]
    return kept, sum(map(len, pages)) - sum(map(len, kept))

"""Where a parser's findings become a text with spans; the only place that computes offsets.

Blocks are separated by a blank line, the items of a list and the rows of a table by a line break. List markers,
indentation and the ``" | "`` between cells lie outside the spans, so ``text[span]`` is always what the source says.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from typing import Any

from tinyforge.records import Block, BlockKind, Document, Span

# Controls (not those that str.split treats as white space), zero-width and direction marks, soft hyphens, lone
# surrogates, non-characters. Joiners stay after Arabic and Indic letters and emoji, where they change what is read.
_UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff]"
    "|(?<![\u0600-\u0dff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff])[\u200c\u200d]"
)
_TIGHT: frozenset[BlockKind] = frozenset({"list_item", "table_row"})
_KEEPS_LINES: frozenset[BlockKind] = frozenset({"paragraph", "quote"})
_CELL_GAP = " | "
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d")


def seen(text: str) -> str:
    """The text without characters that nobody sees, in Unicode NFC."""
    return unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def clean(text: str) -> str:
    """One line: seen characters only, runs of white space as one space, stripped."""
    return " ".join(seen(text).split())


def _clean_lines(text: str) -> str:
    """The same, keeping the line breaks that the author asked for."""
    lines = (" ".join(line.split()) for line in seen(text).split("\n"))
    return "\n".join(line for line in lines if line)


def _clean_code(text: str) -> str:
    lines = [line.rstrip() for line in seen(text).replace("\r\n", "\n").split("\n")]
    return textwrap.dedent("\n".join(lines)).strip("\n")


class TextBuilder:
    """Takes blocks in reading order; ``document`` gives the text and the spans."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._marks: list[tuple[BlockKind, int, int, int, str, str]] = []
        self._last: BlockKind | None = None

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def _append(self, text: str) -> int:
        start = self._length
        self._pieces.append(text)
        self._length += len(text)
        return start

    def _open(self, kind: BlockKind, tight: bool = True) -> None:
        if self._last is not None:
            self._append("\n" if tight and kind == self._last and kind in _TIGHT else "\n\n")
        self._last = kind

    def add(self, kind: BlockKind, text: str, level: int = 0, marker: str = "") -> int | None:
        """Append one block and return the offset of its text; None, and nothing appended, when it shows nothing.

        ``marker`` ("- ", "1. ") is put before a list item, which is indented by its level. Paragraphs and quotes keep
        their line breaks (pass soft ones as spaces), code keeps its layout, everything else becomes one line.
        """
        if kind == "code":
            text = _clean_code(text)
        elif kind in _KEEPS_LINES and "\n" in text:
            text = _clean_lines(text)
        else:
            text = clean(text)
        visible = text.lstrip()
        if not visible:
            return None
        self._open(kind)
        indent = "  " * level if kind == "list_item" else text[: len(text) - len(visible)]
        self._append(indent + marker)
        start = self._append(visible)
        self._marks.append((kind, start, self._length, level, "", ""))
        return start

    def table(
        self, grid: Sequence[Sequence[str]], header_rows: int, shown: Sequence[Sequence[bool]] = ()
    ) -> int | None:
        """Append a table, a line per row: a ``table_row`` block over each line, then a ``table_cell`` for each cell.

        ``grid[row][column]`` holds the text of the cell that covers the place, so a spanning cell stands in several;
        ``shown`` (default: everywhere) is true where it is to be written. A cell's label is its column's header, its
        row the text of the first column. Cells of the header carry neither, cells of the first column only a label.
        Returns the offset of the first row; None for a table that shows nothing.
        """
        rows = [[clean(cell) for cell in row] for row in grid]
        labels = _labels(rows[:header_rows])
        start: int | None = None
        for number, row in enumerate(rows):
            places = shown[number] if shown else [True] * len(row)
            cells = [cell if place else "" for cell, place in zip(row, places, strict=True)]
            if any(cells):
                self._open("table_row", tight=start is not None)
                start = self._length if start is None else start
                self._row(cells, [] if number < header_rows else labels, row[0] if number >= header_rows else "")
        return start

    def _row(self, cells: list[str], labels: list[str], name: str) -> None:
        last = max(place for place, cell in enumerate(cells) if cell)
        place_of_row = len(self._marks)
        row_start = self._length
        for column, cell in enumerate(cells[: last + 1]):
            gap = _CELL_GAP if column else ""
            # The line of a row starts with something to see, so that its span is stripped.
            self._append(gap.lstrip() if self._length == row_start else gap)
            if cell:
                start = self._append(cell)
                label = labels[column] if column < len(labels) else ""
                row_name = name if column else ""
                self._marks.append(("table_cell", start, self._length, 0, label, row_name))
        self._marks.insert(place_of_row, ("table_row", row_start, self._length, 0, "", ""))

    def document(self, source: str, metadata: dict[str, Any]) -> Document:
        """Everything appended so far as a Document; its text may be empty."""
        text = "".join(self._pieces)
        identity = Document.identify(source, text)
        blocks = tuple(Block(kind, Span(identity, a, b), level, *names) for kind, a, b, level, *names in self._marks)
        return Document(identity, text, blocks, source, metadata)


def _labels(header: list[list[str]]) -> list[str]:
    """Per column, what the rows of a header say from top to bottom ("2026 Q1")."""
    return [" ".join(dict.fromkeys(part for part in column if part)) for column in zip(*header, strict=True)]


def guess_header_rows(grid: Sequence[Sequence[str]]) -> int:
    """1 where the first row of an unmarked table reads like column names, else 0.

    Two columns are more often names and values without a header, so there every value below must carry a digit and the
    name above it none.
    """
    if len(grid) < 2:
        return 0
    if not names_columns(grid[0], grid[1:]):
        return 0
    if len(grid[0]) > 2:
        return 1
    values_are_numbers = all(any(map(str.isdigit, row[1])) for row in grid[1:])
    return int(values_are_numbers and not any(map(str.isdigit, grid[0][1])))


def names_columns(row: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Whether a row can be the names of columns: two or more, filled in, different and short, each with a letter.

    After the first column years are names as well, where there are several and the values below them are none.
    """
    names = [clean(cell) for cell in row]
    said = names[1:] if len(names) > 2 and not names[0] else names  # the corner above row headers may be blank
    if len(names) < 2 or len(set(said)) < len(said):
        return False
    years = _years(names, below)
    if not all(name in years or re.search(r"[^\W\d]", name) for name in said):
        return False
    return max(map(len, names)) <= 60 and not any(name.endswith(":") for name in names)


def _years(names: Sequence[str], below: Sequence[Sequence[str]]) -> set[str]:
    """The names that are years; none of them where the column of one holds nothing else."""
    years = {place: name for place, name in enumerate(names) if place and _YEAR.fullmatch(name)}
    values = ([row[place].strip() for row in below if place < len(row)] for place in years)
    if len(years) < 2 or any(all(_YEAR.fullmatch(value) for value in column if value) for column in values):
        return set()
    return set(years.values())

"""Sections cut into passages: what is embedded, searched, quoted and given to a model with a question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tinyforge.records import Block, Document, Section, Span
from tinyforge.retrieve.sentences import sentences

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Passage:
    """``text`` is exactly the characters of ``span``; ``searched`` is what is embedded and indexed.

    ``searched`` puts the title and the headings in front, and writes each table cell behind its row and column, so
    that a row is found whose header lies in another passage. ``cells`` is as in ``Hit``; ``section`` counts the
    sections of the document from 0.
    """

    span: Span
    path: tuple[str, ...]
    text: str
    source: str
    searched: str
    cells: tuple[tuple[int, int, str], ...] = ()
    section: int = 0


def cut(documents: Sequence[Document], characters: int) -> list[Passage]:
    """Every section of every document as passages of about ``characters``, in reading order.

    A passage never crosses a heading. A section is cut between blocks; a block that is longer by itself between its
    sentences or, when it is the row of a table, between its cells; a longer sentence between words. Together the
    passages hold every block of every section.
    """
    return [
        _passage(document, number, section, piece)
        for document in documents
        for number, section in enumerate(document.sections())
        for piece in _pack(_units(document, section, characters), characters)
    ]


def _passage(document: Document, number: int, section: Section, piece: Range) -> Passage:
    span = Span(document.id, *piece)
    text = document.slice(span)
    cells = _cells(section.blocks, span)
    heading = section.path if section.path[0] == document.title else (document.title, *section.path)
    searched = f"{' > '.join(heading)}\n{_with_names(text, cells)}"
    return Passage(span, section.path, text, document.source, searched, cells, number)


def _cells(blocks: Sequence[Block], span: Span) -> tuple[tuple[int, int, str], ...]:
    found = []
    for block in blocks:
        if block.kind == "table_cell" and block.span.overlaps(span):
            start, end = max(block.span.start, span.start), min(block.span.end, span.end)
            name = ", ".join(part for part in (block.row, block.label) if part)
            found.append((start - span.start, end - span.start, name))
    return tuple(sorted(found))


def _with_names(text: str, cells: Sequence[tuple[int, int, str]]) -> str:
    parts, last = [], 0
    for start, end, name in cells:
        parts += [text[last:start], f"{name}: " if name else "", text[start:end]]
        last = end
    return "".join([*parts, text[last:]])


def _units(document: Document, section: Section, characters: int) -> Iterator[Range]:
    """The smallest pieces that a passage is packed from, each at most about ``characters`` long."""
    cells = [b.span for b in section.blocks if b.kind == "table_cell"]
    for start, end in _outermost(section.blocks):
        if end - start <= characters:
            yield start, end
            continue
        inside = [cell for cell in cells if start <= cell.start and cell.end <= end]
        borders = [start, *(cell.start for cell in inside[1:]), end]
        for left, right in pairwise(borders):
            yield from _sentence_units(document.text, left, right, characters)


def _outermost(blocks: Sequence[Block]) -> list[Range]:
    """The ranges of the blocks in order, without those that lie in another (the cells in their row)."""
    ranges: list[Range] = []
    for block in sorted(blocks, key=lambda b: (b.span.start, -b.span.end)):
        if not ranges or block.span.start >= ranges[-1][1]:
            ranges.append((block.span.start, block.span.end))
        else:
            ranges[-1] = (ranges[-1][0], max(ranges[-1][1], block.span.end))
    return ranges


def _sentence_units(text: str, start: int, end: int, characters: int) -> Iterator[Range]:
    """A stretch that is too long, cut where its sentences start, so that the pieces cover all of it."""
    if end - start <= characters:
        yield start, end
        return
    starts = [start + left for left, _ in sentences(text[start:end])]
    borders = [start, *starts[1:], end]
    for left, right in pairwise(borders):
        yield from _word_units(text, left, right, characters)


def _word_units(text: str, start: int, end: int, characters: int) -> Iterator[Range]:
    while end - start > characters:
        space = max(text.rfind(mark, start + characters // 2, start + characters) for mark in " \n\t")
        border = space + 1 if space >= 0 else start + characters
        yield start, border
        start = border
    yield start, end


def _pack(units: Iterator[Range], characters: int) -> Iterator[Range]:
    """Neighbouring units together while they fit."""
    current: Range | None = None
    for start, end in units:
        if current is not None and end - current[0] <= characters:
            current = (current[0], end)
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current

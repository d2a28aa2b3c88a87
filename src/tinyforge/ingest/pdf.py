"""PDF with a text layer: lines joined to paragraphs, headings by size and weight, lists, evenly spaced tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.builder import TextBuilder, clean, guess_header_rows
from tinyforge.ingest.pdf_lines import Line, in_reading_order, lines_of, without_furniture
from tinyforge.ingest.pdf_table import table_at
from tinyforge.records import Document

_TAIL = 2048  # bytes at the end of a whole PDF that hold its %%EOF
_ITEM = re.compile(r"([-–*•◦▪‣●○■]|\d{1,3}[.)]|\([a-z0-9]\))\s+(?=\S)")
_NUMBERED = re.compile(r"(\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+[A-Z]")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_PASSWORD, _SECURITY = 4, 5  # PDFium's error codes
_LONGEST_HEADING = 120
_PLACEHOLDER_TITLES = frozenset({"", "untitled", "(anonymous)", "anonymous", "unspecified", "(unspecified)"})


def _open(path: Path) -> Any:
    import pypdfium2

    data = path.read_bytes()
    cut = InputError(f"{path}: truncated or damaged PDF.", "Download or copy it again, or print it to a new PDF.")
    if b"%PDF-" not in data[:1024]:
        raise InputError(f"{path}: not a PDF (it does not start with %PDF-).", "Give it its real file extension.")
    # PDFium repairs a file that was cut short and then says nothing of the pages that are gone.
    if b"%%EOF" not in data[-_TAIL:]:
        raise cut
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) in {_PASSWORD, _SECURITY}:
            raise InputError(
                f"{path}: encrypted PDF, it needs a password.",
                'Save a copy without one, for example: qpdf --decrypt --password=... "in.pdf" "out.pdf"',
            ) from None
        raise cut from error


def _pages(pdf: Any, path: Path) -> list[list[Line]]:
    import pypdfium2

    pages: list[list[Line]] = []
    for number in range(len(pdf)):
        try:
            page = pdf[number]
            text_page = page.get_textpage()
        except pypdfium2.PdfiumError as error:
            fix = "Download or copy it again, or print it to a new PDF."
            raise InputError(f"{path}: damaged PDF, page {number + 1} cannot be loaded.", fix) from error
        pages.append(in_reading_order(list(lines_of(text_page, number))))
        text_page.close()
        page.close()
    return pages


class _Layout:
    """What is usual in this document, to tell headings and paragraph ends by."""

    def __init__(self, pages: list[list[Line]]) -> None:
        lines = [line for page in pages for line in page]
        sizes: Counter[float] = Counter()
        bold = 0
        for line in lines:
            sizes[round(line.size * 2) / 2] += len(line.text)
            bold += len(line.text) * line.bold
        self.body = max(sizes, key=lambda size: (sizes[size], -size))
        self.bold_body = bold > sum(sizes.values()) / 2
        pitches = [a.top - b.top for page in pages for a, b in pairwise(page) if 0 < a.top - b.top < 3 * self.body]
        self.pitch = median(pitches) if pitches else 1.2 * self.body
        self.width = max(line.right for line in lines) - min(line.left for line in lines)
        self.rights = {
            (page_number, round(line.left / 20)): max(
                other.right for other in page if abs(round(other.left / 20) - round(line.left / 20)) <= 1
            )
            for page_number, page in enumerate(pages)
            for line in {round(line.left / 20): line for line in page}.values()
        }
        # A size that many lines have is a second kind of text, as the figures of a form beside its small print.
        many = Counter(round(line.size * 2) / 2 for line in lines)
        self.text_sizes = {size for size, n in many.items() if n > 8 and n > 0.25 * len(lines)} | {self.body}
        large = {round(line.size * 2) / 2 for line in lines if self._is_large(line)}
        self.heading_sizes = sorted(large, reverse=True)
        self.has_headings = any(self._is_large(line) or self._is_bold(line) for line in lines)
        self.words = Counter(word.lower() for line in lines for word in _WORD.findall(line.text))

    def _is_large(self, line: Line) -> bool:
        short = len(line.text) <= _LONGEST_HEADING and any(map(str.isalpha, line.text))
        return short and line.size > 1.12 * self.body and round(line.size * 2) / 2 not in self.text_sizes

    def _is_bold(self, line: Line) -> bool:
        one_cell = len(line.cells) == 1 and len(line.text) <= 80
        return line.bold and not self.bold_body and one_cell and line.text[-1] not in ".,;" and line.size >= self.body

    def heading_level(self, line: Line) -> int:
        """0 for text; larger sizes come first, then bold lines of the body's size; else numbered titles."""
        if self._is_large(line):
            return min(1 + self.heading_sizes.index(round(line.size * 2) / 2), 6)
        if self._is_bold(line):
            return min(1 + len(self.heading_sizes), 6)
        numbered = _NUMBERED.match(line.text)
        if not self.has_headings and numbered and len(line.text) <= 60 and line.text[-1] not in ".,;:":
            return 1 + numbered[1].count(".")
        return 0

    def is_full(self, line: Line) -> bool:
        """Whether a line reaches the right edge of its column, so that its sentence may go on below."""
        right = self.rights[line.page, round(line.left / 20)]
        return line.right - line.left > 0.33 * self.width and line.right > right - 0.15 * (right - line.left)

    def goes_on(self, line: Line, after: Line) -> bool:
        """Whether ``after`` belongs to the same paragraph as ``line``."""
        if len(line.cells) > 1 or len(after.cells) > 1 or abs(line.size - after.size) > 0.6:
            return False
        unfinished = line.hyphen or (after.text[0].islower() and line.text[-1] not in ".!?:;")
        is_item = _ITEM.match(after.text)
        if is_item and (not after.text[0].isdigit() or not self.is_full(line) or line.text[-1] in ".!?:;"):
            return False
        pitch = line.top - after.top
        if after.page != line.page or pitch < 0:  # the next page or column
            return unfinished
        near = pitch <= 1.3 * self.pitch * max(1.0, line.size / self.body)
        return near and (unfinished or self.is_full(line))

    def join(self, text: str, line: Line, after: Line) -> str:
        """``text``, which ends with ``line``, and ``after``; a hyphen stays where the document writes the word so."""
        if not line.hyphen or not after.text[0].isalpha():
            return f"{text} {after.text}"
        stem = text.removesuffix("-")
        head = (_WORD.findall(stem) or [""])[-1].lower()
        tail = (_WORD.findall(after.text) or [""])[0].lower()
        compound = self.words[f"{head}-{tail}"] or after.text[0].isupper()
        two_words = min(len(head), len(tail)) > 2 and self.words[head] and self.words[tail] > 1
        keep = not self.words[head + tail] and (compound or two_words)
        return f"{stem}-{after.text}" if keep else stem + after.text


class _Writer:
    """Writes lines as blocks and notes where each page starts."""

    def __init__(self, layout: _Layout) -> None:
        self.layout = layout
        self.out = TextBuilder()
        self.starts: dict[int, int] = {}
        self.indents: list[float] = []

    def write(self, lines: list[Line]) -> None:
        place = 0
        while place < len(lines):
            end = self._table(lines, place) or self._block(lines, place)
            place = end

    def _table(self, lines: list[Line], place: int) -> int | None:
        grid = table_at(lines, place)
        if not grid:
            return None
        start = self.out.table(grid, guess_header_rows(grid))
        if start is not None:
            self.starts.setdefault(lines[place].page, start)
        return place + len(grid)

    def _block(self, lines: list[Line], place: int) -> int:
        """One heading, list item or paragraph; returns the place of the line after it."""
        first = last = lines[place]
        level = self.layout.heading_level(first)
        text = first.text
        joins = [(first.page, 0)]
        place += 1
        while place < len(lines) and self._continues(last, lines[place], level):
            after = lines[place]
            text = self.layout.join(text, last, after)
            joins.append((after.page, len(text) - len(after.text)))
            last = after
            place += 1
        self._add(first, text, level, joins)
        return place

    def _continues(self, line: Line, after: Line, level: int) -> bool:
        if level != self.layout.heading_level(after):
            return False
        if level:
            return line.page == after.page and 0 < line.top - after.top < 1.5 * line.size and line.size == after.size
        return self.layout.goes_on(line, after)

    def _add(self, first: Line, text: str, level: int, joins: list[tuple[int, int]]) -> None:
        item = None if level else _ITEM.match(text)
        cut = item.end() if item else 0
        if level:
            start = self.out.add("heading", text, level=level)
        elif item:
            self.indents = [known for known in self.indents if known < first.left - 3] + [first.left]
            marker = f"{item[1]} " if item[1][0].isalnum() or item[1][0] == "(" else "- "
            start = self.out.add("list_item", text[cut:], level=len(self.indents) - 1, marker=marker)
        else:
            self.indents.clear()
            start = self.out.add("paragraph", text)
        for page, offset in joins:
            if start is not None:
                self.starts.setdefault(page, start + max(0, offset - cut))


def _page_starts(starts: dict[int, int], pages: int, length: int) -> list[int]:
    """Where each page's text starts; a page without text starts where the next one does."""
    found = []
    for page in reversed(range(pages)):
        length = starts.get(page, length)
        found.append(length)
    return found[::-1]


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``pages``, ``page_starts`` (offsets into the text), ``dropped`` (lines of repeated
    page headers and footers, pages without text), ``pages_without_text`` (from 1), ``title`` where the file names one.

    Raises InputError for a damaged, truncated, encrypted or scanned file.
    """
    with _open(path) as pdf:
        count = len(pdf)
        read = _pages(pdf, path)
        title = clean(pdf.get_metadata_value("Title"))
    pages, dropped = without_furniture(read)
    if not any(pages):
        raise InputError(
            f"{path}: no text layer in its {count} page{'s' * (count != 1)} (a scan?).",
            'Recognise its text first, for example: ocrmypdf "in.pdf" "out.pdf"',
        )
    writer = _Writer(_Layout(pages))
    writer.write([line for page in pages for line in page])
    document = writer.out.document(source, {"path": str(path), "format": "pdf", "pages": count})
    document.metadata["page_starts"] = _page_starts(writer.starts, count, len(document.text))
    empty = [number + 1 for number, page in enumerate(read) if not page]
    document.metadata["pages_without_text"] = empty
    counts = {"repeated page header or footer": dropped, "page without text": len(empty)}
    document.metadata["dropped"] = {reason: count for reason, count in counts.items() if count}
    if title.lower() not in _PLACEHOLDER_TITLES:
        document.metadata["title"] = title
    yield document

"""DOCX: headings by style or outline level, lists, tables, footnotes and text boxes, in document order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyforge.ingest.builder import TextBuilder, guess_header_rows
from tinyforge.ingest.docx_text import (
    Styles,
    W,
    child_value,
    dropped_parts,
    local_name,
    nested_blocks,
    notes_of,
    text_of,
)
from tinyforge.ingest.package import check_package, damaged, opening_errors
from tinyforge.records import Document


def _open(path: Path) -> Any:
    import docx

    check_package(path, ".docx", "word/document")
    try:
        return docx.Document(str(path))
    except opening_errors() as error:
        raise damaged(path, ".docx", error) from error


class _Reader:
    def __init__(self, document: Any) -> None:
        self.out = TextBuilder()
        self.styles = Styles(document)
        self.notes = notes_of(document)
        self.numbers: dict[tuple[str, int], int] = {}
        self.shift = 0

    def read(self, body: Any) -> None:
        # Under a paragraph styled Title, "Heading 1" is the second level.
        styled = (self.styles.heading_level(p) for p in body.iter(f"{W}p"))
        self.shift = int(any(level == 0 for level in styled))
        self._container(body)

    def _container(self, parent: Any) -> None:
        for child in parent:
            name = local_name(child)
            if name == "p":
                self._paragraph(child)
            elif name == "tbl":
                self._table(child)
            elif name in {"sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag"}:
                self._container(child)

    def _paragraph(self, paragraph: Any) -> None:
        text = text_of(paragraph)
        level = self.styles.heading_level(paragraph)
        numbering = self.styles.numbering(paragraph)
        if level is not None:
            self.out.add("heading", text, level=level + self.shift)
        elif numbering is not None:
            self._item(text, *numbering)
        elif self.styles.is_named(paragraph, "quote"):
            self.out.add("quote", text)
        elif self.styles.is_named(paragraph, "code", "preformatted"):
            self.out.add("code", text)
        else:
            self.out.add("paragraph", text)
        for inner in nested_blocks(paragraph):
            self._container(inner)
        for reference in paragraph.iter(f"{W}footnoteReference", f"{W}endnoteReference"):
            key = (local_name(reference).removesuffix("Reference"), reference.get(f"{W}id"))
            self.out.add("paragraph", self.notes.get(key, ""))

    def _item(self, text: str, number_id: str, level: int) -> None:
        key = (number_id, level)
        self.numbers[key] = self.numbers.get(key, 0) + 1
        for deeper in [known for known in self.numbers if known[0] == number_id and known[1] > level]:
            del self.numbers[deeper]
        marker = f"{self.numbers[key]}. " if self.styles.is_ordered(number_id, level) else "- "
        self.out.add("list_item", text, level=level, marker=marker)

    def _table(self, table: Any) -> None:
        grid, shown, header_rows = _grid(table)
        if not grid:
            return
        if sum(map(sum, shown)) == 1 or next(table.iterdescendants(f"{W}tbl"), None) is not None:
            for cell in table.iterchildren(f"{W}tr"):  # a frame around text, or tables inside of a table
                for content in cell.iterchildren(f"{W}tc"):
                    self._container(content)
            return
        self.out.table(grid, header_rows or guess_header_rows(grid), shown)


def _grid(table: Any) -> tuple[list[list[str]], list[list[bool]], int]:
    """Texts by row and grid column, where each is written, and the number of rows marked as a repeated header."""
    grid: list[list[str]] = []
    shown: list[list[bool]] = []
    header_rows = 0
    for row in table.iter(f"{W}tr"):
        above = grid[-1] if grid else []
        texts, places = _row(row, above)
        grid.append(texts)
        shown.append(places)
        marked = row.find(f"{W}trPr/{W}tblHeader") is not None
        header_rows += marked and header_rows == len(grid) - 1
    width = max(map(len, grid), default=0)
    for texts, places in zip(grid, shown, strict=True):
        missing = width - len(texts)
        texts.extend([""] * missing)
        places.extend([False] * missing)
    return grid, shown, header_rows if header_rows < len(grid) else 0


def _row(row: Any, above: list[str]) -> tuple[list[str], list[bool]]:
    before = int(child_value(row, "trPr/gridBefore") or 0)
    texts, places = [""] * before, [False] * before
    for cell in row.iter(f"{W}tc"):
        span = int(child_value(cell, "tcPr/gridSpan") or 1)
        merge = cell.find(f"{W}tcPr/{W}vMerge")
        continues = merge is not None and merge.get(f"{W}val", "continue") == "continue" and len(texts) < len(above)
        text = above[len(texts)] if continues else " ".join(text_of(p) for p in cell.iter(f"{W}p"))
        texts += [text] * span
        places += [not continues] + [False] * (span - 1)
    return texts, places


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title`` where the file's properties name one, ``dropped`` what was left out.

    Raises InputError for a file that is not a zip archive or holds no document.
    """
    document = _open(path)
    reader = _Reader(document)
    reader.read(document.element.body)
    metadata: dict[str, Any] = {"path": str(path), "format": "docx", "dropped": dropped_parts(document)}
    if title := str(document.core_properties.title or "").strip():
        metadata["title"] = title
    yield reader.out.document(source, metadata)

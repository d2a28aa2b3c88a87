"""Small documents built by hand for the tests of synthesis."""

from __future__ import annotations

from tinyforge.records import Block, Document, Span


def build(*parts: tuple[str, ...], source: str = "guide.md") -> Document:
    """A document from ``(kind, text)``: ``("heading2", ...)`` sets a level, ``("cell", text, column, row)`` a cell."""
    text = ""
    marks: list[tuple[str, int, int, int, str, str]] = []
    for kind, content, *names in parts:
        text += "\n\n" if text else ""
        text += "1. " if kind == "step" else "- " if kind == "item" else ""
        start = len(text)
        text += content
        known = {"step": "list_item", "item": "list_item", "cell": "table_cell"}
        block = known.get(kind, "heading" if kind.startswith("heading") else kind)
        level = int(kind[-1]) if kind[-1].isdigit() else 0
        marks.append((block, start, len(text), level, *(names or ("", ""))))
    name = Document.identify(source, text)
    blocks = tuple(Block(kind, Span(name, a, b), level, *rest) for kind, a, b, level, *rest in marks)  # type: ignore[arg-type]
    return Document(name, text, blocks, source)

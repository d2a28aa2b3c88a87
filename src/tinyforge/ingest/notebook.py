"""Jupyter notebooks: Markdown cells as Markdown, code cells as code, and the text of their outputs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest import html, markdown
from tinyforge.ingest.builder import TextBuilder
from tinyforge.ingest.reading import read_text
from tinyforge.records import Document

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_TEXTS = ("text/markdown", "text/html", "text/latex", "text/plain")
_LONGEST_HEADING = 6


def _joined(text: object) -> str:
    """A multi-line string, which the format stores as one string or as a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text or "")


class _Reader:
    def __init__(self) -> None:
        self.out = TextBuilder()
        self.dropped: Counter[str] = Counter()

    def cell(self, cell: Mapping[str, Any]) -> None:
        kind = cell.get("cell_type")
        text = _joined(cell.get("source", cell.get("input")))
        if kind == "markdown":
            self.dropped += markdown.append(text, self.out)
        elif kind == "heading":  # notebooks before format 4
            self.out.add("heading", text, level=min(int(cell.get("level", 1)), _LONGEST_HEADING))
        elif kind == "code":
            self.out.add("code", text)
            for output in cell.get("outputs", []):
                self._output(output)
        elif text.strip():
            self.dropped[f"{kind} cell"] += 1

    def _output(self, output: Mapping[str, Any]) -> None:
        kind = output.get("output_type")
        if kind == "stream":
            self._stream(output)
        elif kind in {"execute_result", "display_data", "pyout"}:
            data = output.get("data", output)
            self._shown(data if isinstance(data, Mapping) else {})
        else:
            self.dropped["error output" if kind in {"error", "pyerr"} else f"{kind} output"] += 1

    def _stream(self, output: Mapping[str, Any]) -> None:
        if output.get("name", output.get("stream")) == "stderr":
            self.dropped["stderr output"] += 1
        else:
            self.out.add("code", _ANSI.sub("", _joined(output.get("text"))))

    def _shown(self, data: Mapping[str, Any]) -> None:
        """The richest text of an output; HTML only for its tables, as the rest of it is decoration."""
        texts = {kind: _joined(data[kind]) for kind in _TEXTS if kind in data}
        if "text" in data:  # notebooks before format 4
            texts["text/plain"] = _joined(data["text"])
        pictures = [kind for kind in data if kind.startswith("image/")]
        if pictures or not texts:
            self.dropped["picture" if pictures else "output without text"] += 1
        elif "text/markdown" in texts:
            self.dropped += markdown.append(texts["text/markdown"], self.out)
        elif "<table" in texts.get("text/html", ""):
            self.dropped += html.append(texts["text/html"], self.out)
        else:
            self.out.add("code", _ANSI.sub("", texts.get("text/plain") or texts.get("text/latex", "")))


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``language`` of the kernel, ``dropped`` outputs by reason.

    Raises InputError for a file that is not a notebook.
    """
    fix = "Save it again from Jupyter."
    try:
        book = json.loads(read_text(path))
    except ValueError as error:
        raise InputError(f"{path}: damaged notebook, not JSON ({error}).", fix) from error
    cells = book.get("cells", _old_cells(book)) if isinstance(book, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise InputError(f"{path}: JSON without the cells of a notebook.", "Name it .json, or save it from Jupyter.")
    reader = _Reader()
    for cell in cells:
        reader.cell(cell)
    metadata: dict[str, Any] = {"path": str(path), "format": "ipynb", "dropped": dict(sorted(reader.dropped.items()))}
    language = book.get("metadata", {}).get("language_info", {}).get("name")
    yield reader.out.document(source, metadata | ({"language": language} if language else {}))


def _old_cells(book: Mapping[str, Any]) -> list[Any] | None:
    sheets = book.get("worksheets")
    if not isinstance(sheets, list):
        return None
    return [cell for sheet in sheets for cell in sheet.get("cells", [])]

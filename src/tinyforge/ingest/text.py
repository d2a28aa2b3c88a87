"""Plain text: paragraphs at blank lines; headings and lists only where the layout says so clearly."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from tinyforge.ingest.builder import TextBuilder, clean
from tinyforge.ingest.chats.signs import refuse_text
from tinyforge.ingest.reading import read_text
from tinyforge.records import Document

_UNDERLINE = re.compile(r"\s*(={3,}|-{3,}|~{3,}|\*{3,})\s*$")
_NUMBERED = re.compile(r"(?:(?:chapter|section|part|article)\s+)?(\d{1,3}(?:\.\d{1,3}){0,4})[.):]?\s+\w", re.IGNORECASE)
_ITEM = re.compile(r"(\s*)([-*+•◦▪‣]|\d{1,3}[.)]|\([a-z0-9]\))\s+(?=\S)")
_UNWRAPPED = 110  # a line longer than this was not broken to fit a page, so its end is the end of a paragraph
_LONGEST_HEADING = 80


def _chunks(text: str) -> Iterator[list[str]]:
    """Runs of lines between blank lines."""
    chunk: list[str] = []
    for line in text.split("\n"):
        if line.strip():
            chunk.append(line)
        elif chunk:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _is_capitals(line: str) -> bool:
    letters = [c for c in line if c.isalpha()]
    return len(letters) >= 4 and all(c.isupper() for c in letters)


def heading_level(line: str, neighbour_numbered: bool = False) -> int:
    """The level that a line standing alone has as a heading; 0 where it is text.

    Capitals are level 1; numbers give their depth plus one ("2.1 Scope" is 3), unless a neighbouring paragraph is a
    single numbered line as well: then they are a list.
    """
    line = line.strip()
    if len(line) > _LONGEST_HEADING or line[-1:] in ".,;:!":
        return 0
    if _is_capitals(line):
        return 1
    numbered = _NUMBERED.match(line)
    if numbered and not neighbour_numbered and len(line) <= 60:
        return 2 + numbered[1].count(".")
    return 0


def _logical_lines(chunk: list[str]) -> Iterator[str]:
    """The lines of a paragraph joined where they were wrapped; a list item takes its continuation lines."""
    closed = all(line.rstrip()[-1] in ".!?:;" for line in chunk)
    joined = chunk[0].rstrip()
    for previous, line in pairwise(chunk):
        if closed or _ITEM.match(line) or len(previous) > _UNWRAPPED:
            yield joined
            joined = line.rstrip()
        else:
            joined += f" {line.strip()}"
    yield joined


def _add_lines(chunk: list[str], out: TextBuilder) -> None:
    indents: list[int] = []
    for line in _logical_lines(chunk):
        item = _ITEM.match(line)
        if item is None:
            out.add("paragraph", line)
            continue
        width = len(item[1].expandtabs(4))
        indents = [known for known in indents if known < width] + [width]
        marker = f"{item[2]} " if item[2][-1].isalnum() or item[2][-1] in ".)" else "- "
        out.add("list_item", line[item.end() :], level=len(indents) - 1, marker=marker)


def _alone_and_numbered(chunk: list[str]) -> bool:
    return len(chunk) == 1 and _NUMBERED.match(chunk[0].strip()) is not None


def _add_chunk(chunk: list[str], neighbour_numbered: bool, out: TextBuilder) -> None:
    if len(chunk) > 1 and (line := _UNDERLINE.match(chunk[1])) and len(clean(chunk[0])) <= _LONGEST_HEADING:
        out.add("heading", chunk[0], level=1 if line[1][0] in "=*" else 2)
        chunk = chunk[2:]
    elif len(chunk) == 1 and (level := heading_level(chunk[0], neighbour_numbered)):
        out.add("heading", chunk[0], level=level)
        return
    chunk = [line for line in chunk if not _UNDERLINE.match(line)]  # rules are decoration
    if chunk:
        _add_lines(chunk, out)


def add_prose(text: str, out: TextBuilder) -> None:
    """Append the paragraphs and lists of a text without headings of its own (a docstring, a comment)."""
    first, _, rest = text.partition("\n")
    for chunk in _chunks(f"{first.strip()}\n{textwrap.dedent(rest)}"):
        lines = [line for line in chunk if not _UNDERLINE.match(line)]
        if lines:
            _add_lines(lines, out)


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document. Raises InputError for a chat that WhatsApp exported."""
    text = read_text(path)
    refuse_text(text, path)
    out = TextBuilder()
    chunks = list(_chunks(text))
    numbered = [_alone_and_numbered(chunk) for chunk in chunks]
    for place, chunk in enumerate(chunks):
        neighbours = numbered[max(0, place - 1) : place] + numbered[place + 1 : place + 2]
        _add_chunk(chunk, any(neighbours), out)
    yield out.document(source, {"path": str(path), "format": "text"})

"""Markdown (CommonMark, tables, strikethrough) as it reads when rendered; raw HTML goes through the HTML parser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.rules_block.table import escapedSplit
from markdown_it.token import Token

from tinyforge.ingest.builder import TextBuilder
from tinyforge.ingest.reading import read_text
from tinyforge.records import BlockKind, Document

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_YAML_LINE = re.compile(r"\s*(#.*|-\s.*|[\w .-]+:(\s.*)?|[\]}].*|\s+\S.*)?$")
_TITLE_LINE = re.compile(r"^title:\s*(.+?)\s*$", re.MULTILINE)
# Text without any of these reads the same before and after inline parsing.
_MARKUP = re.compile(r"[\\`*_<&!\[~\n]")


@lru_cache(maxsize=2)
def _parser(deepest: int) -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": deepest}).enable(["table", "strikethrough"])
    parser.core.ruler.disable(["inline", "text_join"])  # inline text is parsed below, only where it has markup
    return parser


def _blocks(text: str, env: dict[str, Any]) -> list[Token]:
    # Blocks deeper than a limit would be dropped without a word. Past Python's own limit the file is refused by name.
    return _parser(1_000_000).parse(text, env)


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The YAML mapping between ``---`` lines at the top, and the rest; ``{}`` and all of the text without one.

    A mapping that is not valid YAML (``title: Notes: part 1``) still counts when every line looks like one; then
    only its title is taken.
    """
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        data = yaml.safe_load(match[1])
    except yaml.YAMLError:
        if not all(_YAML_LINE.match(line) for line in match[1].split("\n")):
            return {}, text
        title = _TITLE_LINE.search(match[1])
        data = {"title": title[1]} if title else {"unreadable": True}
    return (data, text[match.end() :]) if isinstance(data, dict) else ({}, text)


def _plain(tokens: Sequence[Token]) -> Iterator[str]:
    """What the inline tokens show: link texts, alternative texts, no marks and no tags."""
    for token in tokens:
        if token.type in {"text", "text_special", "code_inline"}:
            yield token.content
        elif token.type == "softbreak":
            yield " "
        elif token.type == "hardbreak" or (token.type == "html_inline" and token.content[:3].lower() == "<br"):
            yield "\n"
        elif token.type == "image":
            yield from _plain(token.children or [])


def _inline(content: str, env: dict[str, Any]) -> str:
    if not _MARKUP.search(content):
        return content
    tokens: list[Token] = []
    parser = _parser(100)  # inline markup deeper than this stays as it is written
    parser.inline.parse(content, parser, env, tokens)
    return "".join(_plain(tokens))


class _Reader:
    """Walks the block tokens once; lists and quotes are what it is inside of."""

    def __init__(self, text: str, out: TextBuilder) -> None:
        self.out = out
        self.dropped: Counter[str] = Counter()
        self.env: dict[str, Any] = {}
        self.lines = text.split("\n")
        self.tokens = iter(_blocks(text, self.env))
        self.lists: list[int | None] = []  # per open list: the number of its next item, None for bullets
        self.marker: str | None = None  # of the item whose text is still to come
        self.quotes = 0

    def read(self) -> Counter[str]:
        for token in self.tokens:
            handle = getattr(self, f"_{token.type}", None)
            if handle is not None:
                handle(token)
        return self.dropped

    def _heading_open(self, token: Token) -> None:
        text = _inline(next(self.tokens).content, self.env)
        if self.quotes:
            self.out.add("quote", text)
        else:
            self.out.add("heading", text, level=int(token.tag[1]))

    def _inline(self, token: Token) -> None:
        text = _inline(token.content, self.env)
        if self.marker is not None:
            self.out.add("list_item", text, level=len(self.lists) - 1, marker=self.marker)
            self.marker = None
            return
        kind: BlockKind = "quote" if self.quotes else "paragraph"
        self.out.add(kind, text)

    def _fence(self, token: Token) -> None:
        self.out.add("code", token.content)

    _code_block = _fence

    def _html_block(self, token: Token) -> None:
        from tinyforge.ingest import html

        self.dropped += html.append(token.content, self.out)

    def _bullet_list_open(self, _: Token) -> None:
        self.lists.append(None)

    def _ordered_list_open(self, token: Token) -> None:
        self.lists.append(int(token.attrs.get("start", 1)))

    def _bullet_list_close(self, _: Token) -> None:
        self.lists.pop()

    _ordered_list_close = _bullet_list_close

    def _list_item_open(self, _: Token) -> None:
        number = self.lists[-1]
        self.marker = "- " if number is None else f"{number}. "
        if number is not None:
            self.lists[-1] = number + 1

    def _list_item_close(self, _: Token) -> None:
        self.marker = None

    def _blockquote_open(self, _: Token) -> None:
        self.quotes += 1

    def _blockquote_close(self, _: Token) -> None:
        self.quotes -= 1

    def _table_open(self, _: Token) -> None:
        grid: list[list[str]] = []
        for token in self.tokens:
            if token.type == "tr_open":
                grid.append(self._table_row(token, len(grid[0]) if grid else 0))
            elif token.type == "table_close":
                break
        self.out.table(grid, header_rows=1)

    def _table_row(self, row: Token, columns: int) -> list[str]:
        cells: list[str] = []
        for token in self.tokens:
            if token.type == "inline":
                cells.append(token.content)
            elif token.type == "tr_close":
                break
        cells[-1:] = [" | ".join(cells[-1:] + self._surplus(row, columns))]
        return [_inline(cell, self.env) for cell in cells]

    def _surplus(self, row: Token, columns: int) -> list[str]:
        """The cells of a row beyond its header's: rendering drops them, we keep them with the last cell."""
        if not columns or not row.map:
            return []
        line = self.lines[row.map[0]].lstrip(" \t>").rstrip().removeprefix("|").removesuffix("|")
        if line.count("|") < columns:
            return []
        return [cell.strip() for cell in islice(escapedSplit(line), columns, None) if cell.strip()]


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title`` where the front matter has one, ``front_matter`` the keys that it held."""
    yield from_text(read_text(path), source, {"path": str(path), "format": "markdown"})


def from_text(text: str, source: str, metadata: dict[str, Any]) -> Document:
    """The Document of Markdown that is already in memory; ``metadata`` is added to."""
    fields, body = front_matter(text)
    if fields:
        metadata["front_matter"] = [str(key) for key in fields]
    if isinstance(fields.get("title"), str | int | float) and str(fields["title"]).strip():
        metadata["title"] = str(fields["title"]).strip().strip("\"'")
    out = TextBuilder()
    metadata["dropped"] = dict(sorted(append(body, out).items()))
    return out.document(source, metadata)


def append(text: str, out: TextBuilder) -> Counter[str]:
    """Append the blocks of a piece of Markdown (as found inside a notebook); returns what was left out."""
    return _Reader(text, out).read()

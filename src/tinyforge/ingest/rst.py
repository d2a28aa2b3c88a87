"""reStructuredText as docutils parses it, with what Sphinx adds; nothing is included from other files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.core import publish_doctree

from tinyforge.ingest.builder import TextBuilder, guess_header_rows
from tinyforge.ingest.reading import read_text
from tinyforge.ingest.rst_sphinx import register_names
from tinyforge.records import BlockKind, Document

_SETTINGS: dict[str, Any] = {
    "_disable_config": True,
    "file_insertion_enabled": False,
    "raw_enabled": False,
    "halt_level": 6,
    "report_level": 1,  # keeps every message in the tree, where it is counted
    "warning_stream": False,
    "syntax_highlight": "none",
    "line_length_limit": 10**9,
    "input_encoding": "unicode",
    "doctitle_xform": True,
}
_ERROR = 3
_FURNITURE = (
    "decoration",
    "header",
    "footer",
    "generated",
    "pending",
    "transition",
    "target",
    "substitution_definition",
)


def _inline(node: nodes.Node) -> str:
    """What a node shows on one line; line breaks of the source are spaces."""
    if isinstance(node, nodes.Text):
        return str(node.astext()).replace("\n", " ")
    if isinstance(node, nodes.image):
        return str(node.get("alt", ""))
    if isinstance(node, nodes.raw | nodes.system_message):
        return ""
    text = "".join(map(_inline, node.children))
    return f"[{text}]" if isinstance(node, nodes.footnote_reference | nodes.citation_reference) else text


class _Reader:
    """Walks the tree once; lists and quotes are what it is inside of."""

    def __init__(self) -> None:
        self.out = TextBuilder()
        self.dropped: Counter[str] = Counter()
        self.depth = 0  # of sections
        self.lists = 0
        self.quotes = 0
        self.marker: str | None = None  # of the item whose text is still to come

    def walk(self, node: nodes.Node) -> None:
        for child in node.children:
            self.visit(child)

    def visit(self, node: nodes.Node) -> None:
        name = type(node).__name__
        handle = getattr(self, f"_{name}", None)
        if handle is not None:
            handle(node)
        elif name in _FURNITURE:
            return
        elif isinstance(node, nodes.TextElement):
            self._say(_inline(node))
        else:
            self.walk(node)

    def _say(self, text: str) -> None:
        if self.marker is not None:
            if self.out.add("list_item", text, level=max(0, self.lists - 1), marker=self.marker) is not None:
                self.marker = None
            return
        kind: BlockKind = "quote" if self.quotes else "paragraph"
        self.out.add(kind, text)

    def _section(self, node: nodes.section) -> None:
        if "system-messages" in node.get("classes", []):
            return
        self.depth += 1
        self.walk(node)
        self.depth -= 1

    def _title(self, node: nodes.title) -> None:
        if isinstance(node.parent, nodes.document):  # the title above all sections
            self.depth += 1
        if isinstance(node.parent, nodes.document | nodes.section):
            self.out.add("heading", _inline(node), level=max(1, self.depth))
        else:  # of an admonition, a topic or a table
            self._say(_inline(node))

    def _bullet_list(self, node: nodes.Element) -> None:
        ordered = isinstance(node, nodes.enumerated_list)
        first = int(node.get("start", 1))
        self.lists += 1
        for number, item in enumerate(node.children, first):
            self.marker = f"{number}. " if ordered else "- "
            self.walk(item)
            self.marker = None
        self.lists -= 1

    _enumerated_list = _bullet_list

    def _definition_list_item(self, node: nodes.Element) -> None:
        """Term and description as one item ("Term: description"), as nobody can read one without the other."""
        terms = [_inline(child) for child in node.children if isinstance(child, nodes.term | nodes.classifier)]
        self._pair(", ".join(terms), [child for child in node.children if isinstance(child, nodes.definition)])

    def _field(self, node: nodes.Element) -> None:
        self._pair(_inline(node.children[0]), node.children[1:])

    def _option_list_item(self, node: nodes.Element) -> None:
        options = ", ".join(child.astext() for child in node.children[0].children)
        self._pair(options, node.children[1:])

    def _docinfo(self, node: nodes.Element) -> None:
        for child in node.children:
            if isinstance(child, nodes.field):
                self._field(child)
            else:
                self._pair(child.tagname, [child])

    def _pair(self, name: str, bodies: Any) -> None:
        parts = [child for body in bodies for child in (body.children or [body])]
        texts = [isinstance(part, nodes.paragraph | nodes.Text) for part in parts]
        plain = parts[: texts.index(False)] if False in texts else parts
        inline = all(isinstance(part, nodes.Text) or not isinstance(part, nodes.Element) for part in plain)
        head = plain if inline else plain[:1]
        text = " ".join(map(_inline, head))
        self.lists += 1
        self.out.add("list_item", f"{name.rstrip(':')}: {text}".rstrip(": "), level=self.lists - 1, marker="- ")
        for part in parts[len(head) :]:
            self.visit(part)
        self.lists -= 1

    def _literal_block(self, node: nodes.Element) -> None:
        self.out.add("code", node.astext())

    _doctest_block = _math_block = _literal_block

    def _line_block(self, node: nodes.Element) -> None:
        self._say("\n".join(_inline(line) for line in node.findall(nodes.line)))

    def _block_quote(self, node: nodes.Element) -> None:
        self.quotes += 1
        self.walk(node)
        self.quotes -= 1

    def _topic(self, node: nodes.Element) -> None:
        if "contents" in node.get("classes", []):
            self.dropped["table of contents"] += 1
        else:
            self.walk(node)

    def _image(self, node: nodes.Element) -> None:
        if node.get("alt"):
            self._say(str(node["alt"]))
        else:
            self.dropped["picture"] += 1

    def _comment(self, node: nodes.Element) -> None:
        self.dropped[node.get("dropped", "comment")] += 1

    def _raw(self, _: nodes.Element) -> None:
        self.dropped["raw markup"] += 1

    def _footnote(self, node: nodes.Element) -> None:
        self.walk(node)

    def _label(self, _: nodes.Element) -> None:
        """The number of a footnote: its text follows."""

    def _system_message(self, node: nodes.Element) -> None:
        if node.get("level", 0) >= _ERROR:
            self.dropped["markup that docutils refuses, kept as it is written"] += 1
            for block in node.findall(nodes.literal_block):
                self.out.add("code", block.astext())

    def _table(self, node: nodes.Element) -> None:
        for title in node.findall(nodes.title):
            self._say(_inline(title))
        grid, written, header_rows = _grid(node)
        if grid:
            self.out.table(grid, header_rows or guess_header_rows(grid), written)


def _grid(table: nodes.Element) -> tuple[list[list[str]], list[list[bool]], int]:
    """Texts by row and column, where each is written, and the number of header rows."""
    rows = list(table.findall(nodes.row))
    width = len(list(table.findall(nodes.colspec)))
    texts = [[""] * width for _ in rows]
    taken = [[False] * width for _ in rows]
    written = [[False] * width for _ in rows]
    for number, row in enumerate(rows):
        for entry in row.children:
            column = next((place for place in range(width) if not taken[number][place]), width)
            for down in range(min(int(entry.get("morerows", 0)) + 1, len(rows) - number)):
                for place in range(column, min(column + int(entry.get("morecols", 0)) + 1, width)):
                    texts[number + down][place] = " ".join(_inline(child) for child in entry.children)
                    taken[number + down][place] = True
                    written[number + down][place] = down == 0 and place == column
    return texts, written, sum(isinstance(row.parent, nodes.thead) for row in rows)


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``dropped`` by reason. Markup with errors is read as far as docutils recovers."""
    text = read_text(path)
    register_names(text)
    reader = _Reader()
    reader.walk(publish_doctree(text, settings_overrides=_SETTINGS))
    yield reader.out.document(
        source, {"path": str(path), "format": "rst", "dropped": dict(sorted(reader.dropped.items()))}
    )

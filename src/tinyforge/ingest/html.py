"""HTML as a reader sees it: the main content, without scripts, navigation, page furniture and hidden elements."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, PageElement, Tag

from tinyforge.ingest.builder import TextBuilder, clean, guess_header_rows
from tinyforge.ingest.chats.signs import refuse_page
from tinyforge.ingest.html_exports import ExportedPage, exported_page
from tinyforge.ingest.html_table import Cell, grid_of, is_layout
from tinyforge.ingest.reading import read_text
from tinyforge.records import BlockKind, Document

_NEVER = frozenset(
    "script style noscript template svg iframe object embed canvas audio video map head button select textarea "
    "datalist dialog nav menu".split()
)
_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search", "menu", "menubar", "toolbar"})
_FURNITURE = frozenset({"header", "footer", "aside"})
_CONTENT = ("main", "article", "section", "blockquote")
_BLOCKS = frozenset(
    "address article aside body caption center dd details dir div dl dt fieldset figcaption figure footer form header "
    "hgroup hr html legend li main ol optgroup option p section summary tbody td tfoot th thead tr ul".split()
)
_XML_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*>")
_HEADING = re.compile(r"h[1-6]$")
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
_PERMALINK = frozenset({"", "#", "¶", "§", "🔗"})
_DEEPEST = 200  # elements inside of each other; unclosed tags on old pages do pile up
_MAIN_SHARE = 0.4  # an article with less than this share of the page's text is a teaser, not the page


def _is_hidden(tag: Tag) -> bool:
    if tag.has_attr("hidden") or tag.get("aria-hidden") == "true":
        return True
    return bool(_HIDDEN_STYLE.search(str(tag.get("style", ""))))


def _is_furniture(tag: Tag) -> bool:
    """The page's header, footer and sidebars; those of an article belong to it, except its footer."""
    if tag.get("role") in _ROLES:
        return True
    if tag.name not in _FURNITURE:
        return False
    if tag.name == "footer":
        return tag.find_parent("blockquote") is None
    return tag.find_parent(_CONTENT) is None


def _is_permalink(tag: Tag) -> bool:
    return tag.name == "a" and str(tag.get("href", "")).startswith("#") and clean(tag.get_text()) in _PERMALINK


def _why_dropped(tag: Tag) -> str:
    """What a dropped element is counted as; empty for one that stays."""
    if tag.name in _NEVER:
        return tag.name
    if _is_hidden(tag):
        return "hidden"
    if _is_furniture(tag):
        return tag.name
    return "permalink" if _is_permalink(tag) else ""


def _formula(tag: Tag) -> str:
    tex = tag.find("annotation", encoding="application/x-tex")
    return (tex or tag).get_text()


class _Reader:
    """Walks the tree once, collecting inline text until a block ends."""

    def __init__(self, out: TextBuilder) -> None:
        self.out = out
        self.dropped: Counter[str] = Counter()
        self.inline: list[str] = []
        self.kind: BlockKind = "paragraph"
        self.item: tuple[str, int] | None = None  # marker and level of a list item whose text is still to come
        self.depth = 0

    def flush(self) -> None:
        text = "".join(self.inline)
        self.inline.clear()
        if not text or text.isspace():
            return
        if self.item is None:
            self.out.add(self.kind, text)
            return
        marker, level = self.item
        if self.out.add("list_item", text, level=level, marker=marker) is not None:
            self.item = None

    def walk(self, tag: Tag) -> None:
        for child in tag.children:
            if isinstance(child, Tag):
                self._element(child)
            elif type(child) in (NavigableString, CData):
                self.inline.append(str(child).replace("\n", " "))

    def _element(self, tag: Tag) -> None:
        if reason := _why_dropped(tag):
            self.dropped[reason] += 1
        elif tag.name in {"br", "img", "math"}:
            self.inline.append(_inline_piece(tag))
        elif (block := getattr(self, f"_{'heading' if _HEADING.match(tag.name) else tag.name}", None)) is not None:
            self.flush()
            block(tag)
        elif tag.name in _BLOCKS:
            self.flush()
            self.walk(tag)
            self.flush()
        else:
            self.walk(tag)

    def _heading(self, tag: Tag) -> None:
        self.out.add("heading", self.text_of(tag), level=int(tag.name[1]))

    def _pre(self, tag: Tag) -> None:
        for line_break in tag.find_all("br"):
            line_break.replace_with("\n")
        self.out.add("code", tag.get_text())

    def _blockquote(self, tag: Tag) -> None:
        outer, self.kind = self.kind, "quote"
        self.walk(tag)
        self.flush()
        self.kind = outer

    def _ul(self, tag: Tag) -> None:
        number = int(str(tag.get("start"))) if str(tag.get("start", "")).isdecimal() else 1
        self.depth += 1
        for child in tag.children:
            if not isinstance(child, Tag):
                continue
            if child.name == "li" and not _why_dropped(child):
                self.item = (f"{number}. " if tag.name == "ol" else "- ", self.depth - 1)
                number += 1
                self.walk(child)
                self.flush()
                self.item = None
            else:
                self._element(child)
        self.depth -= 1

    _ol = _ul

    def _dl(self, tag: Tag) -> None:
        """Term and description as one item ("Term: description"), as nobody can read one without the other."""
        term = ""
        for part in tag.find_all(["dt", "dd"]):
            if part.find_parent("dl") is not tag or _why_dropped(part):
                continue
            text = self.text_of(part)
            if part.name == "dd" and term:
                text, term = f"{term.rstrip(':')}: {text}", ""
            elif part.name == "dt":
                text, term = term, text
            if text:
                self.out.add("list_item", text, level=self.depth, marker="- ")
        if term:
            self.out.add("list_item", term, level=self.depth, marker="- ")

    def _table(self, tag: Tag) -> None:
        if is_layout(tag):
            self.walk(tag)
            self.flush()
            return
        grid, shown, header_rows = grid_of(self._cells(tag, tag), self.text_of)
        self.flush()
        self.out.table(grid, guess_header_rows(grid) if header_rows is None else header_rows, shown)

    def _cells(self, tag: Tag, row: Tag, seen: bool = True) -> Iterator[Cell]:
        """The cells of a table, wherever they stand in it; its caption and stray text are added on the way."""
        for child in tag.children:
            if not isinstance(child, Tag):
                if seen and type(child) in (NavigableString, CData):
                    self.inline.append(f" {child} ".replace("\n", " "))
                continue
            if reason := _why_dropped(child) if seen else "":
                self.dropped[reason] += 1
            stays = seen and not reason
            if child.name in {"td", "th"}:
                yield Cell(row, child, stays)
            elif child.name == "caption" and stays:
                self.out.add("paragraph", self.text_of(child))
            else:
                yield from self._cells(child, child if child.name == "tr" else row, stays)

    def text_of(self, tag: Tag) -> str:
        """What an element shows, as one line."""
        return clean("".join(self._pieces(tag)))

    def _pieces(self, tag: Tag) -> Iterator[str]:
        for child in tag.children:
            if not isinstance(child, Tag):
                yield str(child) if type(child) in (NavigableString, CData) else ""
            elif reason := _why_dropped(child):
                self.dropped[reason] += 1
            elif child.name in {"br", "img", "math"}:
                yield _inline_piece(child)
            else:
                edge = " " if child.name in _BLOCKS or child.name == "pre" or _HEADING.match(child.name) else ""
                yield edge
                yield from self._pieces(child)
                yield edge


def _inline_piece(tag: Tag) -> str:
    if tag.name == "br":
        return "\n"
    return _formula(tag) if tag.name == "math" else str(tag.get("alt", ""))


def _text_length(tag: PageElement) -> int:
    return len(tag.get_text(" ", strip=True))


def _content(soup: BeautifulSoup) -> Tag:
    """``<main>`` or the one ``<article>`` where the page has them, else the body."""
    body = soup.body or soup
    mains = [tag for tag in body.find_all(["main", "div"]) if tag.name == "main" or tag.get("role") == "main"]
    root: Tag = mains[0] if len(mains) == 1 and _text_length(mains[0]) else body
    articles = [tag for tag in root.find_all("article") if tag.find_parent("article") is None]
    if len(articles) == 1 and _text_length(articles[0]) >= _MAIN_SHARE * _text_length(root):
        return articles[0]
    return root


def append(fragment: str, out: TextBuilder) -> Counter[str]:
    """Append the blocks of a piece of HTML (as found inside Markdown); returns what was left out."""
    return _append(BeautifulSoup(fragment, "lxml"), out)


def append_page(page: str, out: TextBuilder) -> Counter[str]:
    """Append the main content of a whole HTML page (as found inside a book); returns what was left out."""
    # XHTML says that it is XML, which the parser takes for a mistake.
    return _append(_content(BeautifulSoup(_XML_DECLARATION.sub("", page), "lxml")), out)


def _append(root: Tag, out: TextBuilder) -> Counter[str]:
    reader = _Reader(out)
    if flattened := _flatten(root):
        reader.dropped["nesting"] = flattened
    reader.walk(root)
    reader.flush()
    return reader.dropped


def _flatten(root: Tag) -> int:
    """Elements nested deeper than any page needs are replaced by their text; returns how many."""
    depths = {id(root): 0}
    too_deep: list[Tag] = []
    for tag in root.find_all(True):
        depths[id(tag)] = depth = depths[id(tag.parent)] + 1
        if depth == _DEEPEST + 1:
            too_deep.append(tag)
    for tag in too_deep:
        tag.replace_with(tag.get_text(" "))
    return len(too_deep)


def _title(soup: BeautifulSoup, root: Tag) -> str:
    """The page's ``<title>``; its only ``<h1>`` where the title merely adds the site's name to it."""
    title = clean(soup.title.get_text()) if soup.title else ""
    headings = [clean(tag.get_text()).rstrip("#¶ ") for tag in root.find_all("h1")]
    if len(headings) == 1 and headings[0] and (not title or headings[0] in title):
        return headings[0]
    return title


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title``, ``dropped`` (how many elements of each sort were left out), and for a page
    that Confluence or Google Docs exported ``export`` and ``breadcrumb``. Raises InputError for an exported chat."""
    text = read_text(path, declared=True)
    refuse_page(text, path)
    soup = BeautifulSoup(text, "lxml")
    page = exported_page(soup, path) or ExportedPage(_content(soup), {})
    metadata: dict[str, object] = {"path": str(path), "format": "html", **page.about}
    if title := page.about.get("title") or _title(soup, page.root):
        metadata["title"] = title
    out = TextBuilder()
    metadata["dropped"] = dict(sorted((page.dropped + _append(page.root, out)).items()))
    yield out.document(source, metadata)

"""Inside the XML of a DOCX: what a paragraph says, what its style makes of it, and the notes it refers to."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tinyforge.ingest.package import read_xml

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_HEADING = re.compile(r"heading (\d)$")
_DELETED = frozenset({"del", "moveFrom", "Fallback", "txbxContent", "instrText", "rPr", "pPr"})
_BREAKS = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": " "}
_MATH = "/officeDocument/2006/math}"
# Formulas on one line: a fraction as (a)/(b), 10^(-4), x_(ij). Without the signs 10 to the -4 would read 10-4.
_FORMULA = {"num": "", "den": "/", "sup": "^", "sub": "_"}
_BULLETS = frozenset({"bullet", "none"})
_BESIDE_TITLE = frozenset({"subtitle", "author", "date"})  # programs base them on the title's style
_OUTSIDE = {"header": "page header", "footer": "page footer", "comments": "comment"}
_PICTURE = "{http://schemas.openxmlformats.org/drawingml/2006/picture}pic"


def local_name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def child_value(element: Any, path: str) -> str | None:
    """``w:val`` of the descendant at a path of local names ("pPr/numPr/ilvl")."""
    found = element.find("/".join(W + name for name in path.split("/")))
    return None if found is None else found.get(f"{W}val")


def _pieces(element: Any) -> Iterator[str]:
    for child in element:
        name = local_name(child)
        if name == "t":
            yield child.text or ""
        elif name in _BREAKS:
            yield _BREAKS[name]
        elif name in _FORMULA and _MATH in child.tag:
            inner = "".join(_pieces(child))
            yield _FORMULA[name] + (f"({inner})" if len(inner) > 1 else inner)
        elif name not in _DELETED:
            yield from _pieces(child)


def text_of(paragraph: Any) -> str:
    """What a paragraph shows: runs, links, fields, insertions and formulas; not deletions nor its text boxes."""
    return "".join(_pieces(paragraph))


def nested_blocks(paragraph: Any) -> Iterator[Any]:
    """The contents of the text boxes anchored in a paragraph (not of their copies for old readers)."""
    for box in paragraph.iter(f"{W}txbxContent"):
        if not any(local_name(parent) == "Fallback" for parent in box.iterancestors()):
            yield box


def notes_of(document: Any) -> dict[tuple[str, str], str]:
    """The texts of footnotes and endnotes by kind and id."""
    notes: dict[tuple[str, str], str] = {}
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2].removesuffix("s")
        if kind in {"footnote", "endnote"}:
            for note in read_xml(relation.target_part.blob).iterchildren(f"{W}{kind}"):
                notes[kind, note.get(f"{W}id")] = " ".join(text_of(p) for p in note.iter(f"{W}p"))
    return notes


def dropped_parts(document: Any) -> dict[str, int]:
    """What stands outside of the text: page headers and footers with words in them, comments, deletions, pictures."""
    counts: Counter[str] = Counter()
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in {"header", "footer", "comments"} and not relation.is_external:
            root = read_xml(relation.target_part.blob)
            said = [item for item in (root if kind == "comments" else [root]) if "".join(item.itertext()).strip()]
            counts[_OUTSIDE[kind]] += len(said)
    body = document.element.body
    counts["deleted text"] = sum(1 for _ in body.iter(f"{W}delText"))
    counts["picture"] = sum(1 for _ in body.iter(_PICTURE))
    return {reason: count for reason, count in sorted(counts.items()) if count}


class Styles:
    """What the styles and the numbering of a document make of its paragraphs."""

    def __init__(self, document: Any) -> None:
        self._styles = {style.get(f"{W}styleId"): style for style in document.styles.element.iterchildren(f"{W}style")}
        self._formats = _number_formats(document)
        self._level_of_style = lru_cache(maxsize=None)(self._style_level)

    def _chain(self, paragraph: Any) -> Iterator[Any]:
        """The paragraph's style and those that it is based on."""
        return self._based_on(child_value(paragraph, "pPr/pStyle"))

    def _based_on(self, name: str | None) -> Iterator[Any]:
        seen: set[str] = set()
        while name in self._styles and name not in seen:
            seen.add(str(name))
            yield self._styles[name]
            name = child_value(self._styles[name], "basedOn")

    def _style_level(self, name: str | None) -> int | None:
        if name in self._styles and str(child_value(self._styles[name], "name")).lower() in _BESIDE_TITLE:
            return None
        for style in self._based_on(name):
            called = str(child_value(style, "name")).lower()
            if called == "title":
                return 0
            if match := _HEADING.match(called):
                return int(match[1])
            outline = child_value(style, "pPr/outlineLvl")
            if outline is not None and int(outline) < 9:
                return int(outline) + 1
        return None

    def heading_level(self, paragraph: Any) -> int | None:
        """1 to 9 for a heading, 0 for the title, None for text."""
        own = child_value(paragraph, "pPr/outlineLvl")
        if own is not None:
            return int(own) + 1 if int(own) < 9 else None
        level: int | None = self._level_of_style(child_value(paragraph, "pPr/pStyle"))
        return level

    def is_named(self, paragraph: Any, *words: str) -> bool:
        """Whether the name of one of the paragraph's styles contains one of the words."""
        names = (str(child_value(style, "name")).lower() for style in self._chain(paragraph))
        return any(word in name for name in names for word in words)

    def numbering(self, paragraph: Any) -> tuple[str, int] | None:
        """The list that a paragraph is an item of, by its own mark or its style's, and its nesting level from 0."""
        for holder in (paragraph, *self._chain(paragraph)):
            number_id = child_value(holder, "pPr/numPr/numId")
            if number_id is not None:
                level = int(child_value(holder, "pPr/numPr/ilvl") or 0)
                return None if number_id == "0" else (number_id, level)
        return None

    def is_ordered(self, number_id: str, level: int) -> bool:
        return self._formats.get((number_id, level), "bullet") not in _BULLETS


def _number_formats(document: Any) -> dict[tuple[str, int], str]:
    """``numFmt`` ("bullet", "decimal") by list and level; empty for a document without lists."""
    part = next((r.target_part for r in document.part.rels.values() if r.reltype.endswith("/numbering")), None)
    if part is None:
        return {}
    formats: dict[tuple[str, int], str] = {}
    abstract = {item.get(f"{W}abstractNumId"): item for item in part.element.iterchildren(f"{W}abstractNum")}
    for number in part.element.iterchildren(f"{W}num"):
        definition = abstract.get(child_value(number, "abstractNumId"))
        for level in definition.iterchildren(f"{W}lvl") if definition is not None else ():
            place = (number.get(f"{W}numId"), int(level.get(f"{W}ilvl", 0)))
            formats[place] = child_value(level, "numFmt") or "bullet"
    return formats

"""XML that defines entities is refused before any parser sees it: they are how a small file asks for a huge text, or
for a file of the machine that reads it. No office format needs them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import IO
from xml.parsers import expat

_XML = (".xml", ".rels", ".xhtml", ".html", ".htm", ".opf", ".ncx", ".svg")
_CHUNK = 1 << 16


class _Done(Exception):  # noqa: N818 - a signal to stop parsing, not an error
    """The first element begins: definitions can only stand before it."""


def defines_entities(part: IO[bytes]) -> bool:
    """Whether an XML document defines an entity; reads no further than its first element.

    False as well for what is not XML: the parser that comes next says what is wrong with it.
    """
    found: list[str] = []
    parser = expat.ParserCreate()

    def entity(name: str, *_: object) -> None:
        found.append(name)
        raise _Done

    def element(*_: object) -> None:
        raise _Done

    parser.EntityDeclHandler = entity
    parser.StartElementHandler = element
    try:
        while chunk := part.read(_CHUNK):
            parser.Parse(chunk, False)
    except (_Done, expat.ExpatError, ValueError):  # ValueError: an encoding that expat does not take
        pass
    return bool(found)


def parts_with_entities(archive: zipfile.ZipFile) -> Iterator[str]:
    """The names of the XML parts of a zip-based document that define entities."""
    for info in archive.infolist():
        if info.filename.lower().endswith(_XML):
            with archive.open(info) as part:
                if defines_entities(part):
                    yield info.filename

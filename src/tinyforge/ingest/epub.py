"""EPUB: the chapters in the order of the spine, each read as the HTML page that it is."""

from __future__ import annotations

import posixpath
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tinyforge.errors import InputError
from tinyforge.ingest import html
from tinyforge.ingest.builder import TextBuilder, clean
from tinyforge.ingest.package import check_package, damaged, opening_errors, read_xml
from tinyforge.ingest.reading import decode_page
from tinyforge.records import Document

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_PAGES = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})


def _package_part(archive: zipfile.ZipFile) -> str:
    root = read_xml(archive.read("META-INF/container.xml"))
    return str(next(root.iter("{*}rootfile")).get("full-path"))


def _locked(archive: zipfile.ZipFile) -> set[str]:
    """The parts that copy protection encrypts (fonts are often obfuscated, which locks no text)."""
    if "META-INF/encryption.xml" not in archive.namelist():
        return set()
    root = read_xml(archive.read("META-INF/encryption.xml"))
    return {unquote(str(item.get("URI"))) for item in root.iter("{*}CipherReference")}


class _Book:
    """What the package document says: the title, and the pages in reading order."""

    def __init__(self, archive: zipfile.ZipFile, dropped: Counter[str]) -> None:
        part = _package_part(archive)
        root = read_xml(archive.read(part))
        folder = posixpath.dirname(part)
        self.title = clean(root.findtext(f".//{_DC}title") or "")
        self.language = clean(root.findtext(f".//{_DC}language") or "")
        items = {item.get("id"): item for item in root.iter(f"{_OPF}item")}
        self.pages: list[str] = []
        for reference in root.iter(f"{_OPF}itemref"):
            item = items.get(reference.get("idref"))
            if item is None:
                dropped["page that the book lacks"] += 1
            elif "nav" in str(item.get("properties", "")).split():
                dropped["table of contents"] += 1
            elif item.get("media-type") not in _PAGES:
                dropped["page that is no text"] += 1
            else:
                href = unquote(str(item.get("href"))).partition("#")[0]
                self.pages.append(posixpath.normpath(posixpath.join(folder, href)))


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title``, ``language``, ``chapters`` (pages of the spine), ``dropped`` by reason.

    Raises InputError for a damaged file and for one with copy protection.
    """
    check_package(path, ".epub", "META-INF/container.xml")
    out = TextBuilder()
    dropped: Counter[str] = Counter()
    try:
        with zipfile.ZipFile(path) as archive:
            book = _Book(archive, dropped)
            if _locked(archive) & set(book.pages):
                raise InputError(f"{path}: the book is encrypted (copy protection).", "Give an edition without it.")
            _read_pages(archive, book.pages, out, dropped)
    except opening_errors(StopIteration, RuntimeError) as error:
        raise damaged(path, ".epub", error) from error
    metadata: dict[str, Any] = {"path": str(path), "format": "epub", "chapters": len(book.pages)}
    metadata["dropped"] = dict(sorted(dropped.items()))
    metadata |= {key: value for key, value in (("title", book.title), ("language", book.language)) if value}
    yield out.document(source, metadata)


def _read_pages(archive: zipfile.ZipFile, pages: list[str], out: TextBuilder, dropped: Counter[str]) -> None:
    known = set(archive.namelist())
    for page in pages:
        if page not in known:
            dropped["page that the book lacks"] += 1
            continue
        dropped.update(html.append_page(decode_page(archive.read(page)), out))

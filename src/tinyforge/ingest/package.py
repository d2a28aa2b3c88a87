"""Formats that are zip archives of parts (DOCX, PPTX, XLSX, EPUB): checked before a library opens them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.entities import parts_with_entities
from tinyforge.ingest.unpack import refuse_overlaps

_OLE = b"\xd0\xcf\x11\xe0"
_ZIP = b"PK\x03\x04"
_LARGEST_PART = 256_000_000  # bytes that one part may unpack to


def check_package(path: Path, suffix: str, main: str) -> None:
    """Raise InputError, in words for a person, unless this is a zip archive that holds the part ``main``.

    ``suffix`` is the format's extension; ``main`` the beginning of the name of a part that the format cannot miss.
    """
    if not zipfile.is_zipfile(path):
        raise _no_archive(path, suffix)
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            _refuse_hostile(path, archive)
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError, RuntimeError, UnicodeError) as error:
        raise damaged(path, suffix, error) from error
    if not any(name.startswith(main) for name in sizes):
        raise InputError(
            f"{path}: a zip archive without {main}, not {_article(suffix)} {suffix} document.",
            f"Save it again as {suffix} from the program that made it.",
        )
    if max(sizes.values()) > _LARGEST_PART:
        raise InputError(f"{path}: unpacks to more than {_LARGEST_PART // 10**6} MB.", "Split the document.")


def _no_archive(path: Path, suffix: str) -> InputError:
    with path.open("rb") as handle:
        start = handle.read(4)
    if start == _ZIP:
        return damaged(path, suffix, "its end is missing")
    old = f"an old {suffix.removesuffix('x')} or a password-protected document"
    what = old if start == _OLE else "it is not a zip archive"
    fix = f"Save it again as {suffix}, without a password." if start == _OLE else f"Save it again as {suffix}."
    return InputError(f"{path}: not {_article(suffix)} {suffix} file ({what}).", fix)


def _refuse_hostile(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise InputError for parts that share bytes and for XML that defines entities."""
    try:
        refuse_overlaps(archive)
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.fix) from None
    part = next(parts_with_entities(archive), None)
    if part is not None:
        raise InputError(f"{path}: {part} defines XML entities, which no office program writes.", "Do not open it.")


def _article(suffix: str) -> str:
    return "an" if suffix[1] in "aeioux" else "a"


def damaged(path: Path, suffix: str, error: object) -> InputError:
    told = " ".join(str(error).split())[:200]
    return InputError(f"{path}: damaged {suffix} ({told}).", f"Copy it again, or save it again as {suffix}.")


def opening_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """What the libraries over zip and XML raise for a damaged package, and ``more``."""
    from lxml import etree

    damage = (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, EOFError, UnicodeError)
    return (*damage, etree.XMLSyntaxError, *more)


def read_xml(data: bytes) -> Any:
    """The root of an XML part; entities are not expanded and nothing is fetched."""
    from lxml import etree

    return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))

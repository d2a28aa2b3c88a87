"""Which format a file has: its extension says so, its first bytes confirm it or tell on their own."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

from tinyforge.errors import InputError

_HEAD = 4096
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP = b"PK\x03\x04"
_MAGIC = ((b"%PDF-", ".pdf"), (b"{\\rtf", ".rtf"), (_OLE, ".ole"), (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"))
_PARTS = {"word/": ".docx", "ppt/": ".pptx", "xl/": ".xlsx"}
_MIMETYPES = {
    b"application/epub+zip": ".epub",
    b"application/vnd.oasis.opendocument.text": ".odt",
    b"application/vnd.oasis.opendocument.presentation": ".odp",
    b"application/vnd.oasis.opendocument.spreadsheet": ".ods",
}
_CALLED = {
    ".pdf": "a PDF",
    ".rtf": "rich text (RTF)",
    ".ole": "an old Office file (.doc, .xls, .ppt) or a password-protected one",
    ".png": "a picture (PNG)",
    ".jpg": "a picture (JPEG)",
    ".html": "an HTML page",
    ".zip": "a zip archive",
    ".docx": "a Word document",
    ".pptx": "a PowerPoint presentation",
    ".xlsx": "an Excel workbook",
    ".epub": "an EPUB book",
    ".odt": "an OpenDocument text",
    ".odp": "an OpenDocument presentation",
    ".ods": "an OpenDocument spreadsheet",
}
_SAVED_AS = {".rtf": ".docx", ".ole": ".docx, .xlsx or .pptx", ".odt": ".docx", ".odp": ".pptx", ".ods": ".xlsx"}
_PACKAGES = frozenset({".docx", ".pptx", ".xlsx", ".epub"})
# Files that people write as plain text and give no extension.
_PLAIN_NAMES = frozenset(
    "readme license licence copying copyright notice authors contributors contributing changelog changes history news "
    "install todo faq manifest".split()
)


def format_of(path: Path, known: Collection[str]) -> str:
    """The extension whose parser reads this file; empty where there is none.

    A known extension decides. Otherwise the content does, where it has a signature; README and its like are text.
    """
    suffix = path.suffix.lower()
    if suffix in known:
        return suffix
    if not suffix and path.name.lower() in _PLAIN_NAMES and ".txt" in known:
        return ".txt"
    content = signature(path)
    return content if content in known else ""


def refuse_mislabelled(path: Path, suffix: str) -> None:
    """Raise InputError for a file whose content is plainly of another format than its extension says."""
    content = signature(path)
    if content in {"", suffix} or (content == ".html" and suffix not in {".txt", ".text", ".csv", ".tsv"}):
        return
    if content in {".zip", ".ole"} and suffix in _PACKAGES:
        return  # damaged or locked rather than mislabelled: its parser knows the words for it
    if content in _SAVED_AS:
        fix = f"Save it as {_SAVED_AS[content]} in the program that opens it, and give that."
    else:
        fix = f'Rename it: mv "{path}" "{path.with_suffix(content)}"'
    raise InputError(f"{path}: named {suffix}, but it is {_CALLED[content]}.", fix)


def signature(path: Path) -> str:
    """The extension of what the first bytes, or the entries of a zip archive, plainly are; empty without a sign."""
    try:
        with path.open("rb") as handle:
            head = handle.read(_HEAD)
    except OSError:  # who reads the file says so
        return ""
    for magic, suffix in _MAGIC:
        if head.startswith(magic):
            return suffix
    if head.startswith(_ZIP):
        return _inside_zip(path)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    return ".html" if start.startswith((b"<!doctype html", b"<html")) else ""


def _inside_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 100:
                return _MIMETYPES.get(archive.read("mimetype").strip(), ".zip")
    except Exception:  # a damaged archive raises what it likes, and here only the kind is asked
        return ".zip"
    if "[Content_Types].xml" not in names:
        return ".zip"
    return next((suffix for part, suffix in _PARTS.items() if any(n.startswith(part) for n in names)), ".zip")

"""From the bytes of a text file to its characters; nothing is guessed."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from tinyforge.errors import InputError

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_CHARSET = re.compile(rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)


def _line_at(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _decode(data: bytes, encoding: str, skip: int, path: Path) -> str:
    try:
        return data[skip:].decode(encoding)
    except UnicodeDecodeError as error:
        offset = skip + error.start
        name = "UTF-8" if encoding == "utf-8" else "UTF-16"
        raise InputError(
            f"{path}: not {name} text (byte 0x{data[offset]:02x} at offset {offset}, line {_line_at(data, offset)}).",
            f'Convert it from the encoding it was saved in: iconv -f WINDOWS-1252 -t UTF-8 "{path}" > "{path}.utf8" '
            "and put the new file in its place.",
        ) from None


def _declared(data: bytes) -> str | None:
    """The encoding that an HTML page names in its head, where Python knows it."""
    match = _CHARSET.search(data, 0, 4096)
    if match is None:
        return None
    try:
        return codecs.lookup(match[1].decode("ascii")).name
    except LookupError:
        return None


def read_text(path: Path, declared: bool = False) -> str:
    r"""The characters of a text file with ``\n`` line ends: UTF-8, or UTF-16 with a byte order mark.

    ``declared``: where that fails, also the encoding that an HTML ``<meta charset>`` names.
    Raises InputError for anything else, naming the first bad byte, and for binary data and a file without text.
    """
    data = path.read_bytes()
    bom, encoding = next(((b, name) for b, name in _BOMS if data.startswith(b)), (b"", "utf-8"))
    if not bom and b"\0" in data:
        raise InputError(
            f"{path}: binary data, not text (NUL byte at offset {data.index(0)}).",
            "Give the text itself, or rename the file to its real format.",
        )
    try:
        text = _decode(data, encoding, len(bom), path)
    except InputError:
        named = _declared(data) if declared and not bom else None
        if named in (None, "utf-8"):
            raise
        text = data.decode(str(named))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError(f"{path}: holds only white space.", "Write something into it, or take it away.")
    return text


def text_lines(path: Path) -> Iterator[str]:
    r"""The lines of a text file, ``\n`` at their ends, as they are asked for: memory stays flat however long it is.

    Encodings and errors are those of ``read_text``.
    """
    with path.open("rb") as handle:
        head = handle.read(4)
    encoding = next(("utf-16" if name != "utf-8" else "utf-8-sig" for b, name in _BOMS if head.startswith(b)), "utf-8")
    try:
        with path.open(encoding=encoding) as lines:
            for line in lines:
                if encoding == "utf-8" and "\0" in line:
                    break
                yield line
            else:
                return
    except UnicodeDecodeError:
        pass
    read_text(path)  # finds the byte again, and names its place


def decode_page(data: bytes) -> str:
    """The characters of an HTML page in memory: UTF-8, a byte order mark, or what the page declares.

    Raises UnicodeDecodeError where none of these fits.
    """
    bom, encoding = next(((b, name) for b, name in _BOMS if data.startswith(b)), (b"", "utf-8"))
    try:
        return data[len(bom) :].decode(encoding)
    except UnicodeDecodeError:
        return data.decode(_declared(data) or "utf-8")

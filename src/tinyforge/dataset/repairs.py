"""What can be mended in a text without knowing what it means, each repair by its name.

A repair is a function from text to text; where it changes nothing there is nothing to mend, so the same table tells
what is wrong (`tinyforge data validate`) and mends it (`--fix`, `tinyforge data clean`). Applying one twice is the same
as once.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Mapping

Repair = Callable[[str], str]

# --- encoding damage --------------------------------------------------------------------------------------------------

_CP1252 = {byte: bytes([byte]).decode("cp1252", "replace") for byte in range(0x80, 0xC0)}
_AS_SHOWN = {byte: chr(byte) if char == "\ufffd" else char for byte, char in _CP1252.items()}
_BYTE_OF = {char: byte for byte, char in _AS_SHOWN.items()} | {chr(byte): byte for byte in range(0x80, 0x100)}
_REST = "[" + re.escape("".join(dict.fromkeys([*_AS_SHOWN.values(), *(chr(b) for b in range(0x80, 0xC0))]))) + "]"
_DAMAGED = re.compile(
    rf"(?<![„“\"‚‘«(])[ÂÃÄÅ]{_REST}"  # Latin letters with accents, and signs such as § and the hard space
    rf"|(?:[\u00ce-\u00d1]{_REST}){{3,}}"  # Greek and Cyrillic: three in a row, since one may be meant
    rf"|[âï]{_REST}{{2}}"  # dashes, quotes, arrows, the byte order mark
    rf"|(?:[\u00e3-\u00ed]{_REST}{{2}}){{2,}}"  # Chinese, Japanese, Korean
    rf"|ð{_REST}{{3}}"  # pictures
)


def mend_encoding(text: str) -> str:
    """UTF-8 that was read as Windows-1252, once or twice over: ``â€™`` becomes ``’``, ``Ã©`` becomes ``é``."""
    for _ in range(3):
        mended = _DAMAGED.sub(_decoded, text)
        if mended == text:
            break
        text = mended
    return text


def _decoded(found: re.Match[str]) -> str:
    try:
        plain = bytes(_BYTE_OF[char] for char in found[0]).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return found[0]
    if any(unicodedata.category(char) in ("Cn", "Co", "Cs") for char in plain):
        return found[0]
    return plain


# --- characters -------------------------------------------------------------------------------------------------------

_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
_LINE_ENDS = re.compile(r"\r\n|[\r\x85\u2028]")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?)")


def drop_controls(text: str) -> str:
    """Without control characters, terminal escapes, invisible marks and marks of direction; lines end in ``\\n``.

    The joiners that scripts and emoji need stay.
    """
    return _CONTROL.sub("", _ESCAPES.sub("", _LINE_ENDS.sub("\n", text)))


def normalise(text: str) -> str:
    """Unicode NFC: a letter and its accent as one character."""
    return unicodedata.normalize("NFC", text)


_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n|$)")
_EMPTY_LINES = re.compile(r"\n{3,}")


def tidy_space(text: str) -> str:
    """No white space around the text or at the end of lines, and at most one empty line in a row."""
    return _EMPTY_LINES.sub("\n\n", _TRAILING.sub("", text)).strip("\n").strip(" \t\u00a0")


# --- markup -----------------------------------------------------------------------------------------------------------

_ENTITY = re.compile(r"&(?:nbsp|amp|quot|apos|lt|gt|ndash|mdash|[lr][sd]quo|hellip|#\d{2,6}|#x[0-9a-fA-F]{2,5});")
_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|em|strong|a|ul|ol|li|h[1-6]|font|center|table|tbody|tr|td|th|img|hr|blockquote)"
    r"(?:\s[^<>]{0,300})?/?>",
    re.I,
)
_BREAK = re.compile(r"<br\s*/?>|</(?:p|div|li|tr|h[1-6]|blockquote)>|<hr\s*/?>", re.I)
_CODE = re.compile(r"`|<(?:html|head|body|script|style|code|pre|!doctype)\b|\bhtml\b|\btags?\b", re.I)


def drop_markup(text: str) -> str:
    """HTML left over from a web page as plain text; a text with code, or about HTML, is left as it is."""
    if not (_ENTITY.search(text) or _TAG.search(text)) or _CODE.search(text):
        return text
    broken = _BREAK.sub("\n", text)
    plain = _ENTITY.sub(lambda found: html.unescape(found[0]), _TAG.sub("", broken))
    return tidy_space(plain.replace("\u00a0", " "))


REPAIRS: Mapping[str, Repair] = {
    "encoding damage": mend_encoding,
    "control characters": drop_controls,
    "HTML residue": drop_markup,
    "not in Unicode NFC": normalise,
}
"""In the order in which they are applied."""

CLEANING: Mapping[str, Repair] = {**REPAIRS, "white space": tidy_space}


def mend(text: str, repairs: Mapping[str, Repair] = REPAIRS) -> tuple[str, list[str]]:
    """The text after every repair, and the names of those that changed it."""
    done = []
    for name, repair in repairs.items():
        mended = repair(text)
        if mended != text:
            done.append(name)
            text = mended
    return text, done

"""Text from documents and models made harmless for a terminal: no escape sequences, controls or direction marks."""

from __future__ import annotations

import re
from collections.abc import Callable

# ECMA-48: CSI, then the string sequences OSC DCS SOS PM APC up to BEL or ST, then two-character escapes.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"
    "|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]*[0-~]"
)
_UNFINISHED = re.compile(
    "(?:(?:\x1b\\[|\x9b)[0-?]*[ -/]*|(?:\x1b[]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*\x1b?|\x1b[ -/]*)$"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_HELD = 256  # characters of an unfinished sequence that are waited for


def plain(text: str) -> str:
    """The text without escape sequences and control characters; line breaks and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


class PlainStream:
    """The same for text that comes in pieces: a sequence is recognised also when it is split between two.

    ``shown`` tells whether anything but white space was written.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._held = ""
        self.shown = False

    def feed(self, piece: str) -> None:
        text = self._held + piece
        cut = _UNFINISHED.search(text)
        border = cut.start() if cut and len(text) - cut.start() <= _HELD else len(text)
        self._held = text[border:]
        self._show(text[:border])

    def close(self) -> None:
        """Write what was held back, now known to be no whole sequence."""
        self._show(self._held)
        self._held = ""

    def _show(self, text: str) -> None:
        harmless = plain(text)
        self.shown = self.shown or bool(harmless.strip())
        if harmless:
            self._write(harmless)

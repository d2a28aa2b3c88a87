"""Where in a text a slow pattern is worth trying: what gives people away is rare, and most of a text is passed over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_DIGITS = re.compile(r"\d(?:[ .()/\u00a0\u2011\u2013A-Za-z-]{0,4}\d){6,}")
_AROUND = 64  # characters on each side of such digits that may decide what they are


def near_digits(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Matches near seven digits or more; the rest of the text is passed over, which is most of it."""
    start = end = 0
    for digits in _DIGITS.finditer(text):
        if digits.start() - _AROUND > end:
            yield from pattern.finditer(text, start, end)
            start = digits.start() - _AROUND
        end = digits.end() + _AROUND
    if end:
        yield from pattern.finditer(text, start, end)


def near(text: str, marks: Iterable[str], pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """Matches in the lines that hold one of ``marks``."""
    end = -1
    for place in sorted(place for mark in marks for place in places(text, mark)):
        if place > end:
            start = text.rfind("\n", 0, place) + 1
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            yield from pattern.finditer(text, start, end)


def places(text: str, mark: str) -> Iterator[int]:
    place = text.find(mark)
    while place >= 0:
        yield place
        place = text.find(mark, place + 1)


def small(text: str) -> str:
    """In small letters, character for character."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)

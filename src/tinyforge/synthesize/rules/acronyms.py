""" "Flexible Spending Account (FSA)": the words before a bracketed acronym, where their initials spell it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.records import Span
from tinyforge.synthesize.facts import Fact, Place
from tinyforge.synthesize.language import tidy

_BRACKETED = re.compile(r"\(([A-Z][A-Za-z0-9&]{0,8}[A-Z0-9])s?\)")
_WORD = re.compile(r"[A-Za-z][\w'’]*|&")
_SKIPPED = frozenset("of and the for in on to a an at by with & de".split())


def find(place: Place, limit: int) -> Iterator[Fact]:
    """One fact for each acronym that the section or its heading spells out."""
    text, span = place.document.text, place.section.span
    heading = text.rfind(place.section.heading, 0, span.start) if place.section.heading else -1
    start = heading if heading >= 0 and span.start - heading < len(place.section.heading) + 6 else span.start
    seen = set()
    for match in _BRACKETED.finditer(text, start, span.end):
        begin = _spelled(text, match.start(), match[1], start)
        if begin is not None and match[1] not in seen:
            seen.add(match[1])
            end = len(text[: match.start()].rstrip())
            answer = tidy(text[begin:end])
            yield Fact("acronym", "stands", match[1], (Span(span.document, begin, end),), answer)


def _spelled(text: str, bracket: int, acronym: str, floor: int) -> int | None:
    """Where the words begin whose initials are the acronym, reading backwards; None when they do not fit."""
    window = text[max(floor, bracket - 90) : bracket]
    window = window[max(window.rfind(mark) for mark in ".;:!?\n(") + 1 :]
    found = list(_WORD.finditer(window))
    letters = [c.lower() for c in acronym if c.isalpha()]
    place = len(found) - 1
    for letter in reversed(letters):
        while place >= 0 and found[place].group()[0].lower() != letter and found[place].group().lower() in _SKIPPED:
            place -= 1
        if place < 0 or found[place].group()[0].lower() != letter:
            return None
        place -= 1
    first = found[place + 1]
    if first.group().lower() in _SKIPPED:
        return None
    gap = window[found[-1].end() :]
    if len(letters) < 2 or gap.strip():
        return None
    return bracket - len(window) + first.start()

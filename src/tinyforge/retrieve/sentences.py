"""Where sentences begin and end. A pure function over text: no model, no state, only ``re``.

A full stop ends a sentence unless it belongs to an abbreviation, an initial, a decimal or a list number, or the
text goes on in lower case. A blank line always ends one; a single line break does unless it looks like a soft wrap.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Abbreviations with something always following; a full stop after them never ends a sentence.
_LEADING = frozenset(
    "mr mrs ms dr prof gen sen rep rev hon capt col sgt lt messrs st mt e.g i.e eg ie cf viz vs v al approx ca "
    "fig figs eq eqs sec ch vol pp p art ed eds dept est".split()
)
# These may close a sentence; they do when the next word is capitalised.
_CLOSING = frozenset("etc a.m p.m am pm ph.d m.d b.a m.a b.sc m.sc".split())
# These are often followed by a name; they close a sentence only before a word that usually opens one.
_NAMING = frozenset(
    "inc ltd corp co llc jr sr jan feb mar apr jun jul aug sep sept oct nov dec bros gov ave blvd".split()
)
_OPENERS = frozenset(
    "a an the this that these those it its he she we you they i our your their his her there here if when while "
    "since because although though however but and or so then for in on at as by to from with without after before "
    "once until unless each every all any some most many no not please what which who where why how also both "
    "during under over between through".split()
)

_BREAK = re.compile(r"[ \t]*\n(?:[ \t]*\n)+[ \t]*|[ \t]*\n[ \t]*")
_STOP = re.compile(r"[.!?…]+[\"'”’)\]*_»]*(?=\s)|[。！？]+[」』”）]*")
_BEFORE_NEXT = re.compile(r"\s*[\"'“‘(\[*_]*")
_LETTERS = re.compile(r"[A-Za-z]+")
_CONTENT = re.compile(r"[^\W_]")
_INITIALS = re.compile(r"(?:[A-Za-z]\.)+[A-Za-z]")
_WORD_BEFORE = re.compile(r"[\w.&]+$")
_MARKER = re.compile(r"(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s|[|>#]")
_BULLET = re.compile(r"(?:[-*+•‣◦▪–]|\(?\d{1,3}[.)])\s+(?=\S)")
_LIST_NUMBER = re.compile(r"\s*\(?(?:\d{1,3}|[a-zA-Z])")
_WRAPPED_LENGTH = 40  # a line shorter than this was not broken for want of room


def sentences(text: str) -> list[tuple[int, int]]:
    """The sentences of ``text`` as ``(start, end)`` character offsets: in order, without overlap, none empty.

    ``text[start:end]`` has no white space at its ends and no list marker in front.
    """
    found = []
    for start, end in _lines(text):
        for left, right in _within(text, start, end):
            span = _trim(text, left, right)
            if span is not None:
                found.append(span)
    return found


def _lines(text: str) -> Iterator[tuple[int, int]]:
    """Stretches between the line breaks that surely end a sentence."""
    start = 0
    for match in _BREAK.finditer(text):
        if match.group().count("\n") == 1 and _soft_wrap(text, start, match):
            continue
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _soft_wrap(text: str, start: int, line_break: re.Match[str]) -> bool:
    line_start = max(start, text.rfind("\n", 0, line_break.start()) + 1)
    line = text[line_start : line_break.start()].strip()
    after = text[line_break.end() : line_break.end() + 8]
    if not line or not after or line[-1] in ".!?…:;|" or _MARKER.match(after):
        return False
    return after[0].islower() or len(line) >= _WRAPPED_LENGTH


def _within(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    left = start
    for match in _STOP.finditer(text, start, end):
        if _ends(text, left, match, end):
            yield left, match.end()
            left = match.end()
    yield left, end


def _ends(text: str, left: int, stop: re.Match[str], end: int) -> bool:
    mark = stop.group()
    if mark[0] in "。！？":
        return True
    after = _BEFORE_NEXT.match(text, stop.end(), end)
    following = text[after.end() if after else stop.end() : end][:40]
    if following[:1].islower():
        return False
    if mark.rstrip("\"'”’)]*_»") != ".":
        return True
    if _LIST_NUMBER.fullmatch(text, left, stop.start()):
        return False
    last = max(left, text.rfind(" ", left, stop.start()))  # the last word is all that counts
    return _full_stop_ends(text[last : stop.start()], following)


def _full_stop_ends(before: str, following: str) -> bool:
    match = _WORD_BEFORE.search(before)
    word = match.group() if match else ""
    lower = word.lower()
    opener = _LETTERS.match(following)
    opens = opener is not None and opener.group().lower() in _OPENERS
    if lower in _LEADING:
        return False
    if lower == "no" and following[:1].isdigit():
        return False
    if lower in _CLOSING:
        return following[:1].isupper()
    if lower in _NAMING and word[:1].isupper():
        return opens
    if len(word) == 1 and word.isupper() and word != "I":  # an initial: J. Smith
        return opens
    if _INITIALS.fullmatch(word):  # U.S, e.g. before a name
        return opens
    return True


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    bullet = _BULLET.match(text, start, end)
    if bullet:
        start = bullet.end()
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if _CONTENT.search(text, start, end) else None

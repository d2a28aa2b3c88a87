"""Whether what a teacher wrote stands in the text: quotes found again, numbers and names contained in them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from tinyforge.records import Span
from tinyforge.retrieve.words import STOP_WORDS, content_words, words

FEWEST_WORDS = 3  # of a quote, below which it could stand anywhere
_WORD = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<![.!?:]\s)(?<!^)(?<![\"“(])\b[A-Z][\w’'-]*[\w]\b")
_SPELLED = dict(
    zip(
        "one two three four five six seven eight nine ten eleven twelve".split(),
        map(str, range(1, 13)),
        strict=True,
    )
)
_ELLIPSIS = re.compile(r"\s*(?:\.\.\.|…|\[\.\.\.\]|\[…\])\s*")


def align(quote: str, text: str, within: Span) -> tuple[Span, ...]:
    """Where a quote stands in the document ``text``, inside ``within``; empty where it does not.

    Letters and digits must be the same, in order; case, punctuation and white space may differ. A quote with an
    ellipsis is two quotes, and each of them must stand there.
    """
    stretch = text[within.start : within.end]
    found = [(m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(stretch)]
    spans = []
    for part in _ELLIPSIS.split(quote.strip()):
        wanted = [word.lower() for word in _WORD.findall(part)]
        if not wanted:
            continue
        place = _find(wanted, [word for word, _, _ in found])
        if place < 0 or len(wanted) < FEWEST_WORDS:
            return ()
        start, end = within.start + found[place][1], within.start + found[place + len(wanted) - 1][2]
        spans.append(Span(within.document, start, _with_mark(text, end, within.end)))
    return tuple(spans)


def _find(wanted: Sequence[str], found: Sequence[str]) -> int:
    first = wanted[0]
    for place in range(len(found) - len(wanted) + 1):
        if found[place] == first and found[place : place + len(wanted)] == list(wanted):
            return place
    return -1


def _with_mark(text: str, end: int, limit: int) -> int:
    """The end of a span, with the marks that close its sentence."""
    while end < limit and text[end] in ".!?%)”\"'’":
        end += 1
    return end


def numbers(text: str) -> set[str]:
    """The numbers of a text, those up to twelve also where they are spelled out."""
    digits = {match.replace(",", "").rstrip(".") for match in _NUMBER.findall(text)}
    return digits | {_SPELLED[word] for word in words(text) if word in _SPELLED and word != "one"}


def names(text: str) -> set[str]:
    """Words inside a sentence that are written with a capital letter."""
    return {word.lower().removesuffix("'s").removesuffix("’s") for word in _NAME.findall(text)} - STOP_WORDS


def foreign(answer: str, evidence: Iterable[str], said: str) -> str:
    """A number or name of the answer that neither the evidence nor ``said`` (the question, the headings) holds, or "".

    Numbers must be in the evidence itself, unless the question names them.
    """
    text = " ".join(evidence)
    known = numbers(text) | numbers(said)
    strange = sorted(numbers(answer) - known)
    if strange:
        return strange[0]
    held = set(words(text)) | set(words(said))
    return next((name for name in sorted(names(answer)) if not held.issuperset(words(name))), "")


def token_f1(one: str, other: str) -> float:
    """Overlap of content words, counted with repeats: the harmonic mean of precision and recall."""
    left, right = Counter(content_words(one)), Counter(content_words(other))
    shared = sum((left & right).values())
    return 2 * shared / (left.total() + right.total()) if shared else 0.0


def share_held(one: str, other: str) -> float:
    """The share of the content words of ``one`` that stand in ``other``."""
    wanted = set(content_words(one))
    return len(wanted & set(content_words(other))) / len(wanted) if wanted else 0.0


def covered(units: Sequence[Span], evidence: Iterable[Span]) -> set[int]:
    """Which units the evidence overlaps. ``units`` is sorted by place and does not overlap itself."""
    starts = [(unit.document, unit.start) for unit in units]
    found: set[int] = set()
    for span in evidence:
        place = max(0, bisect_left(starts, (span.document, span.start)) - 1)
        while place < len(units) and (units[place].document, units[place].start) < (span.document, span.end):
            if units[place].overlaps(span):
                found.add(place)
            place += 1
    return found

"""Questions that the document asks itself: headings, and "Q:" paragraphs, with the text that answers them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import (
    FUNCTION_WORDS,
    PREDICATE,
    bare_definite,
    lower_first,
    sentence_case,
    tidy,
    words,
)
from tinyforge.synthesize.rules.howto import lines

_Q = re.compile(r"(?:Q|Question)\s*\d*\s*[:.]\s*(?P<q>.+\?)$", re.S)
_A = re.compile(r"(?:A|Answer)\s*\d*\s*[:.]\s*")
_WH = re.compile(
    r"(?P<wh>what|how|when|why|where|who|which)\s+(?P<aux>\w+)\s+(?P<who>i|we|you|they)\s+(?P<rest>.+)", re.I
)
_IS = re.compile(r"(?P<wh>what|who|where)\s+(?P<aux>is|are)\s+(?P<rest>[^,]{2,60})", re.I)
_NAME = re.compile(r"[A-Z][\w.’'-]*(?: [A-Z\d][\w.’'-]*)*")
_DEFINITE = re.compile(r"(?:an?|the|my|your|our|their|its|his|her) ", re.I)
# "the data stored", "the company doing", "the plan for": no longer one thing, or not the whole of the question.
_NOT_A_THING = re.compile(rf"\b(?:{PREDICATE}|\w+ing)\b|\b(?:like|for|to|of|in|on|at|with|by|from|about)$", re.I)


def find(place: Place, limit: int) -> Iterator[Fact]:
    if place.heading.endswith("?"):
        answer = _answer(place, limit)
        asked = _asked(place, place.heading, answer) if answer else None
        if asked is not None and not place.paragraphs:
            asked = replace(asked, answer="\n".join(s.text for s in answer))
        if asked is not None and _answers(place, answer):
            yield asked
        elif asked is not None:
            yield replace(asked, rule="heading", coverage=True)
    yield from _pairs(place, limit)


# An opening that is on its way to an answer.
_ON_ITS_WAY = re.compile(
    r"(?:To (?:understand|see|answer)|Suppose|Consider|Imagine|Recall|Now that|Let|Think|Remember|The fact that)\b"
)


_ASKS = re.compile(
    r"(?:what|who|whose|which|when|where|why|how|is|are|was|were|can|could|do|does|did|may|must|should|will|would|has|"
    r"have)\b",
    re.I,
)


def _answers(place: Place, answer: list[Sentence]) -> bool:
    """Whether the text answers: it is one of questions and answers, and takes up half of what this one is about.

    Elsewhere a heading that asks only opens its section.
    """
    first = answer[0].text
    if bare_definite(place.heading, words(place.title)) or re.search(r"\bwe\b", place.heading):
        return False  # which one, or who, the page around it says
    if place.paragraphs and len(answer) < len(place.paragraphs[0]):
        return False  # only the beginning of the answer fits
    if not _is_faq(place) or not _ASKS.match(place.heading) or first.endswith("?") or _ON_ITS_WAY.match(first):
        return False
    asked = {w for w in words(place.heading) if w not in FUNCTION_WORDS}
    return 2 * len(asked & set(words(first))) >= len(asked)


_FAQ = re.compile(r"\b(?:FAQ|frequently asked|questions? (?:and|&) answers?)\b", re.I)


def _is_faq(place: Place) -> bool:
    """Whether the path says so, or at least half of the document's sections, and three, are questions."""
    if _FAQ.search(place.path):
        return True
    headings = [section.heading for section in place.document.sections()]
    asking = sum(heading.endswith("?") for heading in headings)
    return asking >= 3 and 2 * asking >= len(headings)


def _asked(place: Place, question: str, answer: list[Sentence]) -> Fact:
    asked = tidy(question).rstrip("?").strip()
    direct = lower_first(sentence_case(asked, place.known), place.known)
    slots = {"d": direct}
    inside = indirect(direct)
    if inside:
        slots["i"] = inside
        return fact("faq", "ask", asked, answer, slots=slots)
    return fact("faq", "faq", asked, answer, slots=slots)


def indirect(question: str) -> str:
    """The question as part of a sentence ("how do I X" → "how to X"); "" where word order alone does not tell."""
    match = _WH.match(question)
    if match is None:
        match = _IS.match(question)
        if match is None or not _is_thing(match["rest"], match["wh"].lower()):
            return ""
        return f"{match['wh'].lower()} {match['rest']} {match['aux']}"
    wh, aux = match["wh"].lower(), match["aux"].lower()
    if wh == "how" and aux in ("do", "can") and match["who"].lower() in ("i", "you", "we"):
        return f"how to {match['rest']}"
    if aux == "do":
        return f"{wh} {match['who']} {match['rest']}"
    if aux in ("is", "are", "am", "can", "should", "must", "will", "would", "could", "may"):
        return f"{wh} {match['who']} {aux} {match['rest']}"
    return ""


def _is_thing(rest: str, wh: str) -> bool:
    """Whether what follows "is" is a name or a definite noun phrase, which may stand before it: "what the plan is"."""
    if _NOT_A_THING.search(rest):
        return False
    if _NAME.fullmatch(rest):
        return True
    longest = 2 if wh == "where" else 12  # "where is the plan valid"
    return _DEFINITE.match(rest) is not None and len(words(rest)) <= longest


def _answer(place: Place, limit: int) -> list[Sentence]:
    """The first sentences that fit, or the whole of the one list of a section without paragraphs."""
    if place.paragraphs:
        return opening(place.paragraphs[0], limit, most=3)
    if len(place.lists) != 1:
        return []
    found = place.lists[0].items
    items = [list(item.sentences) for item in found if item.level == found[0].level]
    return (lines(items, limit) or []) if all(items) else []


def opening(paragraph: tuple[Sentence, ...], limit: int, most: int) -> list[Sentence]:
    """The first sentences of a paragraph, at most ``most``, within ``limit`` characters."""
    taken: list[Sentence] = []
    length = -1
    for sentence in paragraph[:most]:
        length += len(sentence.text) + 1
        if length > limit or (taken and sentence.text.endswith((":", "?"))):
            break
        taken.append(sentence)
    return taken


def _pairs(place: Place, limit: int) -> Iterator[Fact]:
    for asked, answered in pairwise(place.paragraphs):
        match = _Q.match(" ".join(s.text for s in asked))
        if match is not None and re.match(r"(?:but|and|so|then|or)\b", match["q"], re.I):
            continue  # it goes on from the answer before
        if match is None or not _A.match(answered[0].text):
            continue
        taken = opening(answered, limit, most=3)
        if taken:
            taken[0] = _without_label(place, taken[0])
            yield _asked(place, match["q"], taken)


def _without_label(place: Place, sentence: Sentence) -> Sentence:
    label = _A.match(place.document.slice(sentence.span))
    skip = label.end() if label else 0
    span = type(sentence.span)(sentence.span.document, sentence.span.start + skip, sentence.span.end)
    return Sentence(tidy(place.document.slice(span)), span)

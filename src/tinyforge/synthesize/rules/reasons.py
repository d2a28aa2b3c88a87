"""Why: "MAIN because REASON", "Because REASON, MAIN", "MAIN due to REASON"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import split_clause
from tinyforge.synthesize.facts import Fact, Place, fact
from tinyforge.synthesize.language import leans, lower_first, points_away, words

_AFTER = re.compile(
    r"(?P<main>.{12,130}?),? (?P<how>(?:\w+ly |just |in part |only )?(?:because|due to)) (?P<why>\S+ \S+.*)", re.S
)
_FIRST = re.compile(r"Because (?P<why>[^,]{8,140}), (?P<main>.{12,130})[.!]$", re.S)
# "not because", "this is because": what stands before is no claim of its own.
_NO_CLAIM = re.compile(r"\b(?:not|simply|just|only|and|but|or|that|which|is|are|was|were|either|whether)$", re.I)


def find(place: Place, limit: int) -> Iterator[Fact]:
    for sentence in place.all_sentences:
        text = sentence.text
        if ("because" not in text and "Because" not in text and "due to" not in text) or text.endswith(("?", ":")):
            continue
        match = _FIRST.match(text) or _AFTER.match(text)
        if match is None or text.startswith("Because") != (match.re is _FIRST):
            continue
        main = match["main"].strip()
        if _NO_CLAIM.search(main) or leans(main) or points_away(main) or not _one_claim(main):
            continue
        clause = split_clause(main)
        if clause is None or clause.subject.lower().startswith(("there", "what", "one", "i ")):
            continue
        claim = lower_first(main, place.known)
        slots = {"c": claim, "i": f"why {claim}", "d": _direct(place, main)}
        yield fact("because", "why", claim, [sentence], "why", slots=slots)


def _one_claim(main: str) -> bool:
    """A claim without asides: commas, colons and a second clause make "why" ambiguous."""
    return not re.search(r"[;:()—–,]|\b(?:and then|but|whereas|while|if)\b", main) and 3 <= len(words(main)) <= 22


def _direct(place: Place, main: str) -> str:
    clause = split_clause(lower_first(main, place.known))
    return f"why {clause.inverted()}" if clause else ""

"""Why: "MAIN because REASON", "Because REASON, MAIN", "MAIN due to REASON"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import named, split_clause
from tinyforge.synthesize.facts import Fact, Place, fact
from tinyforge.synthesize.language import bare_definite, leans, lower_first, points_away, straight, words

_AFTER = re.compile(
    r"(?P<main>.{12,130}?),? (?P<how>(?:(?:mainly|mostly|largely|partly|primarily|chiefly|purely|simply|precisely|"
    r"probably|just|in part|only) )?(?:because|due to)) (?P<why>\S+ \S+.*)",
    re.S,
)
_FIRST = re.compile(r"Because (?P<why>[^,]{8,140}), (?P<main>.{12,130})[.!]$", re.S)
# "not because", "this is because": what stands before is no claim of its own.
_NO_CLAIM = re.compile(
    r"\b(?:not|simply|just|only|and|but|or|that|which|is|are|was|were|either|whether|where|who|when|of|to|for|in|if|than|"
    r"as|with|at|by|from|on|primarily|mainly|mostly|largely|partly|precisely|probably|perhaps|be|been)$|"
    r"\breasons?\b|^(?:some|many|most|no|few|little|the rest)\b|\band \w+$|#",
    re.I,
)


_PARTICIPLE = re.compile(
    r"(?:(?:\w+ly|not|never|always|often|also|long|since|only) )*"
    r"(?:been|had|led|met|won|held|put|set|cut|let|run|done|gone|\w+(?:ed|en|wn|ght|ade|ost|eft|ept|elt|ome|un))\b"
)
# A reason that stands elsewhere: "because of this optimization", "because it is one of these".
_AWAY = re.compile(r"^(?:of )?(?:that|such)\b|\b(?:this|these|those)\b")


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
        if _AWAY.search(straight(match["why"])):
            continue
        clause = split_clause(main)
        if (
            clause is None
            or not named(clause.subject)
            or (clause.verb in ("has", "have", "had") and not clause.base and not _PARTICIPLE.match(clause.rest))
            or re.search(r"\b(?:way|time|thing|place|moment|point) \w+$", clause.subject)
            or clause.subject.lower().split()[0] in ("there", "what", "one", "i")
        ):
            continue
        if not text[0].isalpha() or re.search(r"# |\b[a-zC]\d\b|\bnot\b.* just because", text):
            continue
        if bare_definite(main, (*words(place.heading), *words(place.title))):
            continue
        claim = lower_first(main, place.known)
        slots = {"c": claim, "i": f"why {claim}", "d": _direct(place, main)}
        yield fact("because", "why", claim, [sentence], "why", slots=slots)


def _one_claim(main: str) -> bool:
    """A claim without asides: commas, colons and a second clause make "why" ambiguous."""
    return (
        not re.search(
            r"[;:()—–,]|\b(?:should|must|need)(?: not|n't)\b|\b(?:[a-z]\d|[BDE-HJ-QS-Z])\b|"
            r"\b(?:and then|but|whereas|while|if|that|who|which|when|instead|therefore|also|thus)\b",
            main,
        )
        and 3 <= len(words(main)) <= 22
    )


def _direct(place: Place, main: str) -> str:
    clause = split_clause(lower_first(main, place.known))
    return f"why {clause.inverted()}" if clause else ""

"""When: statements that end in, or open with, a date or a point in time."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import Clause, named, split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import PREDICATE, PRONOUNS, bare_definite, holds, leans, lower_first, straight, words

_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAY = r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_DATE = (
    rf"(?:{_MONTH}(?: \d{{1,2}}(?:st|nd|rd|th)?)?(?:,? \d{{4}})?|\d{{1,2}} {_MONTH}(?: \d{{4}})?|"
    rf"(?:1[5-9]|20)\d\d|{_DAY}s?)"
)
_POINT = (
    rf"(?:in|on|from|since|until|by|before|after|at|during|every|within)"
    rf" (?:early |late |mid-|about |the (?:early |late )?|around )?"
    rf"(?:{_DATE}|(?:your |the |their |each |every |an employee's )?"
    rf"(?:first|last|final|second|third|end|beginning|start) "
    rf"(?:day|week|month|year|friday|monday|half|quarter|of (?:the |an? |each |every |your |our |their )?(?:\w+ )?"
    rf"(?:{_MONTH}|day|week|month|quarter|year|cycle|period|term|semester|season|century|decade|shift|employment|contract|trial|"
    rf"recession|war))\b[^,;:.(]{{0,40}})"
)
_ENDS = re.compile(
    rf"(?P<what>.+?),? (?P<when>{_POINT})(?P<after>[^,;:.()]{{0,30}})(?P<rest>[,.!(].*)?$",
    re.S,
)
_OPENS = re.compile(
    rf"(?P<when>(?:In|On|At|During|By|Since|After|Before) "
    rf"(?:{_DATE}|(?:the )?(?:end|beginning|start) of [^,]{{3,40}})), (?P<what>.+?)[.!]$",
    re.S,
)
_MORE_TIME = re.compile(r"\s*(?:(?:and|to|through|until|of|every|each|or) .*)?$")
_HOW_OFTEN = re.compile(r",? (?:once|twice) (?:a|per|every|each) \w+")


_HAPPENS = re.compile(rf"(?:(?:\w+ly|also|first|then|now|not|to be|being|only) )*(?:{PREDICATE}|at|in|on)\b")
# "raised from 1500 to 2000", "fell by 1600": beside a verb of change these are amounts, not years.
_CHANGES = re.compile(
    r"\b(?:(?:rais|increas|decreas|reduc|doubl|tripl|halv|ris|chang)(?:es?|ed|ing)|"
    r"(?:grow|lower|fall|drop|climb|extend|expand)(?:s|n|en|ed|ped|ing)?|cuts?|grew|fell|rose|risen|goes|went)\b"
)
_BARE_YEAR = re.compile(r"(?:from|by) (?:about |around )?\d{4}")
# A quick look: without one of these there is no point in time.
_NAMED = re.compile(rf"(?:1[5-9]|20)\d\d|{_MONTH}|{_DAY}")
_ORDER = ("first ", "last ", "final ", "second ", "third ", "end ", "beginning ", "start ")


def find(place: Place, limit: int) -> Iterator[Fact]:
    for sentence in place.all_sentences:
        text = sentence.text
        if len(text) > limit or text.endswith(("?", ":")) or leans(text):
            continue
        if not holds(text, _ORDER) and not _NAMED.search(text):
            continue
        match = _OPENS.match(text) or _ENDS.match(text)
        if match is not None:
            found = _fact(place, sentence, match)
            if found is not None:
                yield found


def _fact(place: Place, sentence: Sentence, match: re.Match[str]) -> Fact | None:
    what = _HOW_OFTEN.sub("", match["what"].strip())
    if match.re is _ENDS and not _MORE_TIME.match(match["after"]):
        return None
    if re.search(r"[,;:()—–]| (?:and|but|which|who|because|if|when) ", what) or not 2 <= len(words(what)) <= 16:
        return None
    if re.search(r"\b(?:\w+ly|back|early|late|about|only|just)$", what):
        return None
    clause = split_clause(lower_first(what, place.known))
    if clause is None or not _usable(clause):
        return None
    if _BARE_YEAR.fullmatch(match["when"]) and _CHANGES.search(f"{clause.verb} {clause.rest}"):
        return None
    if bare_definite(what, (*words(place.heading), *words(place.title))):
        return None
    slots = {"d": f"when {clause.inverted()}", "i": f"when {clause.plain}"}
    return fact("date", "ask", clause.subject, [sentence], slots=slots)


def _usable(clause: Clause) -> bool:
    """A named subject and one verb: what follows it must not bring another."""
    if not named(clause.subject):
        return False
    rest = words(straight(clause.rest))
    if any(w in PRONOUNS or w in ("this", "that", "these", "those", "such", "which") for w in rest):
        return False
    if clause.verb in ("has", "have") or "not" in rest or (re.search(r"\d", clause.rest) and clause.past):
        return False
    if clause.verb in ("is", "are", "was", "were") and rest and not _HAPPENS.match(clause.rest):
        return False  # "XDR is an old format": no point in time makes it one
    return bool(rest) or clause.verb in ("is", "are", "was", "were")

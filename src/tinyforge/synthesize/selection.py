"""Which of a section's facts are kept: precise before coverage, different sentences before the same one twice."""

from __future__ import annotations

import math

from tinyforge.config import SynthesizeConfig
from tinyforge.records import content_id
from tinyforge.synthesize.facts import Candidate, Fact, Place
from tinyforge.synthesize.language import normal

_CHARACTERS_PER_FACT = 250
_TABLE_FACTS = 1.6  # times the square root of the number of cells: 18 cells give 7 facts, 100 give 16


def select(candidates: list[Candidate], config: SynthesizeConfig) -> tuple[list[Candidate], list[Candidate]]:
    """``(kept, left over)`` for the candidates of one section, given in the rules' order of precedence.

    Prose gives at most ``facts_per_section``, fewer where the section is short; tables give √cells beyond that.
    """
    place = candidates[0].place
    tables = [c for c in candidates if c.fact.rule == "table"]
    span = place.section.span
    room = min(config.facts_per_section, 1 + (span.end - span.start) // _CHARACTERS_PER_FACT)
    kept = _drawn(tables, math.ceil(_TABLE_FACTS * math.sqrt(len(tables))))
    prose = sorted((c for c in candidates if c.fact.rule != "table"), key=lambda c: c.fact.coverage)
    kept += _diverse(prose, place, room)
    chosen = set(map(id, kept))
    return [c for c in candidates if id(c) in chosen], [c for c in candidates if id(c) not in chosen]


def _drawn(tables: list[Candidate], room: int) -> list[Candidate]:
    """A draw over rows and columns that stays the same when a cell elsewhere changes."""
    return sorted(tables, key=lambda c: content_id("cell", c.question, c.fact.answer))[:room]


def _diverse(candidates: list[Candidate], place: Place, room: int) -> list[Candidate]:
    kept: list[Candidate] = []
    for candidate in candidates:
        others = [other.fact for other in kept]
        new = not any(_overlap(candidate.fact, other) for other in others)
        if len(kept) < room and new and not _known(candidate.fact, others, place):
            kept.append(candidate)
    # A second question about a sentence that already answers one, where it asks for something else.
    for candidate in candidates:
        twin = any(_overlap(candidate.fact, k.fact) and k.fact.form == candidate.fact.form for k in kept)
        if len(kept) < room and not candidate.fact.coverage and candidate not in kept and not twin:
            kept.append(candidate)
    return kept


def _overlap(fact: Fact, other: Fact) -> bool:
    return any(a.overlaps(b) for a in fact.spans for b in other.spans)


def _known(fact: Fact, others: list[Fact], place: Place) -> bool:
    """A coverage fact about the very thing that another kept fact explains."""
    if not fact.coverage:
        return False
    about = normal(place.name if fact.rule in ("section", "list") else fact.subject)
    same = (other for other in others if other.rule == fact.rule or "list" not in (fact.rule, other.rule))
    return any(normal(other.subject) == about for other in same)

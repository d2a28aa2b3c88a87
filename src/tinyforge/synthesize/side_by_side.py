"""The rules over many documents at once, in worker processes: the same findings in the same order, sooner.

What the rules find in a document depends on it and on which titles and headings the others have (``Names``). So each
document goes to a process of its own, as JSON, and its facts come back; what is decided across documents stays here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinyforge.config import SynthesizeConfig
from tinyforge.environment import cores
from tinyforge.errors import TinyForgeError
from tinyforge.ingest.pool import Call, Limits, Pool
from tinyforge.records import Document, Span
from tinyforge.synthesize.facts import Candidate, Fact, Place
from tinyforge.synthesize.language import Vocabulary
from tinyforge.synthesize.places import Names, names_of

WORTHWHILE = 1_000_000
"""Characters of documents from which starting the processes pays."""
_LIMITS = Limits(seconds=3600.0, megabytes=4000.0)
_UNKNOWN = Vocabulary(frozenset(), frozenset())

Found = tuple[Place, list[Candidate], list[tuple[Candidate, str]]]
"""A section, what the rules found in it, and what the gates refused, each with the gate's name."""


def worthwhile(documents: Sequence[Document]) -> bool:
    return cores() > 1 and len(documents) > 1 and sum(len(d.text) for d in documents) >= WORTHWHILE


def found_side_by_side(documents: Sequence[Document], config: SynthesizeConfig) -> Iterator[Found]:
    """For every section of every document, in order, what :func:`tinyforge.synthesize.found_in` finds.

    The places come without their sentences and vocabulary, which only the rules need. Raises TinyForgeError when a
    process does not do its work.
    """
    names = names_of(documents)
    dumped = config.model_dump()

    def calls() -> Iterator[Call]:
        for document in documents:
            told = {"document": document.to_json(), "names": names.within(document).to_json(), "config": dumped}
            yield Call("tinyforge.synthesize.side_by_side:found_json", told)

    number = 0
    with Pool(_LIMITS) as pool:
        for document, told in zip(documents, pool.map(calls()), strict=True):
            if isinstance(told, TinyForgeError):
                raise TinyForgeError(f"{document.source}: the rules failed: {told.message}", "Please report it.")
            for section, (about, silent, kept, refused) in zip(document.sections(), told, strict=True):
                heading, title, name, own, shared = about
                place = Place(
                    document, section, number, heading, title, name, own, shared, (), (), _UNKNOWN, quiet=silent
                )
                number += 1
                yield (
                    place,
                    [_candidate(fields, place) for fields in kept],
                    [(_candidate(fields, place), gate) for *fields, gate in refused],
                )


def found_json(document: dict[str, Any], names: dict[str, Any], config: dict[str, Any]) -> list[Any]:
    """What a worker process gives back for a document: per section its names, its silence, facts and refusals."""
    from tinyforge.synthesize import found_in

    settings = SynthesizeConfig.model_validate(config)
    found = found_in([Document.from_json(document)], settings, Names.from_json(names))
    return [
        [
            [place.heading, place.title, place.name, place.own, place.shared],
            place.silence,
            [_fields(candidate) for candidate in kept],
            [[*_fields(candidate), gate] for candidate, gate in refused],
        ]
        for place, kept, refused in found
    ]


def _fields(candidate: Candidate) -> list[Any]:
    fact = candidate.fact
    spans = [[span.start, span.end] for span in fact.spans]
    said = [fact.answer, fact.slots, fact.difficulty, fact.coverage]
    return [candidate.question, fact.rule, fact.form, fact.subject, spans, *said]


def _candidate(fields: Sequence[Any], place: Place) -> Candidate:
    question, rule, form, subject, spans, answer, slots, difficulty, coverage = fields
    where = tuple(Span(place.document.id, start, end) for start, end in spans)
    named = tuple((name, value) for name, value in slots)
    return Candidate(Fact(rule, form, subject, where, answer, named, difficulty, coverage), place, question)

"""Documents in, grounded question-and-answer examples out: rules, gates, wordings. No model, no network.

Each rule is ``find(place, limit) -> Iterator[Fact]`` behind the table below, in the order of precedence; plug-ins add
to it through the entry-point group ``tinyforge.synthesize``. Every answer is text copied from its document.
"""

from __future__ import annotations

import gc
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from itertools import groupby
from pathlib import Path

from tinyforge.config import SynthesizeConfig
from tinyforge.plugins import load
from tinyforge.records import Document, Example, Message, content_id
from tinyforge.run import hash_file, hash_json
from tinyforge.synthesize.conflicts import distinct, settle
from tinyforge.synthesize.facts import Candidate, Coverage, Fact, Place, Rejected, Synthesis, Uncovered
from tinyforge.synthesize.focus import MOST, weights
from tinyforge.synthesize.gates import refusal
from tinyforge.synthesize.places import Names, places
from tinyforge.synthesize.selection import select
from tinyforge.synthesize.side_by_side import Found, found_side_by_side, worthwhile
from tinyforge.synthesize.wordings import choose, plainest, questions

RULES = {
    "faq": "tinyforge.synthesize.rules.faq:find",
    "definitions": "tinyforge.synthesize.rules.definitions:find",
    "acronyms": "tinyforge.synthesize.rules.acronyms:find",
    "items": "tinyforge.synthesize.rules.items:find",
    "amounts": "tinyforge.synthesize.rules.amounts:find",
    "dates": "tinyforge.synthesize.rules.dates:find",
    "reasons": "tinyforge.synthesize.rules.reasons:find",
    "howto": "tinyforge.synthesize.rules.howto:find",
    "conditions": "tinyforge.synthesize.rules.conditions:find",
    "tables": "tinyforge.synthesize.rules.tables:find",
    "coverage": "tinyforge.synthesize.rules.coverage:find",
    "code": "tinyforge.synthesize.rules.code:find",
}

Rule = Callable[[Place, int], Iterator[Fact]]

__all__ = ["RULES", "Coverage", "Rejected", "Synthesis", "Uncovered", "rules_version", "synthesize", "verify"]


@contextmanager
def _without_collection() -> Iterator[None]:
    """No garbage collection: the millions of small things made here are kept and hold no cycles, and each of its
    passes would look at all of them (a fifth of the time)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collection()
def synthesize(documents: Sequence[Document], config: SynthesizeConfig, seed: int) -> Synthesis:
    """Examples for every section that yields one, with what was refused and why.

    The same documents, configuration and seed give the same examples in the same order. Raises ValueError when an
    answer does not stand in its document, which is a defect of a rule.
    """
    found = found_side_by_side(documents, config) if worthwhile(documents) else found_in(documents, config)
    seen: list[Place] = []
    candidates: list[Candidate] = []
    refused: list[tuple[Candidate, str]] = []
    for place, kept, left in found:
        seen.append(place)
        candidates += kept
        refused += left
    selected = _select(settle(candidates, refused), config, refused)
    worded = distinct([(c, questions(c.fact, c.place)) for c in selected], refused)
    by_id = {document.id: document for document in documents}
    focus = weights(config.focus) if config.focus else {}
    examples = [e for c, found in worded for e in _examples(c, found, _wordings(c, config, focus), seed)]
    for example in {example.fact: example for example in examples}.values():  # a fact's share answer and evidence
        if not verify(example, by_id):
            raise ValueError(f"rule {example.rule}: answer is not in its document: {example.answer!r}")
    rejected = [_rejected(candidate, gate) for candidate, gate in refused]
    return Synthesis(examples, rejected, _coverage(seen, [c for c, _ in worded], refused))


def found_in(documents: Sequence[Document], config: SynthesizeConfig, names: Names | None = None) -> Iterator[Found]:
    """For every section, in order, what the rules find in it and what the gates refuse; ``names`` of all documents
    where these are but some of them."""
    rules = _rules()
    for place in places(documents, names):
        refused: list[tuple[Candidate, str]] = []
        yield place, list(_candidates(place, rules, config, refused)), refused


@cache
def rules_version() -> str:
    """A name for what the rules, gates and wordings are at the moment: 12 digits of a hash over their source."""
    folder = Path(__file__).parent
    return hash_json([[str(p.relative_to(folder)), hash_file(p)] for p in sorted(folder.rglob("*.py"))])[:12]


def verify(example: Example, documents: Mapping[str, Document]) -> bool:
    """Whether the evidence lies within its documents and reads, white space aside, exactly as the answer."""
    if not example.evidence:
        return False
    pieces = []
    for span in example.evidence:
        document = documents.get(span.document)
        if document is None or not 0 <= span.start < span.end <= len(document.text):
            return False
        pieces.append(document.slice(span))
    return "".join(" ".join(pieces).split()) == "".join(example.answer.split())


def _rules() -> dict[str, Rule]:
    installed = sorted(point.name for point in entry_points(group="tinyforge.synthesize"))
    return {name: load("synthesize", name, RULES) for name in dict.fromkeys((*RULES, *installed))}


def _candidates(
    place: Place, rules: Mapping[str, Rule], config: SynthesizeConfig, refused: list[tuple[Candidate, str]]
) -> Iterator[Candidate]:
    covered = set()
    for name, rule in rules.items():
        if place.is_apparatus and name not in ("faq", "coverage"):
            continue
        for fact in rule(place, config.max_answer_characters):
            candidate = Candidate(fact, place, plainest(fact, place))
            if fact.coverage and candidate.question in covered:
                continue  # another attempt at a question that already has its answer
            gate = refusal(candidate, config)
            if gate:
                refused.append((candidate, gate))
            else:
                covered.add(candidate.question)
                yield candidate


def _select(
    candidates: list[Candidate], config: SynthesizeConfig, refused: list[tuple[Candidate, str]]
) -> list[Candidate]:
    kept: list[Candidate] = []
    for _, group in groupby(candidates, key=lambda candidate: candidate.place.number):
        chosen, left = select(list(group), config)
        kept += chosen
        refused += [(candidate, "over_budget") for candidate in left]
    return kept


def _wordings(candidate: Candidate, config: SynthesizeConfig, focus: Mapping[tuple[str, str], float]) -> int:
    """How many wordings a fact gets: up to twice as many where a report's model was always wrong."""
    place = candidate.place
    weight = focus.get((place.document.source, place.path), 1.0)
    return round(config.wordings * (1 + (weight - 1) / (MOST - 1)))


def _examples(candidate: Candidate, found: list[str], wordings: int, seed: int) -> Iterator[Example]:
    fact, place = candidate.fact, candidate.place
    spans = ",".join(f"{span.start}-{span.end}" for span in fact.spans)
    name = content_id("fact", place.document.id, fact.rule, candidate.question, spans)
    rng = random.Random(f"{seed}:{name}")
    topic = f"{place.title} > {place.heading}"
    answer = Message("assistant", fact.answer)
    for number, text in enumerate(choose(found, wordings, rng)):
        yield Example(
            id=content_id("example", name, text),
            messages=(Message("user", text), answer),
            evidence=fact.spans,
            fact=name,
            topic=topic,
            rule=fact.rule,
            difficulty=fact.difficulty,
            metadata={
                "wording": number,
                "source": place.document.source,
                "section": place.path,
                "coverage": fact.coverage,
            },
        )


def _rejected(candidate: Candidate, gate: str) -> Rejected:
    fact, place = candidate.fact, candidate.place
    return Rejected(fact.rule, gate, candidate.question, fact.answer, place.document.source, place.path, fact.spans)


def _coverage(seen: list[Place], kept: list[Candidate], refused: list[tuple[Candidate, str]]) -> Coverage:
    covered = {candidate.place.number for candidate in kept}
    precise = {candidate.place.number for candidate in kept if not candidate.fact.coverage}
    gates: dict[int, dict[str, None]] = defaultdict(dict)
    for candidate, gate in refused:
        gates[candidate.place.number][gate] = None
    uncovered = tuple(
        Uncovered(place.document.source, place.path, ", ".join(gates[place.number]) or place.silence)
        for place in seen
        if place.number not in covered
    )
    return Coverage(len(seen), len(covered), len(precise), uncovered)

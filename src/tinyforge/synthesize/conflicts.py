"""Across the corpus: the same question must not have two answers, and no fact is taught twice."""

from __future__ import annotations

from collections import Counter, defaultdict

from tinyforge.synthesize.facts import Candidate
from tinyforge.synthesize.language import normal
from tinyforge.synthesize.wordings import FEWEST

Refused = list[tuple[Candidate, str]]


def settle(candidates: list[Candidate], refused: Refused) -> list[Candidate]:
    """The candidates that may stay, in their order; the others are added to ``refused`` with the gate's name.

    Same plainest question and same answer: one stays, a precise one before others ("duplicate_question"). Different
    answers: all of them go ("conflicting_answers"), unless exactly one stands under a heading that names its subject.
    """
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[normal(candidate.question)].append(candidate)
    gates: dict[int, str] = {}
    for group in groups.values():
        if len(group) > 1:
            _settle_group(group, gates)
    refused += [(c, gates[id(c)]) for c in candidates if id(c) in gates]
    return [c for c in candidates if id(c) not in gates]


def _settle_group(group: list[Candidate], gates: dict[int, str]) -> None:
    """Write down which of the candidates that ask the same are refused."""
    answers = {normal(c.fact.answer) for c in group}
    owners = [c for c in group if _owns(c)]
    keeper = min(group, key=lambda c: c.fact.coverage) if len(answers) == 1 else owners[0] if len(owners) == 1 else None
    for candidate in group:
        if candidate is not keeper:
            same = keeper is not None and normal(candidate.fact.answer) == normal(keeper.fact.answer)
            gates[id(candidate)] = "duplicate_question" if same else "conflicting_answers"


def _owns(candidate: Candidate) -> bool:
    """Whether the section or the document is named after the fact's subject."""
    subject = normal(candidate.fact.subject)
    bare = subject.split(" ", 1)[-1] if subject.startswith(("a ", "an ", "the ")) else subject
    return bare in (normal(candidate.place.heading), normal(candidate.place.title))


def distinct(worded: list[tuple[Candidate, dict[str, str]]], refused: Refused) -> list[tuple[Candidate, list[str]]]:
    """Every fact with the questions (each under its normal form) that it alone asks; fewer than a dozen: refused."""
    asked = Counter(key for _, questions in worded for key in questions)
    kept = []
    for candidate, questions in worded:
        own = [question for key, question in questions.items() if asked[key] == 1]
        if len(own) < FEWEST:
            refused.append((candidate, "too_few_wordings"))
        else:
            kept.append((candidate, own))
    return kept

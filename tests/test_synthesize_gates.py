"""Each gate refuses what it is for and lets the good neighbour through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from synthesize_pages import build
from tinyforge.config import SynthesizeConfig
from tinyforge.records import Span
from tinyforge.synthesize.conflicts import distinct, settle
from tinyforge.synthesize.facts import Candidate, Fact
from tinyforge.synthesize.forms import EXTRAS, FAMILIES
from tinyforge.synthesize.gates import GATES, refusal
from tinyforge.synthesize.language import normal
from tinyforge.synthesize.places import places
from tinyforge.synthesize.wordings import plainest, questions

CONFIG = SynthesizeConfig(max_answer_characters=120)  # type: ignore[call-arg]
DOCUMENT = build(("heading1", "Staff Guide"), ("heading2", "Pay"), ("paragraph", "Pay is monthly."))
PLACE = next(iter(places([DOCUMENT])))
GOOD = "Queenbee is our invoice, accounting and identity system."


def candidate(answer: str, subject: str = "Queenbee", rule: str = "definition", form: str = "define") -> Candidate:
    slots = (("n", subject), ("d", f"what is {subject}"), ("i", f"what {subject} is"))
    fact = Fact(rule, form, subject, (Span(DOCUMENT.id, 0, len(answer)),), answer, slots)
    return Candidate(fact, PLACE, plainest(fact, PLACE))


def test_a_good_fact_passes_every_gate() -> None:
    assert refusal(candidate(GOOD), CONFIG) == ""


@pytest.mark.parametrize(
    ("gate", "answer", "subject"),
    [
        ("dangling_subject", GOOD, "this system"),
        ("vague", GOOD, "the result"),
        ("subject_too_long", GOOD, "a b c d e f g h i j"),
        ("subject_broken", GOOD, "Queenbee (the"),
        ("question_not_self_contained", GOOD, "the boat in shows"),
        ("dangling_answer", "It is our invoice, accounting and identity system.", "Queenbee"),
        ("dangling_answer", "However, Queenbee is our invoice system.", "Queenbee"),
        ("answer_points_elsewhere", "Queenbee is our invoice system as shown above.", "Queenbee"),
        ("answer_too_long", GOOD * 3, "Queenbee"),
        ("answer_too_short", "Queenbee is ours.", "Queenbee"),
        ("link_only", "Read https://37signals.com/handbook/queenbee now here.", "Queenbee"),
        ("heading_like", "Queenbee and its many friends", "Queenbee"),
        ("broken_fragment", "Queenbee is our invoice system (the old one.", "Queenbee"),
        ("broken_fragment", "Queenbee is our system, as the data in show.", "Queenbee"),
        ("markup_left", "Queenbee is our invoice system, see Basecamp_ and others.", "Queenbee"),
        ("markup_left", "Queenbee is our :class:`Invoice` and identity system.", "Queenbee"),
        ("template_junk", "Queenbee is our TODO system for the invoices.", "Queenbee"),
        ("code_in_sentence", "Queenbee is {a: 1} => [b] | {c_d} of the kind.", "Queenbee"),
        ("repeats_question", "What is Queenbee? Queenbee is what.", "Queenbee"),
    ],
)
def test_gates(gate: str, answer: str, subject: str) -> None:
    assert refusal(candidate(answer, subject), CONFIG) == gate


def test_every_gate_is_tested() -> None:
    marks = [m for m in test_gates.pytestmark if m.name == "parametrize"]  # type: ignore[attr-defined]
    tested = {row[0] for row in marks[0].args[1]}
    assert set(GATES) <= tested


def test_same_question_with_two_answers_refuses_both() -> None:
    refused: list[tuple[Candidate, str]] = []
    pair = [candidate(GOOD), candidate("Queenbee is a small insect that makes honey.")]
    assert settle(pair, refused) == []
    assert [gate for _, gate in refused] == ["conflicting_answers"] * 2


def test_the_section_named_after_the_subject_keeps_its_answer() -> None:
    owner = build(("heading1", "Systems"), ("heading2", "Queenbee"), ("paragraph", GOOD))
    [place] = places([owner])
    theirs = Candidate(candidate(GOOD).fact, place, "What is Queenbee?")
    refused: list[tuple[Candidate, str]] = []
    kept = settle([candidate("Queenbee is a small insect that makes honey."), theirs], refused)
    assert kept == [theirs]
    assert [gate for _, gate in refused] == ["conflicting_answers"]


def test_same_question_and_answer_is_kept_once() -> None:
    refused: list[tuple[Candidate, str]] = []
    pair = [candidate(GOOD), candidate(GOOD)]
    assert settle(pair, refused) == pair[:1]
    assert [gate for _, gate in refused] == ["duplicate_question"]


def test_each_question_stands_under_its_normal_form() -> None:
    slots = {
        "d": "what's ¿the? 3.5% (fee)",
        "i": "— ",
        "t": "%",
        "e": "the A.B.",
        "r": "x_y",
        "c": "if you pay",
        "g": "go",
    }
    for form in (*FAMILIES, *EXTRAS):
        found = questions(replace(candidate(GOOD).fact, form=form, slots=tuple(slots.items())), PLACE)
        assert len(found) >= 12 and all(key == normal(question) for key, question in found.items())


def test_shared_wordings_are_taken_from_both_facts() -> None:
    one, other = candidate(GOOD), candidate(GOOD, subject="Sentry")
    shared = "Tell me everything."
    worded = [(c, {**questions(c.fact, PLACE), normal(shared): shared}) for c in (one, other)]
    refused: list[tuple[Candidate, str]] = []
    kept = distinct(worded, refused)
    assert len(kept) == 2 and not refused
    assert all(shared not in found for _, found in kept)
    assert distinct([(one, {"tell me everything": shared}), (other, {"one": "One."})], refused) == []
    assert [gate for _, gate in refused] == ["too_few_wordings"] * 2

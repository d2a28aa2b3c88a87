"""The whole room on a small handbook, read from real Markdown."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from tinyforge.config import SynthesizeConfig
from tinyforge.ingest.markdown import parse
from tinyforge.records import Document, Example, Message, Span
from tinyforge.synthesize import Synthesis, synthesize, verify
from tinyforge.synthesize.language import normal

CONFIG = SynthesizeConfig()  # type: ignore[call-arg]
PAGES = {
    "benefits.md": """# Benefits

## Dental Insurance

Dental insurance in the US is provided through MetLife. The company pays 100% of the premium. Open enrollment is in
November every year, with new coverage beginning December 1.

## Vision Insurance

Vision insurance is provided through Acme. The company pays 80% of the premium. Open enrollment is in May every year.

## Flexible Spending Account (FSA)

The FSA is an account where you can set aside pre-tax money. If you leave the company, you must spend the rest first.

## Paid Time Off

You can take ten days of bereavement leave for the death of an immediate family member. Unused holidays are not paid.

## Overview

There are several plans for every employee who works here full time.
""",
    "systems.md": """# Our Systems

We run a number of systems that help us support the company.

## Queenbee

Queenbee is our invoice, accounting, and identity system. It is old.

[billing.example.com](https://billing.example.com)

## Links

[status.example.com](https://status.example.com)
""",
    "titles.md": """# Titles

| Category | Senior Tester (L3) | Lead Tester (L4) |
| --- | --- | --- |
| *Mastery* | Knows the products well. Writes good reports. | Knows the entire product suite in detail. |
| *Trust* | Work is reviewed with some back and forth. | Sought by colleagues for advice on severity. |
""",
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    folder = tmp_path_factory.mktemp("pages")
    found: list[Document] = []
    for name, text in PAGES.items():
        (folder / name).write_text(text, encoding="utf-8")
        found += parse(Path(folder / name), name)
    return found


@pytest.fixture(scope="module")
def made(documents: list[Document]) -> Synthesis:
    return synthesize(documents, CONFIG, 42)


def by_fact(made: Synthesis) -> dict[str, list[Example]]:
    facts: dict[str, list[Example]] = defaultdict(list)
    for example in made.examples:
        facts[example.fact].append(example)
    return facts


def test_answers_are_the_documents_own_words(made: Synthesis, documents: list[Document]) -> None:
    known = {document.id: document for document in documents}
    assert made.examples
    assert all(verify(example, known) for example in made.examples)


def test_verify_refuses_what_is_not_there(made: Synthesis, documents: list[Document]) -> None:
    known = {document.id: document for document in documents}
    good = made.examples[0]
    span = good.evidence[0]
    assert not verify(replace(good, messages=(good.messages[0], Message("assistant", good.answer + " More."))), known)
    assert not verify(replace(good, evidence=()), known)
    assert not verify(replace(good, evidence=(Span(span.document, span.start + 1, span.end),)), known)
    assert not verify(replace(good, evidence=(Span(span.document, span.start, 10**6),)), known)
    assert not verify(replace(good, evidence=(Span("elsewhere", span.start, span.end),)), known)


def test_every_section_with_prose_is_covered(made: Synthesis) -> None:
    coverage = made.coverage
    assert (coverage.sections, coverage.covered) == (9, 8)
    assert [u.section for u in coverage.uncovered] == ["Our Systems > Links"]
    assert 0 < coverage.precise < coverage.covered


def test_wordings_differ_in_more_than_case(made: Synthesis) -> None:
    for rows in by_fact(made).values():
        questions = [normal(row.question) for row in rows]
        assert 12 <= len(questions) <= CONFIG.wordings
        assert len(set(questions)) == len(questions)
        openings = Counter(question.split()[0] for question in questions)
        assert len(openings) >= 6
        assert sorted(row.metadata["wording"] for row in rows) == list(range(len(rows)))
        assert any(row.question == row.question.lower() for row in rows)


def test_no_question_has_two_answers(made: Synthesis) -> None:
    answers: dict[str, set[str]] = defaultdict(set)
    for example in made.examples:
        answers[normal(example.question)].add(example.answer)
    assert all(len(found) == 1 for found in answers.values())


def test_shared_sentences_ask_with_their_section(made: Synthesis) -> None:
    asked = [e.question.lower() for e in made.examples if e.answer == "The company pays 80% of the premium."]
    assert asked and all("vision insurance" in question for question in asked)


def test_a_generic_heading_is_named_with_its_document(made: Synthesis) -> None:
    rows = [e for e in made.examples if e.metadata["section"] == "Benefits > Overview" and e.rule == "section"]
    assert rows and all("benefits" in e.question.lower() for e in rows)


def test_lines_above_the_heading_do_not_take_its_name(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "[Read online](https://x.org)\n\n# Handbook\n\nThis handbook holds all of our rules.\n"
    )
    [example, *_] = synthesize(list(parse(tmp_path / "page.md", "page.md")), CONFIG, 1).examples
    assert "second" not in example.question
    assert example.answer == "This handbook holds all of our rules."


def test_steps_come_before_their_heading_as_a_question(tmp_path: Path) -> None:
    steps = "1. Open the app.\n2. Choose {}.\n3. Press Save.\n"
    text = f"# Help\n\n## How do I enroll?\n\n{steps.format('a plan')}\n## How do you cancel?\n\n{steps.format('End')}"
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    made = synthesize(list(parse(tmp_path / "page.md", "page.md")), CONFIG, 1)
    assert {(e.rule, e.metadata["section"]) for e in made.examples} == {
        ("steps", "Help > How do I enroll?"),
        ("steps", "Help > How do you cancel?"),
    }


def test_tables_take_whole_sentences_within_the_limit(documents: list[Document]) -> None:
    short = SynthesizeConfig(max_answer_characters=40)  # type: ignore[call-arg]
    answers = {e.answer for e in synthesize(documents, short, 42).examples if e.rule == "table"}
    assert "Knows the products well." in answers
    assert all(len(answer) <= 40 for answer in answers)


def test_same_seed_same_examples_other_seed_other_order(documents: list[Document], made: Synthesis) -> None:
    assert synthesize(documents, CONFIG, 42) == made
    other = synthesize(documents, CONFIG, 43)
    assert {e.fact for e in other.examples} == {e.fact for e in made.examples}
    assert [e.question for e in other.examples] != [e.question for e in made.examples]


def test_facts_per_section_and_wordings_are_respected(documents: list[Document]) -> None:
    config = SynthesizeConfig(facts_per_section=1, wordings=40)  # type: ignore[call-arg]
    few = by_fact(synthesize(documents, config, 42))
    sections = Counter(rows[0].metadata["section"] for rows in few.values() if rows[0].rule != "table")
    assert set(sections.values()) == {1}
    assert {len(rows) for rows in few.values()} == {40}


def test_what_was_left_out_is_in_the_ledger(documents: list[Document]) -> None:
    config = SynthesizeConfig(facts_per_section=1)  # type: ignore[call-arg]
    left = synthesize(documents, config, 42).rejected
    assert any(r.gate == "over_budget" and "open enrollment" in r.question for r in left)
    assert all(r.gate and r.question and r.answer and r.source for r in left)


def test_nothing_in_nothing_out() -> None:
    empty = synthesize([], CONFIG, 1)
    assert (empty.examples, empty.rejected, empty.coverage.share) == ([], [], 0.0)

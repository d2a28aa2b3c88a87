"""Probes before and after: what counts as followed, what counts as lost, and groups of questions."""

from __future__ import annotations

import pytest

from evaluate_sample import GENERAL, probe_answers
from tinyforge.dataset.general import general_texts
from tinyforge.evaluate.evidence import evidence_pieces
from tinyforge.evaluate.forgetting import forgetting, sentences
from tinyforge.evaluate.metrics import token_f1
from tinyforge.evaluate.probes import INSTRUCTIONS, general_questions
from tinyforge.evaluate.topics import breakdown
from tinyforge.records import Document, Span

# The right answer to each instruction, and one that is nearly right.
ANSWERS: list[tuple[str, str]] = [
    ("White.", "It is white."),
    ("No", "No, it is not."),
    ("lantern", "The lantern."),
    ("The boat is blue.", "The boat is red."),
    ("Echo echo echo", "echo echo"),
    ("Blue waves without an end.", "Blue waves that never end at all."),
    ("Trees are tall.", "Trees are tall plants that grow in most parts of the whole wide world."),
    ("The copper kettle sings.", "The coppersmith sings."),
    ("Winter is cold.", "Winter is cold. It snows."),
    ("People trade. Prices are told!", "People trade."),
    ("HELLO!", "HELLO you"),
    ("hello there", "Hello there"),
    ("Good night, dad!", "Sleep well!"),
    ("Perhaps it will.", "It will, Perhaps."),
    ("A way over a river. Done.", "Done. A way over a river."),
    ("Why do bees dance?", "Bees dance."),
    ("apple\npear\nplum", "apple, pear, plum"),
    ("- Nile\n- Rhine", "- Nile"),
    ("1. Boil.\n2. Pour.\n3. Wait.\n4. Drink.", "1. Boil.\n2. Pour.\n3. Wait."),
    ("red, green, blue.", "red and green"),
    ("9", "Nine is larger: 9 is."),
    ("1 2 3 4 5", "1 2 3 4"),
    ('{"name": "Ann", "age": 7}', '{"name": "Ann"}'),
    ("pear", "apple or pear"),
]


@pytest.mark.parametrize("number", range(len(INSTRUCTIONS)))
def test_an_instruction_is_followed_or_not(number: int) -> None:
    right, wrong = ANSWERS[number]
    check = INSTRUCTIONS[number].check
    assert check(right) and not check(wrong) and not check(""), INSTRUCTIONS[number].prompt


def test_every_general_question_is_answered_by_its_text() -> None:
    texts = general_texts()
    for prompt, example in general_questions():
        text = texts[int(example.fact)]
        assert example.answer in text and text in prompt[0].content
        (sentence,) = example.metadata["references"]
        assert example.answer in sentence and sentence in text and len(sentence) < 200
        assert token_f1(sentence, example) == 1.0 == token_f1(example.answer, example)
    assert len({example.id for _, example in general_questions()}) == len(general_questions()) >= 24


def test_what_was_lost_is_told_and_what_was_not_is_not() -> None:
    settings = {"resamples": 500, "seed": 3}
    found = forgetting(GENERAL, probe_answers(0.9), probe_answers(0.2), **settings)
    assert found["questions"]["before"]["value"] == pytest.approx(22 / 24)
    assert found["questions"]["after"]["value"] == pytest.approx(6 / 24)
    difference = found["questions"]["difference"]
    assert difference["value"] == pytest.approx(-16 / 24) and difference["high"] < 0
    lost, kept = sentences(found)
    assert lost[0] == "general text takes 10% more bits per byte (1.74 before, 1.92 after)"
    assert lost[1].startswith("on general questions with their text, token F1 went from 0.92 to 0.25 (-0.67, 95%")
    assert len(kept) == 1 and "followed 0% before and 8% after, and who can hardly do it" in kept[0]
    same = forgetting({**GENERAL, "change": 0.05}, probe_answers(0.9), probe_answers(0.9), **settings)
    assert sentences(same)[0] == [] and len(sentences(same)[1]) == 3
    assert sentences(forgetting(None, probe_answers(0.9), probe_answers(0.9), **settings))[0] == []
    again = forgetting(GENERAL, probe_answers(0.9), probe_answers(0.2), **settings)
    assert again == found


def row(source: str, topic: str, base: float, tuned: float) -> dict[str, object]:
    answers = {"base": {"token_f1": base}, "tuned": {"token_f1": tuned}}
    return {"id": "x", "fact": topic, "source": source, "topic": topic, "difficulty": "", "answers": answers}


def test_groups_that_lost_most_come_first() -> None:
    rows = [row("a.md", "one", 0.2, 0.8), row("b.md", "two", 0.9, 0.1), row("a.md", "three", 0.4, 0.4)]
    found = breakdown(rows)
    assert [group["name"] for group in found["source"]] == ["b.md", "a.md"]
    assert [group["name"] for group in found["topic"]] == ["two", "three", "one"]
    assert found["difficulty"] == []  # nothing says how hard they are
    b, a = found["source"]
    assert (b["change"], b["questions"], b["facts"]) == (pytest.approx(-0.8), 1, 1)
    assert a["token_f1"] == {"base": pytest.approx(0.3), "tuned": pytest.approx(0.6)} and a["facts"] == 2


def test_evidence_keeps_the_span_and_cuts_around_it_at_words() -> None:
    text = "word " * 60 + "The saw is blue." + " more" * 60
    start = text.index("The saw")
    document = Document("d", text, (), "a.md")
    (piece,) = evidence_pieces((Span("d", start, start + 16),), {"d": document})
    assert piece["text"] == "The saw is blue."
    assert piece["before"].startswith("… word ") and piece["after"].endswith(" more …")
    assert piece["before"].removeprefix("… ") + piece["text"] in text
    whole = evidence_pieces((Span("d", 0, len(text)),), {"d": document})[0]
    assert (whole["before"], whole["after"]) == ("", "")

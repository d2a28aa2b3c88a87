"""Questions made of a sentence's own words, with which the base learns to find sentences."""

from __future__ import annotations

import random

import pytest

from tinyforge.retrieve.words import content_words
from tinyforge.synthesize.by_words import ask_by_words

SENTENCE = "The committee of the harbour meets every Thursday in the old customs house."
OTHERS = ["The committee publishes minutes.", "Boats leave the harbour at noon."]


def asked(sentence: str = SENTENCE, others: list[str] = OTHERS, tries: int = 200) -> set[str]:
    return {q for seed in range(tries) if (q := ask_by_words(sentence, others, random.Random(seed)))}


def test_every_question_names_a_word_that_only_its_sentence_has() -> None:
    elsewhere = {word for other in OTHERS for word in content_words(other)}
    telling = set(content_words(SENTENCE)) - elsewhere
    assert telling == {"meet", "thursday", "old", "custom", "hous"}
    questions = asked()
    assert len(questions) > 30
    assert all(telling & set(content_words(question)) for question in questions)


def test_a_question_says_nothing_that_the_sentence_does_not() -> None:
    phrases = set(content_words("said sentence mentioned quote says find"))
    assert all(set(content_words(question)) <= set(content_words(SENTENCE)) | phrases for question in asked())


@pytest.mark.parametrize(
    ("sentence", "others"),
    [
        ("Meets on Thursday.", []),
        ("Which committee of the harbour meets on Thursday in town?", []),
        (SENTENCE, [SENTENCE]),
        (" ".join(f"word{i}" for i in range(51)), []),
    ],
    ids=["too short", "a question itself", "said elsewhere", "too long"],
)
def test_what_cannot_be_asked_for_is_not(sentence: str, others: list[str]) -> None:
    assert asked(sentence, others, 20) == set()


def test_the_same_draw_gives_the_same_question() -> None:
    first = [ask_by_words(SENTENCE, OTHERS, random.Random(seed)) for seed in range(20)]
    assert first == [ask_by_words(SENTENCE, OTHERS, random.Random(seed)) for seed in range(20)]

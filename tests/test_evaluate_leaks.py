from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tinyforge.evaluate.leaks import _Agreeing, leaks
from tinyforge.evaluate.metrics import word_f1
from tinyforge.evaluate.standing import leak_line
from tinyforge.records import Example, Message

LONG = "which of the fourteen drawers behind the old desk holds the spare keys of the upper workshop"
TRAINED = [
    ("How long is a loan?", "A loan lasts seven days."),
    ("What does a lost drill cost?", "It costs forty dollars."),
    ("Who repairs the saws?", "Ines repairs them on Monday mornings."),
    (f"Tell me please, {LONG}", "The ninth."),
]


def row(question: str, answer: str, fact: str = "") -> Example:
    return Example(question[:9], (Message("user", question), Message("assistant", answer)), fact=fact)


TRAINING = [row(*pair) for pair in TRAINED]


@pytest.mark.parametrize(
    ("question", "answer", "kind"),
    [
        ("how long is a LOAN", "Whatever it says.", "exact"),
        (f"I wonder {LONG}, if you know it?", "the ninth", "ngrams"),
        ("What does a lost drill cost ??!", "It costs forty dollars.", "exact"),
        ("Hi, what does a lost drill cost?", "It costs forty dollars.", "near"),
        ("Who is repairing the saws?", "Ines repairs them on Monday mornings.", "similar"),
    ],
)
def test_each_kind_of_twin_is_found(question: str, answer: str, kind: str) -> None:
    report = leaks([row(question, answer)], TRAINING)
    assert [leak.kind for leak in report.leaks] == [kind], report
    assert report.kinds[kind] == 1 and report.leaked


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where is the library?", "At the harbour."),
        ("What does a lost spade cost?", "It costs nine dollars."),  # made alike, another fact
        ("Hi, what does a lost drill cost?", "Nothing at all, since last year."),  # nearly the same, another answer
        (f"I wonder {LONG}", "Those are at the desk in the hall."),
    ],
)
def test_what_is_no_twin_is_clean(question: str, answer: str) -> None:
    report = leaks([row(question, answer)], TRAINING)
    assert report.leaks == () and not report.leaked
    assert leak_line("my-run", report.to_json()).startswith("Clean: 0 of 1 questions")


def test_a_set_copied_from_training_is_called_leaked() -> None:
    report = leaks(TRAINING, TRAINING)
    assert report.share == 1 and report.verdict == "leaked" and report.answers_seen == 4
    assert leak_line("my-run", report.to_json()).startswith("LEAKED: 4 of 4 questions")


def test_one_copied_question_in_two_hundred_does_not_make_a_set_leaked_and_is_named() -> None:
    rng = random.Random(1)
    others = [row("".join(rng.choices("bcdfghaeiou ", k=40)), f"answer {i}") for i in range(199)]
    report = leaks([*others, TRAINING[0]], TRAINING)
    assert report.verdict == "nearly clean" and [leak.question for leak in report.leaks] == ["How long is a loan?"]


def test_new_words_about_a_taught_fact_are_no_leak_but_the_old_words_are() -> None:
    trained = [row("Who repairs the saws?", "Ines repairs them.", fact="f")]
    reworded, repeated = (
        row("Who is repairing the saws?", "Ines repairs them.", fact="f"),
        row("who repairs the saws", "x", "f"),
    )
    report = leaks([reworded], trained)
    assert report.leaks == () and report.taught == 1 and report.answers_seen == 1
    assert leaks([replace(reworded, fact="")], trained).leaked  # control: not known to be the same fact
    assert leaks([repeated], trained).leaked


def test_passages_in_a_prompt_do_not_hide_the_question() -> None:
    prompt = "[1] Loans\nA loan lasts seven days.\n\nQuestion: How long is a loan?"
    asked = replace(row(prompt, "x"), metadata={"question": "How long is a loan?"})
    assert leaks([row("How long is a loan?", "seven days")], [asked]).kinds["exact"] == 1


def test_a_question_that_stands_in_running_text_has_leaked() -> None:
    text = Example("t", (), text=f"Minutes. Somebody asked {LONG}, and nobody knew.")
    report = leaks([row(LONG, "the ninth")], [text])
    assert [leak.kind for leak in report.leaks] == ["ngrams"]


def test_labelled_texts_leak_with_their_text() -> None:
    text = Example("a", (Message("user", "The drill broke on the first day."),), label="bad")
    assert leaks([text], [replace(text, id="b")]).leaked


def test_prefix_filtering_misses_no_agreeing_answer() -> None:
    rng = random.Random(0)
    answers = [
        " ".join(rng.choices("red green blue six ten days weeks tool saw".split(), k=rng.randint(0, 7)))
        for _ in range(300)
    ]
    index = _Agreeing(answers)
    for answer in answers[:60]:
        assert index.to(answer) == [i for i, other in enumerate(answers) if word_f1(other, answer) >= 0.8]

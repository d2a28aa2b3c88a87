from __future__ import annotations

import random
import subprocess
import sys

import pytest
import sacrebleu
from rouge_score import rouge_scorer

from tinyforge.errors import InputError
from tinyforge.evaluate.metrics import METRICS, chrf, exact_match, find_metric, normalise, rouge_l, token_f1
from tinyforge.records import Example, Message

WORDS = "cat sat mat dog ran over under lazy fox quick 42 weeks leave paid team".split()


def example(answer: str, *others: str) -> Example:
    messages = (Message("user", "?"), Message("assistant", answer))
    return Example("x", messages, metadata={"references": list(others)} if others else {})


def sentences(count: int) -> list[tuple[str, str]]:
    rng = random.Random(3)
    return [tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in "ab") for _ in range(count)]  # type: ignore[misc]


def test_normal_form_drops_case_punctuation_articles_and_spaces() -> None:
    assert normalise("  The Cat's  a-b, an\tApple! ") == "cats ab apple"
    assert normalise("theatre anthem") == "theatre anthem"  # articles only as whole words


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("The cat sat on the mat.", "a cat sat", 2 * 2 / (4 + 2)),  # cat sat on mat / cat sat
        ("six six weeks", "six weeks", 2 * 2 / (3 + 2)),  # a repeated word counts once
        ("six weeks", "Six weeks!", 1.0),
        ("two days", "six weeks", 0.0),
        ("", "six weeks", 0.0),
        ("the", "", 1.0),  # both are empty in normal form
    ],
)
def test_token_f1_by_hand(prediction: str, answer: str, expected: float) -> None:
    assert token_f1(prediction, example(answer)) == pytest.approx(expected)


def test_exact_match_by_hand() -> None:
    assert exact_match("the SIX weeks.", example("six weeks")) == 1.0
    assert exact_match("six weeks of leave", example("six weeks")) == 0.0


def test_rouge_l_by_hand() -> None:
    # longest common subsequence: cat the mat; precision 3/4, recall 3/6
    assert rouge_l("cat the mat sat", example("the cat sat on the mat")) == pytest.approx(0.6)
    assert rouge_l("weeks", example("week")) == 0.0  # no stemming


def test_chrf_by_hand() -> None:
    # characters: 1 of 2 match; pairs: 0 of 1; longer ones do not exist: precision = recall = 1/4
    assert chrf("ab", example("ac")) == pytest.approx(0.25)
    assert chrf("six weeks", example("six weeks")) == pytest.approx(1.0)
    assert chrf("", example("six weeks")) == 0.0


def test_the_best_reference_counts() -> None:
    several = example("forty two", "42", "about forty")
    for name in METRICS:
        assert find_metric(name)("42", several) == pytest.approx(1.0), name
        assert find_metric(name)("42", example("forty two")) < 1.0, name


def test_parity_with_rouge_score_and_sacrebleu() -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    for prediction, answer in sentences(200):
        expected = scorer.score(answer, prediction)
        assert rouge_l(prediction, example(answer)) == pytest.approx(expected["rougeL"].fmeasure)
        # without articles and punctuation, SQuAD's F1 is ROUGE-1's F-measure
        assert token_f1(prediction, example(answer)) == pytest.approx(expected["rouge1"].fmeasure)
        assert chrf(prediction, example(answer)) == pytest.approx(
            sacrebleu.sentence_chrf(prediction, [answer]).score / 100
        )


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="chrf, exact_match, rouge_l, token_f1"):
        find_metric("bleurt")


def test_importing_the_room_is_light() -> None:
    code = (
        "import sys; from tinyforge.evaluate import metrics, compare, verdict, report, table, answers\n"
        "heavy = {'torch', 'transformers', 'nltk', 'sacrebleu', 'rouge_score', 'matplotlib', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

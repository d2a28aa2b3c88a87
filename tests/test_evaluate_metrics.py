from __future__ import annotations

import random
import subprocess
import sys
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer
from sklearn import metrics as reference

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.errors import InputError
from tinyforge.evaluate.measure import Failure, Measured, measure
from tinyforge.evaluate.metrics import AGREEMENT, METRICS, exact_match, find_metric, find_metrics, normalise, token_f1
from tinyforge.evaluate.metrics.base import Answer, Pooled
from tinyforge.evaluate.metrics.diversity import length_ratio, repetition
from tinyforge.evaluate.metrics.grounding import declines
from tinyforge.evaluate.metrics.meteor import meteor
from tinyforge.evaluate.metrics.ngrams import chrf, rouge_1, rouge_2, rouge_l
from tinyforge.recipe import load_config
from tinyforge.records import Example, Hit, Message, Span
from tinyforge.retrieve.words import stem

WORDS = "cat sat mat dog ran over under lazy fox quick 42 weeks leave paid team".split()


def example(answer: str, *others: str, id: str = "x") -> Example:
    messages = (Message("user", "?"), Message("assistant", answer))
    return Example(id, messages, metadata={"references": list(others)} if others else {})


def labelled(label: str) -> Example:
    return Example("x", (Message("user", "?"),), label=label)


def sentences(count: int) -> list[tuple[str, str]]:
    rng = random.Random(3)
    return [tuple(" ".join(rng.choices(WORDS, k=rng.randint(1, 12))) for _ in "ab") for _ in range(count)]  # type: ignore[misc]


def scored(name: str, answers: list[Answer | str], examples: list[Example]) -> Measured:
    given = [Answer(answer) if isinstance(answer, str) else answer for answer in answers]
    return measure(name, find_metric(name), given, examples)


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


def test_rouge_by_hand() -> None:
    # cat the mat sat / the cat sat on the mat: 4 of 4 and 4 of 6 words; pairs: "the mat" of 3 and of 5
    # longest common subsequence: cat the mat; precision 3/4, recall 3/6
    wanted = example("the cat sat on the mat")
    assert rouge_1("cat the mat sat", wanted) == pytest.approx(2 * 1 * (4 / 6) / (1 + 4 / 6))
    assert rouge_2("cat the mat sat", wanted) == pytest.approx(2 / (3 + 5))
    assert rouge_l("cat the mat sat", wanted) == pytest.approx(0.6)
    assert rouge_l("weeks", example("week")) == 0.0  # no stemming


def test_chrf_by_hand() -> None:
    # characters: 1 of 2 match; pairs: 0 of 1; longer ones do not exist: precision = recall = 1/4
    assert chrf("ab", example("ac")) == pytest.approx(0.25)
    assert chrf("six weeks", example("six weeks")) == pytest.approx(1.0)
    assert chrf("", example("six weeks")) == 0.0


def test_bleu_by_hand() -> None:
    # words 5 of 5, pairs 3 of 4, threes 2 of 3, fours 1 of 2; 5 words for 6: brevity exp(1 - 6/5)
    answers: list[Answer | str] = ["a b c d f"]
    found = scored("bleu", answers, [example("a b c d e f")]).value
    assert found == pytest.approx(exp(-0.2) * (1 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert scored("bleu", ["six weeks"], [example("six weeks")]).value == 0  # no four words in a row to share


def test_meteor_by_hand() -> None:
    # cat sat match exactly, mats by its stem: 3 of 3 and 3 of 4 words, in two stretches (cat sat | mat)
    mean = 1 * 0.75 / (0.9 * 1 + 0.1 * 0.75)
    assert meteor("cat sat mats", example("cat sat on mat")) == pytest.approx(mean * (1 - 0.5 * (2 / 3) ** 3))
    assert meteor("six weeks", example("six weeks")) == pytest.approx(1 - 0.5 * (1 / 2) ** 3)
    assert meteor("", example("six weeks")) == meteor("two", example("six weeks")) == 0.0


def test_the_best_reference_counts() -> None:
    several = example("forty two", "42", "about forty")
    for name in sorted(AGREEMENT - {"bleu", "rouge_2", "meteor"}):  # those need two words, or more, for a full score
        assert scored(name, ["42"], [several]).value == pytest.approx(1.0), name
        assert scored(name, ["42"], [example("forty two")]).value < 1.0, name


def test_parity_with_rouge_score_and_sacrebleu() -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for prediction, answer in sentences(200):
        expected = scorer.score(answer, prediction)
        for kind, metric in (("rouge1", rouge_1), ("rouge2", rouge_2), ("rougeL", rouge_l)):
            assert metric(prediction, example(answer)) == pytest.approx(expected[kind].fmeasure)
        # without articles and punctuation, SQuAD's F1 is ROUGE-1's F-measure
        assert token_f1(prediction, example(answer)) == pytest.approx(expected["rouge1"].fmeasure)
        assert chrf(prediction, example(answer)) == pytest.approx(
            sacrebleu.sentence_chrf(prediction, [answer]).score / 100
        )


def test_parity_of_corpus_bleu_with_sacrebleu() -> None:
    pairs = sentences(200)
    found = scored("bleu", [a for a, _ in pairs], [example(b) for _, b in pairs])
    assert found.value == pytest.approx(
        sacrebleu.corpus_bleu([a for a, _ in pairs], [[b for _, b in pairs]]).score / 100
    )


class Stems:
    def stem(self, word: str) -> str:
        return stem(word)


class NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        return []


def test_parity_of_meteor_with_nltk() -> None:
    for prediction, answer in sentences(200):
        expected = single_meteor_score(
            answer.split(), prediction.split(), stemmer=Stems(), wordnet=NoSynonyms(), alpha=0.9, beta=3.0, gamma=0.5
        )
        assert meteor(prediction, example(answer)) == pytest.approx(expected), (prediction, answer)


def test_likelihoods_by_hand() -> None:
    answers = [Answer("x", 2.0, 2), Answer("x", 6.0, 3), Answer("no model wrote this")]
    examples = [example("four"), example("é"), example("six")]  # 4 bytes, 2 bytes
    nats: list[Answer | str] = list(answers)
    assert scored("loss", nats, examples).value == pytest.approx(8 / 5)
    assert scored("perplexity", nats, examples).value == pytest.approx(exp(8 / 5))
    assert scored("bits_per_byte", nats, examples).value == pytest.approx(8 / log(2) / 6)
    assert scored("loss", nats, examples).n == 2


def test_classes_by_hand_and_as_scikit_learn_has_them() -> None:
    rng = np.random.default_rng(5)
    names = ["no", "yes", "maybe"]
    shares = rng.dirichlet((1, 1, 1), 300)
    wanted = rng.choice(names, 300)
    given = [Answer(names[int(row.argmax())], probabilities=dict(zip(names, row, strict=True))) for row in shares]
    answers: list[Answer | str] = list(given)
    examples = [labelled(str(name)) for name in wanted]
    texts = [answer.text for answer in given]
    assert scored("accuracy", answers, examples).value == pytest.approx(reference.accuracy_score(wanted, texts))
    assert scored("macro_f1", answers, examples).value == pytest.approx(
        reference.f1_score(wanted, texts, average="macro")
    )
    squared = np.mean(
        [((row - (np.array(names) == name)) ** 2).sum() for row, name in zip(shares, wanted, strict=True)]
    )
    assert scored("brier", answers, examples).value == pytest.approx(squared)
    # two sure ones, one wrong, in one bin; one in another: |2 x 0.95 - 1| and |0.6 - 1|, over three
    three: list[Answer | str] = [
        Answer("a", probabilities={"a": 0.95, "b": 0.05}),
        Answer("a", probabilities={"a": 0.95, "b": 0.05}),
        Answer("b", probabilities={"a": 0.4, "b": 0.6}),
    ]
    truth = [labelled("a"), labelled("b"), labelled("b")]
    assert scored("calibration_error", three, truth).value == pytest.approx((0.9 + 0.4) / 3)
    assert scored("macro_f1", three, truth).value == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_calibration_error_is_the_one_that_training_reports() -> None:
    import torch

    from tinyforge.models.calibrate import expected_calibration_error

    shares = np.random.default_rng(2).dirichlet((1, 1, 1), 200)
    classes = np.random.default_rng(3).integers(3, size=200)
    answers: list[Answer | str] = [
        Answer(str(row.argmax()), probabilities={str(i): p for i, p in enumerate(row)}) for row in shares
    ]
    expected = expected_calibration_error(torch.tensor(shares), torch.tensor(classes))
    assert scored("calibration_error", answers, [labelled(str(c)) for c in classes]).value == pytest.approx(expected)


def test_diversity_by_hand() -> None:
    answers: list[Answer | str] = ["a b a", "a c"]  # words a b c of five; pairs ab ba ac of three
    examples = [example("x"), example("y")]
    assert scored("distinct_1", answers, examples).value == pytest.approx(3 / 5)
    assert scored("distinct_2", answers, examples).value == pytest.approx(3 / 3)
    # stretches of four: abcd bcda cdab dabc abcd, of which one comes again
    assert repetition("a b c d a b c d", example("x")) == pytest.approx(1 / 5)
    assert repetition("a b", example("x")) == 0.0
    assert length_ratio("one two three", example("one two")) == pytest.approx(1.5)


def hit(text: str) -> Hit:
    return Hit(Span("d", 0, len(text)), text, "d.md", ("Loans",), 1.0, 1.0)


def test_groundedness_by_hand() -> None:
    passage = hit("A loan lasts seven days. Members pay a yearly fee of 40 dollars.")
    answers: list[Answer | str] = [
        Answer("A loan lasts seven days. Members pay a yearly fee of 90 dollars.", hits=(passage,)),
        Answer("A loan lasts seven days.", hits=(passage,)),
        Answer("A loan lasts seven days."),  # nothing was read
        Answer(NOT_FOUND, hits=(passage,)),  # nothing was claimed
    ]
    found = scored("groundedness", answers, [example("x")] * 4)
    assert found.n == 2 and found.value == pytest.approx((0.5 + 1) / 2)


def test_context_use_by_hand() -> None:
    answers: list[Answer | str] = [Answer("six weeks", swapped="six weeks"), Answer("six weeks", swapped="two days")]
    assert scored("context_use", answers, [example("x")] * 2).value == pytest.approx(0.5)


def test_refusals_by_hand() -> None:
    unanswerable = example(NOT_FOUND)
    texts: list[Answer | str] = [NOT_FOUND, "I don't know.", "Six weeks.", "The documents do not mention it."]
    examples = [unanswerable, example("six weeks"), unanswerable, unanswerable]
    # declined: 3, of which 2 rightly; unanswerable: 3
    assert scored("refusal_f1", texts, examples).value == pytest.approx(2 * 2 / (3 + 3))
    assert np.isnan(scored("refusal_f1", ["x"], [example("y")]).value)
    assert not declines("Members do not know the door code, so ask at the desk. It is open until six.")


def test_speed_by_hand() -> None:
    answers: list[Answer | str] = [Answer("x", seconds=0.5, written=10), Answer("x", seconds=1.5, written=10), "quoted"]
    assert scored("tokens_per_second", answers, [example("x")] * 3).value == pytest.approx(10)
    assert scored("seconds_per_answer", answers, [example("x")] * 3).value == pytest.approx(1)


def test_similarity_and_coherence() -> None:
    examples = [example("A loan lasts seven days.")] * 3
    found = scored("similarity", ["A loan lasts seven days.", "You may keep it for a week.", ""], examples).rows()
    assert found[0] == pytest.approx(1, abs=1e-5) and found[2] == 0 and 0.1 < found[1] < 0.9
    texts: list[Answer | str] = ["Cats purr. Cats meow.", "Cats purr. The tax is due in May.", "One sentence."]
    near, far, alone = scored("coherence", texts, examples).rows()
    assert near > far + 0.2 and np.isnan(alone)


def test_declining_what_has_an_answer_scores_nothing() -> None:
    declined = [Answer("six weeks", declined=True)]
    for name in sorted(AGREEMENT):
        assert measure(name, find_metric(name), declined, [example("six weeks")]).value == 0, name
    right = [Answer(NOT_FOUND, declined=True)]
    assert measure("exact_match", exact_match, right, [example(NOT_FOUND)]).value == 1


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="accuracy, bits_per_byte, bleu, brier"):
        find_metric("bleurt")


def test_every_name_leads_to_a_metric() -> None:
    for name in METRICS:
        assert callable(find_metric(name)) or isinstance(find_metric(name), Pooled)


# --- a metric that fails ---------------------------------------------------------------------------------------------


def fails_on_b(prediction: str, example: Example) -> float:
    if example.id == "b":
        raise KeyError("no tone")
    return len(prediction)


def test_a_metric_that_raises_marks_the_row_and_finishes() -> None:
    failures: list[Failure] = []
    examples = [example("x", id=name) for name in "abc"]
    found = measure("politeness", fails_on_b, [Answer("12"), Answer("3"), Answer("4567")], examples, failures)
    assert failures == [Failure("politeness", "b", "KeyError: 'no tone'")]
    assert found.value == pytest.approx((2 + 4) / 2)
    assert found.rows()[[0, 2]].tolist() == [2, 4] and np.isnan(found.rows()[1])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None])
def test_what_is_no_finite_number_marks_the_row(value: Any) -> None:
    failures: list[Failure] = []
    found = measure("own", lambda prediction, example: value, [Answer("x")], [example("x")], failures)
    assert found.n == 0 and "not a finite number" in failures[0].error


def test_a_whole_set_metric_that_raises_marks_the_row_too() -> None:
    failures: list[Failure] = []
    answers = [Answer("x", 1.0, 1), Answer("x", float("nan"), 1), Answer("x", 3.0, 1)]
    examples = [example("x", id=name) for name in "abc"]
    found = measure("perplexity", find_metric("perplexity"), answers, examples, failures)
    assert [(f.metric, f.question) for f in failures] == [("perplexity", "b")]
    assert found.value == pytest.approx(exp(2)) and found.n == 2


# --- your own --------------------------------------------------------------------------------------------------------


def test_a_function_in_a_file_is_a_metric(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def thanks(prediction, example):\n    return 'thank' in prediction.lower()\n")
    found = find_metrics(["token_f1", f"{path}:thanks"])
    assert list(found) == ["token_f1", "thanks"]
    assert measure("thanks", found["thanks"], [Answer("Thanks!"), Answer("no")], [example("x")] * 2).value == 0.5


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def a(x, y): return 1\n", "b", "has no function 'b'. It has: a."),
        ("def a(x): return 1\n", "a", r"a\(x\) cannot be called with two arguments"),
        ("def exact_match(x, y): return 1\n", "exact_match", "is the name of another metric"),
        ("x = 1\nimport nothing_like_it\n", "a", r"mine.py:2: ModuleNotFoundError"),
        ("x = (\n", "a", r"mine.py:1: SyntaxError"),
        ("", "", "names no function"),
    ],
)
def test_a_file_that_holds_no_metric_is_named_with_its_line(tmp_path: Path, text: str, name: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        find_metrics([f"{path}:{name}"])
    with pytest.raises(InputError, match="no such file"):
        find_metrics([f"{tmp_path / 'absent.py'}:a"])


def test_a_file_is_not_run_by_a_name_alone(tmp_path: Path) -> None:
    """Only find_metrics, for what was typed, runs files: a name in a recipe or a run is looked up."""
    (tmp_path / "mine.py").write_text("raise SystemExit(9)\n")
    with pytest.raises(InputError, match="unknown metric"):
        find_metric(f"{tmp_path / 'mine.py'}:a")


def test_a_recipe_cannot_name_a_file_and_the_command_line_can(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 1\nevaluate:\n  metrics: [chrf, mine.py:a]\n")
    with pytest.raises(InputError, match=r"recipe.yaml:3: a recipe cannot name a metric in a file"):
        load_config(recipe)
    recipe.write_text("evaluate:\n  metrics: [bleu]\n")
    assert load_config(recipe).evaluate.metrics == ["bleu"]
    assert load_config(None, ['evaluate.metrics=["mine.py:a"]']).evaluate.metrics == ["mine.py:a"]


def test_importing_the_room_is_light() -> None:
    code = (
        "import sys; from tinyforge.evaluate import metrics, compare, verdict, report, table, answers, leaks\n"
        "heavy = {'torch', 'transformers', 'nltk', 'sacrebleu', 'rouge_score', 'matplotlib', 'rich', 'rensa'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from tinyforge.errors import InputError
from tinyforge.evaluate import bootstrap
from tinyforge.evaluate.bootstrap import cluster_sums, expanded_tail, resample
from tinyforge.evaluate.compare import (
    Answer,
    difference_table,
    fact_clusters,
    mean_scores,
    paired_difference,
    plain,
    recall_at,
    score_table,
)
from tinyforge.records import Example, Hit, Message, Span


def question(number: int, fact: str, answer: str = "six weeks", evidence: tuple[Span, ...] = ()) -> Example:
    messages = (Message("user", "How long?"), Message("assistant", answer))
    return Example(f"q{number}", messages, evidence, fact=fact, split="wordings")


def hit(start: int, end: int, document: str = "d") -> Hit:
    return Hit(Span(document, start, end), "", "", (), 1.0, 1.0)


FOUR = [question(0, "a"), question(1, "a"), question(2, "b"), question(3, "c")]


def test_cluster_sums_by_hand() -> None:
    columns = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])
    assert cluster_sums(columns, ["b", "a", "b", "c"]).tolist() == [[4, 40], [2, 20], [4, 40]]


def test_resampling_draws_whole_clusters() -> None:
    sums, sizes = np.array([[3.0], [0.0], [2.0]]), np.array([[3.0], [1.0], [2.0]])
    drawn = np.random.default_rng(7).integers(3, size=(50, 3))
    by_hand = [sums[row, 0].sum() / sizes[row, 0].sum() for row in drawn]
    assert resample(sums, sizes, resamples=50, seed=7)[:, 0] == pytest.approx(by_hand)


def test_blocks_do_not_change_the_draws() -> None:
    rng = np.random.default_rng(0)
    sums, sizes = rng.random((11, 3)), np.ones((11, 3))
    whole = resample(sums, sizes, resamples=100, seed=3)
    assert resample(sums, sizes, resamples=100, seed=3, cells=25) == pytest.approx(whole)
    assert not np.allclose(resample(sums, sizes, resamples=100, seed=4), whole)


def test_student_quantiles() -> None:
    # upper 2.5% points of Student's t from the printed tables
    for freedom, expected in ((4, 2.776), (9, 2.262), (30, 2.042), (1000, 1.962)):
        assert bootstrap.student_quantile(freedom) == pytest.approx(expected, abs=0.01)
    assert expanded_tail(10) < expanded_tail(100) < 0.025
    with pytest.raises(ValueError, match="two clusters"):
        expanded_tail(1)


def test_score_table_by_hand() -> None:
    texts = ["six weeks", "six days", "two days", "Six weeks."]
    quote = [Answer(text) for text in texts]
    model = [Answer(text, nll, n) for text, nll, n in zip(texts, (2.0, 1.0, 9.0, 3.0), (2, 1, 3, 4), strict=True)]
    table = score_table(FOUR, {"quote": quote, "tuned": model}, ("exact_match", "token_f1"), resamples=200, seed=0)
    assert table["quote"]["exact_match"].value == pytest.approx(2 / 4)
    assert table["quote"]["token_f1"].value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    assert table["tuned"]["token_f1"] == table["quote"]["token_f1"]
    assert table["tuned"]["token_f1"].n == 4
    assert "perplexity" not in table["quote"]
    weighted, mean_of_means = exp(15 / 10), exp((1 + 1 + 3 + 0.75) / 4)
    assert table["tuned"]["perplexity"].value == pytest.approx(weighted)
    assert weighted != pytest.approx(mean_of_means, rel=0.01)
    low, high = table["tuned"]["perplexity"].low, table["tuned"]["perplexity"].high
    assert exp(0.75) <= low < weighted < high <= exp(3)


def test_declined_answers_score_nothing_and_are_counted() -> None:
    answers = [Answer("six weeks", declined=True), *[Answer("six weeks")] * 3]
    scores = score_table(FOUR, {"tuned": answers}, ("exact_match",), resamples=200, seed=0)["tuned"]
    assert scores["exact_match"].value == pytest.approx(0.75)
    assert scores["declined"].value == pytest.approx(0.25)


def test_perplexity_says_how_many_questions_it_is_over() -> None:
    answers = [Answer("x", 1.0, 1), Answer("x", 1.0, 1), Answer("x", 1.0, 1), Answer("x")]
    assert score_table(FOUR, {"tuned": answers}, ("exact_match",), resamples=200, seed=0)["tuned"]["perplexity"].n == 3
    broken, failures = [Answer("x", float("nan"), 1), *answers[1:]], []
    table = score_table(FOUR, {"tuned": broken}, ("exact_match",), resamples=200, seed=0, failures=failures)
    assert table["tuned"]["perplexity"].n == 2
    assert [(f.metric, f.question) for f in failures] == [("perplexity", "q0")]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="'wordings': 2 questions about 1 facts"):
        fact_clusters(FOUR[:2])
    assert fact_clusters([question(0, ""), question(1, "")]) == ["q0", "q1"]
    with pytest.raises(ValueError, match="3 answers to 4 questions"):
        score_table(FOUR, {"tuned": [Answer("x")] * 3}, resamples=200, seed=0)


def _equal_models(rng: np.random.Generator, facts: int, wordings: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Two models of the same skill: each knows half of the facts, and its answers to one fact go together."""
    ids = np.repeat(np.arange(facts), wordings)
    known = rng.random((2, facts)) < 0.5
    values = np.where(known[:, ids], 0.9, 0.1) + rng.normal(0, 0.1, (2, len(ids)))
    return values[0], values[1], ids.tolist()


def _coverage(simulations: int, clustered: bool) -> float:
    rng, covered = np.random.default_rng(11), 0
    for number in range(simulations):
        a, b, facts = _equal_models(rng, 30, 4)
        clusters = facts if clustered else list(range(len(facts)))
        difference = paired_difference(a, b, clusters, resamples=300, seed=number)
        covered += difference.low <= 0 <= difference.high
    return covered / simulations


def test_intervals_of_equal_models_cover_zero_about_95_times_in_100() -> None:
    assert 0.91 <= _coverage(400, clustered=True) <= 0.985


def test_control_questions_taken_as_independent_lose_the_coverage() -> None:
    assert _coverage(400, clustered=False) < 0.85


def test_control_the_plain_percentile_interval_is_too_narrow_for_few_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(8.0)[:, None]
    wide = mean_scores(values, list(range(8)), resamples=4000, seed=0)[0]
    monkeypatch.setattr(bootstrap, "expanded_tail", lambda clusters: 0.025)
    narrow = mean_scores(values, list(range(8)), resamples=4000, seed=0)[0]
    student = 2 * 2.365 * values.std(ddof=1) / 8**0.5
    assert wide.high - wide.low == pytest.approx(student, rel=0.08)
    assert narrow.high - narrow.low < 0.85 * student


def test_pairing_removes_what_makes_a_question_hard_for_both() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(40)
    a, b = hard + 0.05 + rng.normal(0, 0.02, 40), hard
    ids = list(range(40))
    together = paired_difference(a, b, ids, resamples=500, seed=0)
    shuffled = paired_difference(a, rng.permutation(b), ids, resamples=500, seed=0)
    assert 0.03 < together.low < together.value < together.high < 0.07
    assert shuffled.low < 0 < shuffled.high
    with pytest.raises(ValueError, match="not paired"):
        paired_difference(a, b[:3], ids, resamples=500, seed=0)


def test_difference_table_agrees_with_the_paired_difference() -> None:
    other = [question(number, f"z{number}", "two days") for number in range(3)]
    good, bad = [Answer("six weeks")] * 4, [Answer(text) for text in ("six", "x", "six weeks", "x")]
    examples = {"wordings": FOUR, "documents": other}
    answers = {
        "wordings": {"base": bad, "tuned": good},
        "documents": {"base": [Answer("two")] * 3, "tuned": [Answer("x")] * 3},
    }
    table = difference_table(examples, answers, resamples=300, seed=5)
    gain = np.array([1 - 2 / 3, 1.0, 0.0, 1.0])
    expected = paired_difference(gain, np.zeros(4), fact_clusters(FOUR), resamples=300, seed=(5, 0))
    found = table["wordings"]["tuned"]["base"]
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    back = table["wordings"]["base"]["tuned"]
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert table["both"]["tuned"]["base"].value == pytest.approx((gain.mean() - 2 / 3) / 2)
    assert table["both"]["tuned"]["base"].n == 7


def test_recall_counts_only_passages_that_overlap_the_evidence() -> None:
    examples = [question(number, f"f{number}", evidence=(Span("d", 100, 120),)) for number in range(4)]
    hits = [
        [hit(110, 300)],  # carries the evidence
        [hit(0, 50), hit(90, 101)],  # carries it second
        [hit(120, 400)],  # the same section, right after the evidence
        [hit(100, 120, "another")],
    ]
    assert recall_at(hits, examples, 1, resamples=200, seed=0).value == pytest.approx(0.25)
    assert recall_at(hits, examples, 3, resamples=200, seed=0).value == pytest.approx(0.5)
    without = [*examples, question(9, "f9")]
    assert recall_at([*hits, []], without, 3, resamples=200, seed=0).n == 4
    with pytest.raises(ValueError, match="no question carries evidence"):
        recall_at([[]], [question(9, "f9")], 3, resamples=200, seed=0)


def test_plain_scores_are_json() -> None:
    table = score_table(FOUR, {"tuned": [Answer("six weeks")] * 4}, ("exact_match",), resamples=200, seed=0)
    assert plain(table)["tuned"]["exact_match"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tinyforge.errors import InputError
from tinyforge.evaluate.bootstrap import cluster_sums
from tinyforge.evaluate.compare import paired_difference
from tinyforge.evaluate.contest import contest
from tinyforge.evaluate.metrics import Answer
from tinyforge.evaluate.significance import detectable, holm, mcnemar, sign_flip
from tinyforge.evaluate.standing import labels, lines, pair_line, regression_lines, shortened
from tinyforge.records import Example, Message


def questions(facts: int, wordings: int = 1) -> list[Example]:
    return [
        Example(
            f"q{f}.{w}",
            (Message("user", f"What is thing {f}, in wording {w}?"), Message("assistant", f"name{f}")),
            fact=f"f{f}",
            topic=f"topic {f % 4}",
            difficulty="easy" if f % 2 else "hard",
            metadata={"source": f"{f % 3}.md"},
        )
        for f in range(facts)
        for w in range(wordings)
    ]


def knowing(examples: list[Example], known: np.ndarray) -> list[Answer]:
    return [Answer(example.answer if knows else "unknown") for example, knows in zip(examples, known, strict=True)]


def run(examples: list[Example], **answers: list[Answer]) -> dict[str, Any]:
    return contest(examples, answers, ("exact_match", "token_f1", "bleu"), "token_f1", resamples=500, seed=1)


# --- the tests, by hand and against scipy ----------------------------------------------------------------------------


def test_mcnemar_by_hand_and_as_scipy_has_it() -> None:
    a, b = np.array([1.0] * 9 + [0.0] * 1 + [1.0] * 5), np.array([0.0] * 9 + [1.0] * 1 + [1.0] * 5)
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (9, 1)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)
    for only_a in range(7):
        for only_b in range(1, 7):
            wide = np.array([1.0] * only_a + [0.0] * only_b)
            expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
            assert mcnemar(wide, 1 - wide).p == pytest.approx(expected)
    assert mcnemar(a, a).p == 1


def test_holm_by_hand() -> None:
    # 0.01 x 3; 0.02 x 2 = 0.04; the last is at least as large as the one before it
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([]) == []


def test_sign_flips_are_near_the_t_test_and_flip_whole_facts() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.3, 1, 60)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip(differences, range(60), resamples=4000, seed=0) == pytest.approx(expected, abs=0.02)
    # one fact in eighty wordings is one thing seen, not eighty
    repeated = np.ones(80)
    assert sign_flip(repeated, ["f"] * 80, resamples=500, seed=0) == 1
    assert sign_flip(repeated, range(80), resamples=500, seed=0) < 0.01
    assert sign_flip(np.zeros(5), range(5), resamples=500, seed=0) == 1


def test_a_detectable_difference_is_seen_in_about_four_of_five_tries() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1, (400, 50))
    effect = detectable(noise[0], np.zeros(50), range(50))
    by_hand = (stats.t.ppf(0.975, 49) + stats.t.ppf(0.8, 49)) * noise[0].std(ddof=1) / 50**0.5
    assert effect == pytest.approx(by_hand, rel=1e-3)
    typical = (stats.t.ppf(0.975, 49) + stats.t.ppf(0.8, 49)) / 50**0.5
    seen = [stats.ttest_1samp(row + typical, 0).pvalue < 0.05 for row in noise]
    assert 0.74 < np.mean(seen) < 0.86
    same = rng.random(50)
    assert (detectable(same, same, range(50)) or 0) > 0  # the two never differ: what unpaired means could show
    assert detectable(np.ones(9), np.ones(9), range(9)) is None


def test_intervals_of_equal_models_cover_zero_in_95_of_100_comparisons() -> None:
    rng, covered = np.random.default_rng(17), 0
    clusters = [f for f in range(60) for _ in range(3)]
    for number in range(1000):
        known = rng.random((2, 60)) < rng.uniform(0.3, 0.7)
        scores = np.where(known, 0.9, 0.1).repeat(3, axis=1) + rng.normal(0, 0.1, (2, 180))
        change = paired_difference(scores[1], scores[0], clusters, resamples=400, seed=number)
        covered += change.low <= 0 <= change.high
    assert 0.93 <= covered / 1000 <= 0.97


# --- contests --------------------------------------------------------------------------------------------------------


def test_a_contest_by_hand() -> None:
    examples = questions(20)
    first, second = np.arange(20) < 8, (np.arange(20) >= 6) & (np.arange(20) < 19)
    found = run(examples, a=knowing(examples, first), b=knowing(examples, second))
    assert found["scores"]["a"]["exact_match"]["value"] == pytest.approx(0.4)
    (pair,) = found["pairs"]
    change = pair["differences"]["token_f1"]
    assert change["value"] == pytest.approx(13 / 20 - 8 / 20)
    paired = paired_difference(second * 1.0, first * 1.0, [e.fact for e in examples], resamples=500, seed=1)
    assert (change["low"], change["high"]) == pytest.approx((paired.low, paired.high))
    assert (pair["mcnemar"]["only_a"], pair["mcnemar"]["only_b"]) == (6, 11)
    assert len(pair["regressions"]) == 6 and pair["regressions"][0]["a_score"] == 1
    assert not pair["clear"] and "not measurably different from a" in pair_line(pair, "token_f1")
    assert "could go unseen" in pair_line(pair, "token_f1")


def test_equal_contenders_are_called_equal() -> None:
    examples = questions(12)
    given = knowing(examples, np.arange(12) < 6)
    (pair,) = run(examples, a=given, b=given)["pairs"]
    assert pair["p_holm"] == 1 and pair["regressions"] == []
    assert pair["differences"]["token_f1"] == {"value": 0, "low": 0, "high": 0, "n": 12}


def test_a_planted_regression_ranks_first() -> None:
    """b is better nearly everywhere, and has forgotten topic 2."""
    examples = questions(80, wordings=2)
    rng = np.random.default_rng(3)
    in_topic = np.array([e.topic == "topic 2" for e in examples])
    first = np.where(in_topic, True, rng.random(160) < 0.4)
    second = np.where(in_topic, False, rng.random(160) < 0.9)
    (pair,) = run(examples, a=knowing(examples, first), b=knowing(examples, second))["pairs"]
    worst = pair["groups"][0]
    assert (worst["by"], worst["name"], worst["value"], worst["clear"]) == ("topic", "topic 2", -1.0, True)
    assert all(group["value"] >= worst["value"] for group in pair["groups"])
    assert pair["differences"]["token_f1"]["value"] > 0  # the mean hides it
    told = list(regression_lines(pair))
    assert "lost against a on" in told[0] and "(1.00 → 0.00)" in told[1]


def test_long_names_are_shortened_as_far_as_they_stay_apart() -> None:
    names = ["/a/runs/good", "/a/runs/bad/", "/b/exports/q8/x.gguf", "/b/exports/q4/x.gguf", "tiny", "org/tiny2"]
    address = "http://127.0.0.1:8000/v1#m"
    found = labels([*names, address])
    assert list(found.values()) == ["good", "bad", "q8/x.gguf", "q4/x.gguf", "tiny", "tiny2", address]
    assert labels(["tiny", "/x/tiny"]) == {"tiny": "tiny", "/x/tiny": "/x/tiny"}
    examples = questions(4)
    given = knowing(examples, np.array([True, True, False, False]))
    result = {
        **run(examples, **{"/x/one": given, "/y/two": given}),
        "leaks": {},
        "unanswered": {"/x/one": [], "/y/two": []},
    }
    short, told = shortened(result)
    assert list(short["scores"]) == ["one", "two"] and told == ["one is /x/one", "two is /y/two"]
    assert [(pair["a"], pair["b"]) for pair in short["pairs"]] == [("one", "two")]
    assert list(result["scores"]) == ["/x/one", "/y/two"]  # what is kept has the whole names


def test_where_lower_is_better_losing_means_rising() -> None:
    examples = questions(10)
    a, b = ([Answer("x y z w x y z w" if i < n else "x") for i in range(10)] for n in (2, 7))
    found = contest(examples, {"a": a, "b": b}, ("repetition",), "repetition", resamples=300, seed=0)
    assert len(found["pairs"][0]["regressions"]) == 5
    assert found["pairs"][0]["regressions"][0]["b_score"] > 0


def test_many_looks_are_corrected() -> None:
    """Eight models that are all the same: one look finds a winner now and then, the corrected one hardly ever."""
    examples = questions(30)
    raw = corrected = 0
    for number in range(12):
        rng = np.random.default_rng(number)
        answers = {f"m{i}": knowing(examples, rng.random(30) < 0.5) for i in range(8)}
        pairs = contest(examples, answers, ("token_f1",), "token_f1", resamples=300, seed=number)["pairs"]
        raw += any(pair["p"] < 0.05 for pair in pairs)
        corrected += any(pair["clear"] for pair in pairs)
    assert raw >= 4 and corrected <= 1


def test_a_metric_of_your_own_stands_in_every_table_and_its_failed_rows_are_named() -> None:
    examples = questions(10)

    def politeness(prediction: str, example: Example) -> float:
        if example.id == "q3.0":
            raise RuntimeError("no tone")
        return float("please" in prediction)

    answers = {name: [Answer(f"{word} name{i}") for i in range(10)] for name, word in (("a", "take"), ("b", "please"))}
    found = contest(examples, answers, {"politeness": politeness}, "politeness", resamples=300, seed=0)
    assert found["scores"]["b"]["politeness"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 9}
    assert found["pairs"][0]["differences"]["politeness"]["value"] == 1
    assert found["failures"] == [{"metric": "politeness", "question": "q3.0", "error": "RuntimeError: no tone"}]
    told = list(lines({**found, "leaks": {}, "unanswered": {}}))
    assert any(
        "politeness could not score 1 answers (first on question q3.0: RuntimeError: no tone)" in line for line in told
    )


def test_what_cannot_decide_is_refused() -> None:
    examples = questions(4)
    given = knowing(examples, np.ones(4))
    for primary in ("bleu", "nothing"):
        with pytest.raises(InputError, match="cannot decide"):
            contest(examples, {"a": given, "b": given}, ("exact_match", "bleu"), primary, resamples=200, seed=0)
    with pytest.raises(InputError, match="1 questions about 1 facts"):
        run(examples[:1], a=given[:1], b=given[:1])


def test_cluster_sums_take_names_of_any_kind() -> None:
    assert cluster_sums(np.ones((3, 1)), [("a", 1), ("a", 1), "b"]).tolist() == [[2], [1]]

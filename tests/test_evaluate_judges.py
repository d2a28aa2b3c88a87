"""Judges that are scripted by the test: what is made of their replies, and what is reported of them; votes."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from scipy.stats import binomtest

from little import make_lively_base
from tinyforge.cli import main
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.evaluate.judges import grade, prefer, summarise_grades, summarise_pairs
from tinyforge.evaluate.metrics import Answer
from tinyforge.evaluate.votes import sentence, tally, wilson
from tinyforge.pipeline.evaluate import Heard
from tinyforge.pipeline.judge import judge_pairs
from tinyforge.pipeline.pairs import Pair, Pairs
from tinyforge.pipeline.vote import Shown, hold
from tinyforge.recipe import load_config
from tinyforge.records import Example, Message

QUESTION = "What is a loan?"


def shown_answers(messages: list[Message]) -> tuple[str, str]:
    found = re.search(r"Answer 1:\n(.*?)\n\nAnswer 2:\n(.*?)\n\nReply", messages[0].content, re.DOTALL)
    assert found is not None
    return found[1], found[2]


def by_length(messages: list[Message]) -> str:
    """Always prefers the longer answer; and says so around its JSON, as models do."""
    one, other = shown_answers(messages)
    winner = "tie" if len(one) == len(other) else "1" if len(one) > len(other) else "2"
    return f"Sure! {json.dumps({'reason': 'it is longer', 'winner': winner})} I hope this helps."


def first_always(messages: list[Message]) -> str:
    return '{"reason": "it came first", "winner": 1}'


def test_a_steady_judge_is_read_and_an_order_lover_is_found_out() -> None:
    steady = prefer(by_length, QUESTION, "a bring-back", "no")
    assert steady.outcome == "first" and steady.places == ("1", "2") and steady.reasons == ("it is longer",) * 2
    assert prefer(by_length, QUESTION, "no", "a bring-back").outcome == "second"
    assert prefer(by_length, QUESTION, "ab", "cd").outcome == "tie"
    swayed = prefer(first_always, QUESTION, "a", "b")
    assert swayed.outcome == "swayed" and swayed.places == ("1", "1")
    unread = prefer(lambda messages: "I cannot decide.", QUESTION, "a", "b")
    assert unread.outcome == "unreadable"
    loose = prefer(lambda messages: "reason: fine. Winner: 2", QUESTION, "a", "b")
    assert loose.places == ("2", "2") and loose.outcome == "swayed"
    summary = summarise_pairs([steady, swayed, swayed, unread])
    assert (summary["first"], summary["second"], summary["swayed"], summary["unreadable"]) == (1, 0, 2, 1)
    assert summary["self_agreement"]["value"] == pytest.approx(1 / 3)
    assert summary["first_place"]["value"] == pytest.approx(5 / 6)  # 1, 2 and four times 1
    assert summary["win_rate"]["n"] == 1


def test_the_reference_is_shown_only_where_there_is_one() -> None:
    seen = []

    def listen(messages: list[Message]) -> str:
        seen.append(messages[0].content)
        return ""

    prefer(listen, QUESTION, "a", "b", "an agreement")
    prefer(listen, QUESTION, "a", "b")
    assert "Reference, which is right:\nan agreement" in seen[0] and "Reference" not in seen[2]


def test_a_rubric_is_asked_twice_with_its_criteria_turned_around() -> None:
    orders = []

    def steady(messages: list[Message]) -> str:
        names = re.findall(r"^- (\w+):", messages[0].content, re.MULTILINE)
        orders.append(names)
        given = {name: {"reason": f"so {name}", "score": 3} for name in names}
        given[names[0]]["score"] = 5  # likes whatever is listed first
        return json.dumps(given)

    criteria = {"true": "it is", "short": "it is", "kind": "it is"}
    found = grade(steady, QUESTION, "a", criteria=criteria)
    assert orders == [["true", "short", "kind"], ["kind", "short", "true"]]
    assert found["true"].scores == (5, 3) and found["kind"].scores == (3, 5) and found["short"].scores == (3, 3)
    summary = summarise_grades([found])
    assert summary["true"] == {
        "mean": 4.0,
        "n": 1,
        "unreadable": 0,
        "self_agreement": {"value": 0.0, "low": pytest.approx(0.0), "high": pytest.approx(0.7934, abs=1e-3), "n": 1},
    }
    odd = grade(lambda messages: '{"true": {"score": 9}, "short": {"score": "3"}}', QUESTION, "a", criteria=criteria)
    assert all(one.scores == (None, None) for one in odd.values())
    assert summarise_grades([odd])["short"]["mean"] is None and summarise_grades([odd])["short"]["unreadable"] == 1


@pytest.mark.parametrize(("wins", "of"), [(0, 5), (3, 10), (5, 10), (47, 50), (1, 1)])
def test_wilson_is_that_of_the_reference_library(wins: int, of: int) -> None:
    wanted = binomtest(wins, of).proportion_ci(method="wilson")
    found = wilson(wins, of)
    assert (found.low, found.high) == (pytest.approx(wanted.low, abs=1e-9), pytest.approx(wanted.high, abs=1e-9))


def test_votes_are_counted_and_told() -> None:
    counted = tally(["first"] * 9 + ["second"] + ["tie"] * 2)
    assert counted["win_rate"]["value"] == 0.9 and counted["ties"] == 2
    assert sentence(counted, "A", "B").endswith("): A is preferred.")
    assert "too few, or too alike" in sentence(tally(["first"] * 3 + ["second"]), "A", "B")
    assert sentence(tally(["second"] * 9), "A", "B").endswith("B is preferred.")
    assert sentence(tally(["tie"]), "A", "B") == "No vote for either; 1 ties."
    with pytest.raises(ValueError, match="2 of 1"):
        wilson(2, 1)


def pairs(count: int = 8) -> Pairs:
    rows = []
    for i in range(count):
        asked = (Message("user", f"Question {i}?"), Message("assistant", f"right answer {i}"))
        second = "the same" if i == count - 1 else f"wrong thing {i}"
        first = "The same." if i == count - 1 else f"right answer {i}, I think"
        rows.append(Pair(Example(f"q{i}", asked, fact=f"f{i}"), Answer(first), Answer(second)))
    return Pairs(("good", "bad"), "k1 against k2", rows)


def test_a_judgement_has_scores_beside_it() -> None:
    def judge(messages: list[Message]) -> str:
        return by_length(messages) if "Compare two" in messages[0].content else '{"correct": {"score": 4}}'

    config = load_config(None, ["evaluate.resamples=300"])
    found = judge_pairs(judge, pairs(), Heard(), config)
    assert found["preference"]["first"] == 8 and found["preference"]["second"] == 0  # the longer ones
    assert found["beside"]["agreement"]["value"] == 1.0 and found["beside"]["difference"]["low"] > 0
    assert found["grades"]["good"]["correct"]["mean"] == 4.0 and found["grades"]["good"]["brief"]["n"] == 0
    assert found["rows"][0]["preference"]["reasons"] == ("it is longer", "it is longer")
    assert judge_pairs(judge, pairs(), Heard(), config) == found
    with pytest.raises(InputError, match="no question to judge"):
        judge_pairs(judge, Pairs(("a", "b"), "k", []), Heard(), Config())


def test_a_vote_is_blind_kept_and_continued(tmp_path: Path) -> None:
    seen: list[Shown] = []

    def choose(shown: Shown) -> str:
        seen.append(shown)
        if len(seen) == 4:
            return "stop"
        return "1" if shown.answers[0].startswith("right") else "2"

    found = hold(pairs(), tmp_path, 42, choose)
    assert (found["first"], found["open"], found["alike"]) == (3, 4, 1) and found["second"] == 0
    lines = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text().splitlines()]
    assert len(lines) == 3 and {line["vote"] for line in lines} == {"first"}
    assert not any("good" in str(one) or "bad" in str(one) for one in seen)  # no names
    with (tmp_path / "votes.jsonl").open("ab") as handle:
        handle.write(b'{"pair": "k1 aga')  # a kill cut this line off
    rest = hold(pairs(), tmp_path, 42, lambda shown: "tie" if shown.number == 5 else "2")
    assert rest["open"] == 0 and rest["ties"] == 1 and rest["first"] + rest["second"] == 6
    starts = [shown.answers[0].startswith("right") for shown in seen]
    assert len(seen) == 4 and (any(starts) or not all(starts))
    orders = {json.loads(line)["shown"][0] for line in (tmp_path / "votes.jsonl").read_text().splitlines()[:3]}
    whole = {hold(pairs(), tmp_path / str(seed), seed, lambda shown: "1")["first"] for seed in range(6)}
    assert orders <= {"first", "second"} and len(whole) > 1  # always choosing 1 is no way to win
    other = Pairs(("good", "bad"), "other", pairs().rows)
    assert hold(other, tmp_path, 42, lambda shown: "stop")["open"] == 7  # votes on other models do not count


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(make_lively_base(tmp_path_factory.mktemp("model"), seed=seed)) for seed in (0, 1)]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"question": "What is {i}?", "answer": "It is {i}."}}\n' for i in range(3)))
    return ["--data", str(rows), "--set", "evaluate.max_new_tokens=8", "--set", "evaluate.resamples=200"]


def test_a_vote_by_hand(
    models: list[str],
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nx\n=\n"))
    assert main(["vote", *models, "--out", str(tmp_path / "votes"), *options]) == 0
    said = capsys.readouterr()
    assert "1 are still open" in said.out and "1 ties" in said.out and "Type 1, 2" in said.err
    assert not any(name in said.err.partition("[1/")[2] for name in models)  # blind until the count
    assert main(["vote", models[0], models[0], *options]) == 2
    assert "is compared with itself" in capsys.readouterr().err


@pytest.mark.slow
def test_a_judge_on_this_machine(
    models: list[str], options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*models, "--by", models[0], "--out", str(tmp_path / "judged"), "--limit", "2"]
    assert main(["judge", *given, *options]) == 0
    said = capsys.readouterr()
    assert "It judged its own answers" in said.out and "Token F1" in said.out and "No vote for either" in said.out
    assert json.loads((tmp_path / "judged" / "judgement.json").read_text())["preference"]["unreadable"] == 2

"""Evaluations from the command line with tiny models: what is asked, kept, found again, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from tinyforge.cli import main
from tinyforge.evaluate.metrics import Answer
from tinyforge.pipeline.answering import Asking, Contender, Store, ask
from tinyforge.records import Example, Message

FACTS = [
    f"{tool} {place}" for tool in ("saw", "drill", "plane", "rasp") for place in ("north", "south", "east", "west")
]


def write_rows(path: Path, answers: list[str] | None = None, count: int = 16) -> Path:
    names = [fact.split()[1] for fact in FACTS] if answers is None else answers
    rows = [
        {"question": f"Where is the {fact.split()[0]} number {i}?", "answer": name}
        for i, (fact, name) in enumerate(list(zip(FACTS, names, strict=True))[:count])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def example(number: int) -> Example:
    return Example(f"q{number}", (Message("user", f"Question {number}?"), Message("assistant", f"answer {number}")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("little") / "base")


def evaluated(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main([*arguments, "--json", "--set", "evaluate.max_new_tokens=8", "--set", "evaluate.resamples=200"])
    return code, json.loads(capsys.readouterr().out)


# --- answers are kept ------------------------------------------------------------------------------------------------


def test_a_stopped_evaluation_goes_on_where_it_was(tmp_path: Path) -> None:
    asked: list[str] = []

    def respond(examples: Any, hits: Any) -> list[Answer]:
        if len(asked) >= 128:
            raise KeyboardInterrupt
        asked.extend(e.id for e in examples)
        return [Answer(e.id.upper(), 1.5, 2, seconds=0.1) for e in examples]

    examples = [example(i) for i in range(300)]
    contender = Contender("m", "m-1", lambda: respond)
    with pytest.raises(KeyboardInterrupt):
        ask(contender, examples, (), Asking(tmp_path))
    kept = tmp_path / "m-1.jsonl"
    kept.write_bytes(kept.read_bytes()[:-20])  # and the last line was cut off
    asked.clear()
    first = ask(contender, examples[:128], (), Asking(tmp_path))
    assert asked == ["q127"]
    assert [answer.text for answer in first] == [f"Q{i}" for i in range(128)] and first[0].nll == 1.5
    again = Asking(tmp_path)
    ask(Contender("m", "m-1", lambda: pytest.fail("nothing is left to ask")), examples[:128], (), again)
    assert again.reused == {"m": 128}
    other = Store(tmp_path / "m-2.jsonl")
    assert other.find("any", ()) is None


def test_progress_counts_up_and_says_how_long_it_will_take(tmp_path: Path) -> None:
    told: list[tuple[str, int, int, float]] = []
    asking = Asking(tmp_path, lambda *state: told.append(state))
    ask(Contender("m", "k", lambda: lambda e, h: [Answer("x")] * len(e)), [example(i) for i in range(200)], (), asking)
    assert [(name, done, total) for name, done, total, _ in told] == [("m", 128, 200), ("m", 200, 200)]
    assert told[0][3] > 0 and told[1][3] == 0


def test_swapped_passages_are_the_next_question_s(tmp_path: Path) -> None:
    def respond(examples: Any, hits: Any) -> list[Answer]:
        return [Answer(str(found)) for found in hits]

    examples = [example(i) for i in range(3)]
    answers = ask(
        Contender("m", "k", lambda: respond, "run"), examples, [("a",), ("b",), ("c",)], Asking(tmp_path, swap=True)
    )  # type: ignore[arg-type]
    assert [(a.text, a.swapped) for a in answers] == [("('a',)", "('b',)"), ("('b',)", "('c',)"), ("('c',)", "('a',)")]


def test_batched_likelihoods_are_those_of_each_row_alone(base: Path) -> None:
    from tinyforge.dataset.render import render
    from tinyforge.models.generate import Writer
    from tinyforge.models.resolve import load_model, load_tokenizer
    from tinyforge.pipeline.answering import likelihoods
    from tinyforge.train.loss import row_losses
    from tinyforge.train.objectives.base import pad_rows

    writer = Writer(load_model(base, "fp32"), load_tokenizer(base), 8)
    prompts = [[Message("user", "What is a loan? " * n)] for n in (1, 5, 2)]
    prompts.append([*prompts[0], Message("assistant", "An earlier answer."), Message("user", "And a fee?")])
    answers = ["seven days", "a yearly fee", "tools", "It is paid."]
    found = likelihoods(writer, prompts, answers)
    for prompt, answer, (nll, tokens) in zip(prompts, answers, found, strict=True):
        row = render([*prompt, Message("assistant", answer)], writer.tokenizer, last=True)
        batch = pad_rows([row], 0)
        (alone,), (count,) = row_losses(writer.model, batch.ids_BT, batch.labels_BT)
        assert (nll, tokens) == (pytest.approx(alone, rel=1e-4), count)
    assert (
        found[3][1] == len(writer.tokenizer("It is paid.")["input_ids"]) + 1
    )  # its own tokens and the stop, no others
    assert likelihoods(writer, [[Message("user", "x " * 2000)]], ["y"]) == [(None, None)]


# --- from the command line -------------------------------------------------------------------------------------------


def test_a_base_is_evaluated_and_its_answers_found_again(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out"
    arguments = ["evaluate", str(base), "--data", str(data), "--out", str(out)]
    code, first = evaluated(arguments, capsys)
    assert code == 0
    found = first["sets"]["rows.jsonl"]
    scores = found["scores"][str(base)]
    assert {"token_f1", "perplexity", "bits_per_byte", "similarity", "tokens_per_second"} <= set(scores)
    assert found["questions"] == 16 and found["leaks"] == {}
    assert json.loads((out / "evaluation.json").read_text()) == first
    _, second = evaluated(arguments, capsys)
    assert second["reused"] == {str(base): 16}
    assert second["sets"] == first["sets"]  # down to the speed, which is kept with the answers


def test_gates(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out"
    arguments = ["evaluate", str(base), "--data", str(data), "--out", str(out), "--set", "evaluate.max_new_tokens=8"]
    assert main([*arguments, "--fail-under", "token_f1=0.99"]) == 3
    assert "token_f1 of" in capsys.readouterr().err
    assert main([*arguments, "--fail-under", "token_f1=0"]) == 0
    assert main([*arguments, "--fail-under", "perplexity=1.5"]) == 3  # where lower is better, above fails
    assert "above 1.5" in capsys.readouterr().err
    assert main([*arguments, "--fail-under", "token_f1"]) == 2
    assert main([*arguments, "--fail-under", "token_f1=nan"]) == 2  # nothing is below it
    assert main([*arguments, "--fail-under", "nonsense=1"]) == 2
    assert "unknown metric 'nonsense'" in capsys.readouterr().err


def test_a_metric_in_a_file_that_fails_on_a_row(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, own = write_rows(tmp_path / "rows.jsonl"), tmp_path / "mine.py"
    own.write_text(
        "def brevity(prediction, example):\n    assert 'number 3?' not in example.question\n    return 1.0\n"
    )
    arguments = ["evaluate", str(base), "--data", str(data), "--out", str(tmp_path / "out")]
    code, found = evaluated([*arguments, "--metric", f"{own}:brevity", "--fail-under", "brevity=0.9"], capsys)
    result = found["sets"]["rows.jsonl"]
    assert code == 0 and result["scores"][str(base)]["brevity"]["n"] == 15
    assert [(f["metric"], f["error"]) for f in result["failures"]] == [("brevity", "AssertionError: ")]
    assert main([*arguments, "--metric", f"{own}:brevity"]) == 0
    shown = capsys.readouterr().out
    assert "brevity could not score 1 answers" in shown and "brevity  " in shown


def test_what_cannot_be_evaluated_says_why(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rows(tmp_path / "rows.jsonl")
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "Running text."}\n')
    for arguments, message in (
        (["evaluate", str(base)], "has no questions of its own"),
        (["evaluate", str(base), "--data", str(tmp_path / "absent.jsonl")], "no such file"),
        (["evaluate", str(base), "--data", str(text)], "holds running text"),
        (["evaluate", str(tmp_path / "nothing"), "--data", str(data)], "unknown base"),
        (["compare", str(base), "--data", str(data)], "two or more different contenders"),
        (["compare", str(base), str(base), "--data", str(data)], "two or more different contenders"),
        (["evaluate", str(base), "--data", str(data), "--out", str(tmp_path), "--limit", "4"], "already holds files"),
        (["evaluate", str(base), "--data", str(data), "--limit", "-1"], "--limit -1"),
    ):
        assert main(arguments) == 2, arguments
        assert message in capsys.readouterr().err


def test_an_overlong_question_is_marked_and_the_rest_answered(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_rows(tmp_path / "rows.jsonl", count=8)
    with data.open("a") as handle:
        handle.write(json.dumps({"question": "why " * 3000, "answer": "Because."}) + "\n")
    _, found = evaluated(["evaluate", str(base), "--data", str(data), "--out", str(tmp_path / "out")], capsys)
    result = found["sets"]["rows.jsonl"]
    assert result["questions"] == 9
    (marked,) = result["unanswered"][str(base)]
    assert "the question has" in marked["error"]


TRAIN = ["--set", "train.epochs=250", "--set", "train.learning_rate=0.005", "--set", "dataset.validation_split=0"]
TRAIN += ["--set", "train.guard=false", "--set", "train.precision=fp32", "--set", "train.threads=1", "--method", "full"]


@pytest.mark.slow
def test_a_model_tuned_on_shuffled_answers_is_worse_and_its_test_set_leaked(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [fact.split()[1] for fact in FACTS]
    right = write_rows(tmp_path / "right.jsonl", count=8)
    wrong = write_rows(tmp_path / "wrong.jsonl", names[1:] + names[:1], count=8)
    for data, name in ((right, "good"), (wrong, "bad")):
        assert main(["train", str(data), "--base", str(base), "--out", str(tmp_path / name), *TRAIN]) == 0
    good, bad = str(tmp_path / "good"), str(tmp_path / "bad")
    code, found = evaluated(["compare", good, bad, "--data", str(right), "--out", str(tmp_path / "out")], capsys)
    result = found["sets"]["right.jsonl"]
    (pair,) = result["pairs"]
    assert code == 0 and result["scores"][good]["exact_match"]["value"] > 0.9
    assert pair["clear"] and pair["differences"]["token_f1"]["high"] < 0
    assert pair["mcnemar"]["only_a"] > 5 and pair["regressions"]
    assert result["leaks"][good]["verdict"] == "leaked" and result["leaks"][good]["kinds"]["exact"] == 8
    main(
        [
            "compare",
            good,
            bad,
            "--data",
            str(right),
            "--out",
            str(tmp_path / "out"),
            "--set",
            "evaluate.max_new_tokens=8",
        ]
    )
    shown = capsys.readouterr().out
    assert "LEAKED: 8 of 8 questions have a twin among the 8 training rows of good" in shown
    assert "bad is worse than good" in shown and f"good is {good}\n" in shown
    _, own = evaluated(["evaluate", good, "--data", str(right), "--out", str(tmp_path / "own")], capsys)
    assert own["contenders"] == ["base", "few-shot", "tuned"]
    tuned = next(p for p in own["sets"]["right.jsonl"]["pairs"] if (p["a"], p["b"]) == ("base", "tuned"))
    assert tuned["differences"]["token_f1"]["low"] > 0
    assert main(["evaluate", good]) == 2
    assert "kept no rows out of its training" in capsys.readouterr().err


def test_a_classifier_gets_a_classifier_s_scores(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"text": f"{'good' if i % 3 else 'bad'} tool number {i}", "label": "yes" if i % 3 else "no"} for i in range(40)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = ["--set", "train.epochs=6", "--set", "train.learning_rate=0.003", "--set", "train.precision=fp32"]
    assert main(["train", str(data), "--base", str(base), "--out", str(tmp_path / "run"), *settings]) == 0
    code, found = evaluated(["evaluate", str(tmp_path / "run")], capsys)
    scores = found["sets"]["dev"]["scores"]
    assert code == 0 and list(scores) == ["majority", "tuned"]
    assert {"accuracy", "macro_f1", "brier", "calibration_error"} <= set(scores["tuned"])
    assert set(scores["majority"]) >= {"accuracy", "macro_f1"} and "brier" not in scores["majority"]
    assert found["sets"]["dev"]["primary"] == "accuracy"
    assert found["out"] == str(tmp_path / "run" / "evaluation")


def test_a_row_left_out_is_named_and_one_question_is_refused_before_it_is_asked(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "some.jsonl"
    data.write_text('{"question": "What is X?", "answer": "Y"}\n{"question": "What\n', encoding="utf-8")
    assert main(["evaluate", str(base), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "left out, not JSON: 1 (some.jsonl:2)" in said and "asking" not in said
    assert "'some.jsonl': 1 questions about 1 facts give no interval. Ask about two" in said
    data.write_text(data.read_text() + '{"question": "What is Z?", "answer": "W"}\n', encoding="utf-8")
    assert main(["evaluate", str(base), "--data", str(data), "--out", str(tmp_path / "out")]) == 0

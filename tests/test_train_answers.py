"""A teacher behind an address: its answers are learned, none is asked for twice, and nothing is spent unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from little import make_base
from teacher_server import Teacher
from test_pipeline_train import ANSWERS, QUESTIONS, predict, train, write
from tinyforge.cli import main

LEARNED = dict(zip(QUESTIONS, [f"It is {n} coins." for n in (9, 8, 7, 6, 5, 4, 3, 2)], strict=True))
BUDGET = "synthesize.teacher_requests=8"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", [{"input": q, "output": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)])


def by_heart(messages: list[dict[str, str]]) -> str:
    return LEARNED[messages[-1]["content"]]


def asked(teacher: Teacher, *more: str) -> list[str]:
    return ["train.objective=distill", f"train.teacher={teacher.url}", *more]


def test_the_answers_of_an_endpoint_are_learned(
    llama: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Teacher(by_heart, faults=["429", "500"]) as teacher:
        settings = asked(teacher, BUDGET, "train.epochs=150")
        summary = train(rows, tmp_path / "run", llama, *settings)
        assert summary["data"]["objective"] == "distill" and summary["objective"] == "sft"
        assert summary["answers"]["answers"] == summary["answers"]["calls"] == len(QUESTIONS)
        assert set(teacher.calls.values()) == {1} and not any("It costs" in prompt for prompt in teacher.prompts)
        found = [row["text"] for row in predict(tmp_path / "run", QUESTIONS, capsys)]
        assert found == [LEARNED[question] for question in QUESTIONS], "and not the answers of the rows"
        train(rows, tmp_path / "run", llama, *settings)
        assert sum(teacher.calls.values()) == len(QUESTIONS), "nothing is asked again"


def test_nothing_is_spent_without_a_budget_and_no_row_is_lost_in_silence(
    llama: Path, rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def some(messages: list[dict[str, str]]) -> str:
        return "" if "saw" in messages[-1]["content"] else by_heart(messages)

    with Teacher(some) as teacher:
        train(rows, tmp_path / "run", llama, *asked(teacher), code=2)
        assert "may cost money. Set a budget" in capsys.readouterr().err and not teacher.calls
        train(rows, tmp_path / "run", llama, *asked(teacher, "synthesize.teacher_requests=3"), code=2)
        assert "leaves 5 of 8 rows without an answer" in capsys.readouterr().err
        given = [part for setting in asked(teacher, "train.threads=1") for part in ("--set", setting)]
        assert main(["plan", str(rows), "--base", str(llama), *given]) == 0
        assert sum(teacher.calls.values()) == 3, "a plan asks nothing"
        summary = train(rows, tmp_path / "run", llama, *asked(teacher, BUDGET, "train.max_steps=1"))
        assert sum(teacher.calls.values()) == len(QUESTIONS), "the three answers were kept"
        assert summary["answers"]["left_out"] == {"empty answer": 1} and summary["answers"]["answers"] == 7
        assert "1 left out: empty answer" in capsys.readouterr().err

"""The few-shot prompt: which examples it holds, and that it always leaves room for an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from evaluate_sample import sample_report
from little import make_base
from tinyforge.cli.build import show_result
from tinyforge.models.generate import Writer
from tinyforge.pipeline.variants import pick_shots, shots_for
from tinyforge.records import Example, Message


def example(fact: str, number: int = 0, **metadata: str) -> Example:
    messages = (Message("user", f"What is {fact}, {number}?"), Message("assistant", f"{fact} is {number}."))
    return Example(f"{fact}-{number}", messages, fact=fact, metadata=dict(metadata))


TRAIN = [example(f"f{i}", n) for i in range(8) for n in range(3)] + [example("read", 0, reading="passages")]


def test_shots_are_on_different_facts_and_the_same_for_a_seed() -> None:
    shots = pick_shots(TRAIN, 5, 42)
    assert len({s.fact for s in shots}) == 5 and "read" not in {s.fact for s in shots}
    assert shots == pick_shots(TRAIN, 5, 42) != pick_shots(TRAIN, 5, 43)
    assert len(pick_shots(TRAIN, 100, 42)) == 8


def test_the_fact_that_is_asked_is_never_among_its_shots() -> None:
    shots = pick_shots(TRAIN, 5, 42)
    for fact in {s.fact for s in shots}:
        given = shots_for(example(fact, 9), shots, 4)
        assert len(given) == 4 and not any(fact in question for question, _ in given)
    assert shots_for(example("elsewhere"), shots, 4) == [(s.question, s.answer) for s in shots[:4]]


def test_where_prompting_is_enough_the_next_step_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    report = sample_report()
    for verdict, choice, said in (
        ("Prompting is enough: so it is.", "quote", True),
        ("Prompting is better: so it is.", "few-shot", False),  # what chat opens with anyway
        ("Tuning helped: so it did.", "tuned", False),
    ):
        show_result({**report, "verdict": verdict, "choice": choice}, "my run")
        assert ("Prompt:  tinyforge chat 'my run' --variant few-shot" in capsys.readouterr().out) is said


def test_shots_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    make_base(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    writer = Writer(model, tokenizer, 16)
    shots = [(f"What is loan {i}?", "an agreement " * 40) for i in range(20)]
    messages, kept = writer.few_shot("What is a fee?", shots)
    assert 0 < kept < 20 and messages[-1].content == "What is a fee?" and len(messages) == 2 * kept + 1
    assert writer.prompt_length(messages) <= writer.context - 16
    longer = [*messages[:-1], Message("user", shots[kept][0]), Message("assistant", shots[kept][1]), messages[-1]]
    assert writer.prompt_length(longer) > writer.context - 16  # one more would not have fitted
    assert writer.few_shot("What is a fee?", []) == ([Message("user", "What is a fee?")], 0)

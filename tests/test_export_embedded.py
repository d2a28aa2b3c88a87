"""The embedded base says the same, word for word, as transformers runs it and as its exports do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tinyforge.dataset.prompts import closed_book, with_passages
from tinyforge.export.gguf_target import GGUF
from tinyforge.export.onnx import ONNX
from tinyforge.export.runners import TransformersRunner
from tinyforge.export.safetensors import SAFETENSORS
from tinyforge.export.source import open_source
from tinyforge.models.resolve import EMBEDDED, load_model, load_tokenizer
from tinyforge.records import Message

STEPS = 40
PASSAGE = (
    "Harbour Library > Membership",
    "A membership card costs 12 euros per year. Children under 14 join for free.",
)
PROMPTS: tuple[list[Message], ...] = (
    closed_book("What is a pull request?"),
    closed_book("Who may borrow £4.50 worth of naïve 東京 books?"),
    closed_book("How do I install it, step by step?"),
    with_passages("What does a membership card cost?", [PASSAGE]),
    with_passages("Who joins for free?", [PASSAGE, ("Fees", "A novel that is late costs 20 cents a day.")]),
    [*closed_book("What is HTML?"), Message("assistant", "A markup language."), *closed_book("And CSS?")],
)


def greedy(runner: TransformersRunner) -> list[list[int]]:
    return [[step.token for step in runner.write(runner.prompt_ids(p), STEPS)] for p in PROMPTS]


@pytest.fixture(scope="module")
def ours() -> TransformersRunner:
    return TransformersRunner(load_model(EMBEDDED["tiny"], "fp32").eval(), load_tokenizer(EMBEDDED["tiny"]))


@pytest.fixture(scope="module")
def expected(ours: TransformersRunner) -> Sequence[Sequence[int]]:
    found = greedy(ours)
    assert sum(map(len, found)) > 60 and len({tuple(answer) for answer in found}) >= 4
    return found


EXPORTS = {"safetensors": (SAFETENSORS, "fp32"), "gguf": (GGUF, "f32"), "onnx": (ONNX, "fp32")}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_writes_what_transformers_writes(
    name: str, ours: TransformersRunner, expected: Sequence[Sequence[int]], tmp_path: Path
) -> None:
    target, kind = EXPORTS[name]
    source = open_source("tiny")
    target.write(source, tmp_path, kind)
    runner: Any = target.open(source, tmp_path, kind)
    try:
        assert runner.stops() == ours.stops()
        assert [runner.prompt_ids(p) for p in PROMPTS] == [ours.prompt_ids(p) for p in PROMPTS]
        assert [[step.token for step in runner.write(ours.prompt_ids(p), STEPS)] for p in PROMPTS] == expected
    finally:
        runner.close()


def test_the_comparison_sees_a_wrong_weight(ours: TransformersRunner, expected: Sequence[Sequence[int]]) -> None:
    model = load_model(EMBEDDED["tiny"], "fp32").eval()
    with torch.no_grad():
        model.get_parameter("model.layers.3.mlp.down_proj.weight").mul_(2.0)
    assert greedy(TransformersRunner(model, ours.tokenizer)) != expected

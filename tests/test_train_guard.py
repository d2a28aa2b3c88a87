"""What a fine-tuning does to general text: measured before and after, said when it is bad, and held off by replay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from little import TEXT, make_base
from test_pipeline_train import train, write
from tinyforge.config import TrainConfig
from tinyforge.dataset.general import general_rows, general_texts, pieces, text_rows
from tinyforge.models.rehearse import write_texts
from tinyforge.pipeline.guard import FORGOTTEN
from tinyforge.run import Run
from tinyforge.train.guard import LEAST_TOKENS, affordable_tokens, bits_per_byte

ROWS = [{"instruction": f"What costs {n}?", "input": "", "output": f"The saw costs {n} tokens."} for n in range(12)]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def base(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows its one text by heart, and so has something to forget."""
    folder = tmp_path_factory.mktemp("base")
    rows = write(folder / "text.jsonl", [{"text": piece} for piece in TEXT.split(". ") if len(piece) > 5])
    train(rows, folder / "run", untrained, "train.epochs=200", "train.guard=false")
    return folder / "run" / "model"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


def parts(folder: Path) -> tuple[Any, Any]:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def test_the_shipped_text_is_varied_plain_and_our_own() -> None:
    texts = general_texts()
    assert len(texts) >= 16 and all(400 < len(text) < 2500 for text in texts)
    assert 15_000 < sum(len(text.encode()) for text in texts) < 40_000
    assert len({text[:40] for text in texts}) == len(texts) and not any("---" in text for text in texts)


def test_bits_per_byte_by_hand(untrained: Path) -> None:
    """A model whose logits are all equal needs log2 of its vocabulary for each token but the first."""
    model, tokenizer = parts(untrained)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    rows = text_rows("A loan is an agreement.", tokenizer, 64)
    tokens = len(tokenizer("A loan is an agreement.")["input_ids"]) + 1  # and the end token
    expected = tokens * math.log2(model.config.vocab_size) / 23
    assert bits_per_byte(model, rows, 23) == pytest.approx(expected, rel=1e-5)


def test_bits_per_byte_leaves_the_model_as_it_was(untrained: Path) -> None:
    model, tokenizer = parts(untrained)
    model.train()
    before = torch.get_rng_state()
    rows, size = general_rows(tokenizer, 512, 2000)
    assert bits_per_byte(model, rows, size["bytes"]) > 3
    assert model.training and torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())


def test_large_models_read_less_text(untrained: Path) -> None:
    assert affordable_tokens(135_000_000) == 1851 and affordable_tokens(10**12) == LEAST_TOKENS
    tokenizer = parts(untrained)[1]
    few, small = general_rows(tokenizer, 512, 500)
    every, whole = general_rows(tokenizer, 512, 10**9)
    assert small["texts"] < whole["texts"] == len(general_texts()) and 500 <= small["tokens"] < 1500
    assert whole["bytes"] == sum(len(t.encode()) for t in general_texts())
    assert max(len(row.ids) for row in every) <= 512 and len(few) < len(every)


def test_forgetting_is_measured_and_said(
    rows: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = train(rows, tmp_path / "run", base)
    general = summary["general"]
    assert (
        general["change"] == pytest.approx(general["after"] / general["before"] - 1) and general["change"] > FORGOTTEN
    )
    shown = capsys.readouterr().err
    assert "bits per byte before" in shown and "warning: it reads general text" in shown
    assert "train.replay_share=0.1" in shown
    event = Run.open(tmp_path / "run").events("general")[-1]
    assert event["after"] == general["after"] and event["bytes"] == general["bytes"]


def test_nothing_is_warned_of_where_nothing_is_forgotten(
    rows: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control: next to no learning, next to no change."""
    summary = train(rows, tmp_path / "run", base, "train.learning_rate=1e-7", "train.epochs=3")
    assert abs(summary["general"]["change"]) < 0.01 and "warning: it reads" not in capsys.readouterr().err


def test_off_and_where_it_does_not_apply(rows: Path, base: Path, tmp_path: Path) -> None:
    fast = ("train.epochs=2",)
    assert train(rows, tmp_path / "off", base, "train.guard=false", *fast)["general"] is None
    labelled = write(tmp_path / "l.jsonl", [{"text": f"row {n}", "label": "ab"[n % 2]} for n in range(12)])
    assert train(labelled, tmp_path / "labels", base, *fast)["general"] is None
    preferred = [{"prompt": r["instruction"], "chosen": r["output"], "rejected": "No."} for r in ROWS]
    summary = train(write(tmp_path / "p.jsonl", preferred), tmp_path / "dpo", base, *fast)
    assert summary["objective"] == "dpo" and summary["general"]["before"] > 0


def test_replay_of_own_text_reduces_forgetting(rows: Path, base: Path, tmp_path: Path) -> None:
    """Text like what the base knew is kept by text like it; the control is the training without."""
    source = write(tmp_path / "general.jsonl", [{"text": text} for text in general_texts()[8:]])
    plain = train(rows, tmp_path / "plain", base, "train.learning_rate=3e-3")
    mixed = train(
        rows, tmp_path / "mixed", base, "train.learning_rate=3e-3", "train.replay_share=0.5", f"train.replay={source}"
    )
    assert mixed["replay"]["share"] == pytest.approx(0.5, abs=0.01) and mixed["replay"]["source"] == str(source)
    assert mixed["rendered"] == plain["rendered"], "the rows of the task are the same"
    assert mixed["general"]["before"] == plain["general"]["before"]
    assert mixed["general"]["after"] < 0.9 * plain["general"]["after"]


def test_the_base_writes_the_text_where_none_is_given(rows: Path, base: Path, tmp_path: Path) -> None:
    fast = ("train.epochs=2", "train.replay_share=0.3")
    first, second = (train(rows, tmp_path / name, base, *fast) for name in "ab")
    assert first["replay"]["share"] == pytest.approx(0.3, abs=0.01)
    assert first["replay"]["source"] == "written by the base"
    texts = [(tmp_path / name / "replay.jsonl").read_bytes() for name in "ab"]
    assert texts[0] == texts[1] and first["general"] == second["general"], "the same seed, the same text"
    other = train(rows, tmp_path / "c", base, *fast, "seed=7")
    assert (tmp_path / "c" / "replay.jsonl").read_bytes() != texts[0] and other["replay"]


def test_what_the_base_writes_is_its_own_distribution(base: Path) -> None:
    model, tokenizer = parts(base)
    model.train()
    before = torch.get_rng_state()
    texts = write_texts(model, tokenizer, 600, 1)
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert "".join(texts).count("tool") > 3, "it writes about what it has read"
    assert texts == write_texts(model, tokenizer, 600, 1) != write_texts(model, tokenizer, 600, 2)


def test_too_little_text_is_said(rows: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "short.txt"
    source.write_text("A loan is an agreement to bring a tool back.")
    train(rows, tmp_path / "run", base, "train.epochs=2", "train.replay_share=0.5", f"train.replay={source}")
    assert "50% was asked for, but there is no more text" in capsys.readouterr().err


def test_changed_text_is_another_training(rows: Path, base: Path, tmp_path: Path) -> None:
    source = tmp_path / "general.txt"
    options = ("train.epochs=2", "train.replay_share=0.3", f"train.replay={source}")
    source.write_text(general_texts()[0])
    first = train(rows, tmp_path / "run", base, *options)
    source.write_text(general_texts()[1])
    assert train(rows, tmp_path / "run", base, *options)["key"] != first["key"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.replay={here}/text.txt"], "nothing of it would be used"),
        (["train.replay_share=0.2", "train.replay=nowhere.txt"], "nowhere.txt: no such file"),
        (["train.replay_share=1.5"], "replay_share"),
    ],
)
def test_wrong_options_are_refused(
    rows: Path, base: Path, tmp_path: Path, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("x")
    train(rows, tmp_path / "run", base, *(setting.format(here=tmp_path) for setting in settings), code=2)
    assert said in capsys.readouterr().err


def test_preferences_cannot_be_mixed_with_text(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preferred = [{"prompt": r["instruction"], "chosen": r["output"], "rejected": "No."} for r in ROWS]
    train(write(tmp_path / "p.jsonl", preferred), tmp_path / "run", base, "train.replay_share=0.2", code=2)
    assert "the rows of dpo cannot be mixed" in capsys.readouterr().err


def test_pieces_are_whole_paragraphs() -> None:
    long = "word " * 400
    text = "\n\n".join(["a" * 700, "b" * 700, "c", long.strip()])
    assert [len(piece) for piece in pieces([text, "next"])] == [700, 703, len(long) - 1, 4]


def test_a_share_of_nothing_changes_nothing() -> None:
    assert TrainConfig().replay_share == 0 and TrainConfig().guard
    assert json.loads(json.dumps(TrainConfig().decisive()))["guard"] is True

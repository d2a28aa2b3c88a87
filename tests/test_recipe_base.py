"""recipes/base-tiny.yaml, which made the embedded base, run small: both stages, on documents of this repository."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinyforge.models.resolve import EMBEDDED
from tinyforge.pipeline.pretrain import pretrain
from tinyforge.recipe import load_config
from tinyforge.run import read_json

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "base-tiny.yaml"
LITTLE = (
    *("pretrain.hidden=32", "pretrain.layers=2", "pretrain.intermediate=64", "pretrain.vocabulary=600"),
    *("pretrain.validation_fraction=0.2", "pretrain.reading_test_fraction=0.3", "train.threads=1"),
)

LESSONS = ("pretrain.reading_tokens=20000", "pretrain.declining_tokens=10000")


def write_corpus(folder: Path) -> Path:
    """Running text, and documents under a name that the recipe takes for reading questions only."""
    folder.mkdir()
    # By sections: which documents are held out follows from their text, so there have to be many.
    whole = [path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))]
    pages = [part for page in whole for part in page.split("\n## ") if len(part) > 200]
    samples = [path.read_text() for path in sorted((ROOT / "src" / "tinyforge" / "samples").glob("*.md"))]
    for name, texts in (("prose.jsonl", pages), ("python-peps.jsonl", samples + whole)):
        (folder / name).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def make(folder: Path, *settings: str) -> dict[str, Any]:
    config = load_config(RECIPE, list(settings))
    corpus = folder / "corpus"
    return pretrain([corpus if corpus.exists() else write_corpus(corpus)], folder / "run", config, _quiet, _quiet)


def _quiet(*_: Any) -> None:
    pass


def test_the_recipe_is_that_of_the_embedded_base() -> None:
    """The shape and the options that the shipped weights were trained with are those of the recipe."""
    made, recipe = read_json(EMBEDDED["tiny"] / "config.json"), load_config(RECIPE).pretrain
    shape = {
        "vocab_size": recipe.vocabulary,
        "hidden_size": recipe.hidden,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "intermediate_size": recipe.intermediate,
        "max_position_embeddings": recipe.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": recipe.rope_theta},
    }
    assert {name: made[name] for name in shape} == shape
    assert {**shape, "num_hidden_layers": 7} != {name: made[name] for name in shape}


def test_the_recipe_makes_a_base_in_both_stages(tmp_path: Path) -> None:
    summary = make(tmp_path, *LITTLE, "pretrain.tokens=50000", *LESSONS)
    assert summary["steps"] >= 5 and summary["reading"]["steps"] >= 3
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert model.config.model_type == "llama" and len(AutoTokenizer.from_pretrained(tmp_path / "run" / "model")) == 600


@pytest.mark.slow
def test_a_few_hundred_steps_of_the_recipe_learn(tmp_path: Path) -> None:
    """The recipe's own shape, 200 steps of text and some of reading, on documents of this repository: both are learned.

    About three minutes on two cores.
    """
    settings = ("pretrain.validation_fraction=0.1", "train.batch_tokens=2048", "pretrain.vocabulary=2048")
    settings += ("pretrain.tokens=400000", "pretrain.reading_tokens=200000", "pretrain.reading_test_fraction=0.3")
    summary = make(tmp_path, *settings, "pretrain.declining_tokens=0")
    assert summary["steps"] >= 190 and summary["reading"]["steps"] >= 10
    assert summary["validation_bits_per_byte"] < 2.9  # untrained: more than 3.6
    rows = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    losses = [row["dev_loss"] for row in rows if row["event"] == "step" and row["total"] == summary["reading"]["steps"]]
    losses = [loss for loss in losses if loss is not None]
    assert losses[-1] < losses[0]

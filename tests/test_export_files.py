"""safetensors, adapters, ONNX, services and cards: out, opened elsewhere, and compared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from little import make_base, make_lively_base
from tinyforge import adapters
from tinyforge.config import Config, TrainConfig
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.export import artifact as artifact_module
from tinyforge.export.artifact import certify, export
from tinyforge.export.hub import card, upload
from tinyforge.export.onnx import ONNX
from tinyforge.export.safetensors import SAFETENSORS
from tinyforge.export.service import lock
from tinyforge.export.source import open_source
from tinyforge.models.resolve import load_model, resolve
from tinyforge.run import Run, write_json

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


def make_run(folder: Path, base: Path, method: str = "lora") -> Run:
    """A finished run with a random adapter on ``base``."""
    run = Run.create(folder, "train")
    config = Config(base=str(base), train=TrainConfig(method=method))
    write_json(run.path("config.json"), config.model_dump())
    found = resolve(str(base))
    quantize = adapters.quantization(method)
    write_json(run.path("base.json"), {"name": found.name, "hash": found.hash, "quantize": quantize})
    write_json(run.path("train.json"), {"objective": "sft"})
    model = adapters.attach(load_model(base, "fp32", quantize=quantize), config.train, 0)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    adapters.save(model, run.path("adapter"))
    return run


@pytest.mark.parametrize(("to", "kind"), [("safetensors", "fp32"), ("adapter", "peft"), ("adapter", "gguf")])
def test_an_adapter_goes_out_merged_and_alone(to: str, kind: str, lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    made = export(str(run.folder), to, kind)
    assert made.certificate["passed"], made.certificate["checks"]
    assert made.folder == run.path("exports", f"{to}-{kind}")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qlora", "dora", "rslora"])
def test_merged_equals_adapter(method: str, lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively, method)
    made = export(str(run.folder), "safetensors", "fp32")
    assert made.certificate["passed"], made.certificate["checks"]


def test_a_folder_has_all_that_transformers_needs(lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "safetensors", "bf16", tmp_path / "out")
    names = {path.name for path in made.folder.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= names
    stops = json.loads((made.folder / "generation_config.json").read_text())["eos_token_id"]
    assert stops == made.certificate["stop_tokens"]["source"]


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    from safetensors import safe_open

    made = export(str(make_base(tmp_path / "base")), "safetensors", "fp32", tmp_path / "out")
    with safe_open(made.folder / "model.safetensors", "pt") as handle:
        assert "lm_head.weight" not in set(handle.keys())


def test_a_model_without_its_stop_token_fails(lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "safetensors", "fp32", tmp_path / "out")
    path = made.folder / "generation_config.json"
    write_json(path, json.loads(path.read_text()) | {"eos_token_id": 0})
    found = certify(open_source(str(lively)), SAFETENSORS, made.folder, "safetensors", "fp32")
    assert [c["name"] for c in found["checks"] if not c["passed"]] == ["stop tokens that differ"]


@pytest.mark.parametrize("kind", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_onnx(kind: str, lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "onnx", kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]
    if kind == "fp32":
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "run_onnx.py"), str(made.folder), "What is a loan?"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and done.stdout.strip(), done.stderr


def make_classifier(folder: Path) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    AutoTokenizer.from_pretrained(make_base(folder / "tokenizer")).save_pretrained(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = {0: "loans", 1: "fees", 2: "tools"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(vocab_size=512, pad_token_id=1, **shape, **labels)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("to", "kind"), [("safetensors", "fp32"), pytest.param("onnx", "fp32", marks=pytest.mark.slow)]
)
def test_a_classifier(to: str, kind: str, tmp_path: Path) -> None:
    made = export(str(make_classifier(tmp_path / "model")), to, kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]
    with pytest.raises(InputError, match="trained with classify"):
        export(str(tmp_path / "model"), "gguf", "", tmp_path / "no")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "int4"])
def test_onnx_smaller_still(kind: str, lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "onnx", kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]


@pytest.mark.slow
def test_a_swapped_tensor_in_onnx_fails(lively: Path, tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    ONNX.write(open_source(str(lively)), tmp_path, "fp32")
    model = onnx.load(tmp_path / "model.onnx")
    pair = [t for t in model.graph.initializer if list(t.dims) in ([64, 64],)][:2] or [
        t for t in model.graph.initializer if len(t.dims) == 2
    ][:2]
    arrays = [np.array(numpy_helper.to_array(t)) for t in pair]
    assert arrays[0].shape == arrays[1].shape
    for tensor, values in zip(pair, reversed(arrays), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, tmp_path / "model.onnx")
    found = certify(open_source(str(lively)), ONNX, tmp_path, "onnx", "fp32")
    assert not found["passed"]


def test_a_failure_leaves_the_old_artifact(lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = export(str(lively), "safetensors", "fp32", tmp_path / "out")
    before = (made.folder / "certificate.json").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_module, "certify", full)
    with pytest.raises(TinyForgeError, match="disk is full"):
        export(str(lively), "safetensors", "fp32", tmp_path / "out")
    assert (made.folder / "certificate.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from tinyforge.export import artifact
artifact.certify = lambda *a: os.kill(os.getpid(), 9)
artifact.export(sys.argv[1], "safetensors", "fp32", sys.argv[2])
"""


def test_a_kill_leaves_the_old_artifact_or_none(lively: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", KILLED, str(lively), str(out)]
    assert subprocess.run(arguments, capture_output=True).returncode == -9
    assert not out.exists()
    first = export(str(lively), "safetensors", "fp32", out).certificate
    assert subprocess.run(arguments, capture_output=True).returncode == -9
    assert json.loads((out / "certificate.json").read_text())["files"] == first["files"]


def test_a_service_is_a_run_with_what_starts_it(lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    made = export(str(run.folder), "service", "fp32")
    assert made.certificate["passed"], made.certificate["checks"]
    text = (made.folder / "Dockerfile").read_text()
    assert "USER forge" in text and "HEALTHCHECK" in text and "-slim" in text
    assert yaml.safe_load((made.folder / "compose.yaml").read_text())["services"]["model"]["ports"] == [
        "127.0.0.1:8000:8000"
    ]
    assert open_source(str(made.folder / "run")).adapter is None


def test_the_lock_names_exact_versions() -> None:
    import transformers

    rows = lock()
    assert any(row.startswith("tinyforgeai==") for row in rows) and f"transformers=={transformers.__version__}" in rows
    assert all("==" in row and "+" not in row for row in rows) and len(rows) == len(set(rows)) > 30


def test_a_card_states_what_was_measured(lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    write_json(run.path("report.json"), {"verdict": "Better.", "scores": {"wordings": {"tuned": {"token_f1": score}}}})
    text = card(open_source(str(run.folder)), 1_500_000)
    assert "| wordings | tuned | 0.500 | 0.400 to 0.600 | 9 |" in text and "1.5 million" in text
    run.path("report.json").unlink()
    assert "Not measured." in card(open_source(str(run.folder)), 1)


def test_nothing_is_sent_to_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OWNER/NAME"):
        upload(tmp_path, "just-a-name")


def test_an_adapter_is_asked_of_a_run_without_one(lively: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no adapter"):
        export(str(lively), "adapter", "", tmp_path / "out")

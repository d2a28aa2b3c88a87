"""ONNX by plain onnxruntime: every family and kind of model, every precision, and faults that a certificate catches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export_models import FAMILIES, make_classifier, make_family, make_reader
from little import make_lively_base
from tinyforge.export.artifact import certify, export
from tinyforge.export.onnx import ONNX
from tinyforge.export.onnx_run import open_predictor
from tinyforge.export.source import open_source
from tinyforge.models.predict import load_predictor
from tinyforge.run import write_json

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp16", "int4"])
def test_onnx_smaller_still(kind: str, lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "onnx", kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, kind: str, tmp_path: Path) -> None:
    made = export(str(make_family(tmp_path / "model", family)), "onnx", kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]


READERS: dict[str, Callable[[Path], Path]] = {
    "classify": make_classifier,
    **{kind: lambda folder, kind=kind: make_reader(folder, kind) for kind in ("extract", "respond", "t5", "bart")},
}
TEXTS = ["What is a loan?\n\nA loan is an agreement to bring a tool back within seven days.", "The tools wear out?"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp32", "int8"])
@pytest.mark.parametrize("reader", READERS)
def test_encoders_and_encoder_decoders(reader: str, kind: str, tmp_path: Path) -> None:
    folder = READERS[reader](tmp_path / "model")
    made = export(str(folder), "onnx", kind, tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]
    assert not list(made.folder.glob("whole-*"))
    if kind == "fp32":
        graph, own = (
            load(place).predict(TEXTS) for load, place in ((open_predictor, made.folder), (load_predictor, folder))
        )
        assert [p.text for p in graph] == [p.text for p in own]
        assert [p.score or 0 for p in graph] == pytest.approx([p.score or 0 for p in own], abs=1e-4)


# Faults planted in what was exported.


def swap_weights(folder: Path, file: str = "model.onnx") -> None:
    """Two matrices of one shape that stand in the graph itself or in the file beside it."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / file)
    by_shape: dict[tuple[int, ...], list[Any]] = {}
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2 and min(tensor.dims) > 8:
            by_shape.setdefault(tuple(tensor.dims), []).append(tensor)
    pair = next(found for found in by_shape.values() if len(found) > 1)[:2]
    arrays = [np.array(numpy_helper.to_array(tensor)) for tensor in pair]
    assert not np.array_equal(*arrays)
    for tensor, values in zip(pair, reversed(arrays), strict=True):
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, folder / file)


def slow_rotation(folder: Path) -> None:
    """The rotary frequencies 1, 1/base^(2/d), ... as another base would have them."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(folder / "model.onnx")
    changed = 0
    for tensor in model.graph.initializer:
        values = np.array(numpy_helper.to_array(tensor))
        flat = values.reshape(-1)
        if (
            flat.dtype == np.float32
            and 3 < flat.size < 64
            and flat[0] == 1
            and np.allclose(flat[1:] / flat[:-1], flat[1])
        ):
            tensor.CopyFrom(numpy_helper.from_array(np.sqrt(values), tensor.name))
            changed += 1
    assert changed == 1
    onnx.save(model, folder / "model.onnx")


def break_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("<|end|>", "       "))


def lose_a_stop(folder: Path) -> None:
    path = folder / "generation_config.json"
    write_json(path, json.loads(path.read_text()) | {"eos_token_id": 0})


FAULTS = {
    "prompts rendered otherwise": break_template,
    "stop tokens that differ": lose_a_stop,
    "mean KL": swap_weights,
    "max KL": slow_rotation,
}


@pytest.mark.slow
@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_fails_the_certificate(check: str, lively: Path, tmp_path: Path) -> None:
    ONNX.write(open_source(str(lively)), tmp_path, "fp32")
    FAULTS[check](tmp_path)
    found = certify(open_source(str(lively)), ONNX, tmp_path, "onnx", "fp32")
    assert check in {c["name"] for c in found["checks"] if not c["passed"]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_swapped_matrix_of_an_encoder_decoder_fails_the_certificate(kind: str, tmp_path: Path) -> None:
    """Its texts alone could be the same: the distributions are not."""
    source = open_source(str(make_reader(tmp_path / "model", kind)))
    out = tmp_path / "out"
    out.mkdir()
    ONNX.write(source, out, "fp32")
    assert certify(source, ONNX, out, "onnx", "fp32")["passed"]
    swap_weights(out, "decoder_model.onnx")
    found = certify(source, ONNX, out, "onnx", "fp32")
    assert "mean KL" in {c["name"] for c in found["checks"] if not c["passed"]}

"""An ONNX graph can be opened by transformers.js, which makes its first, empty cache from what the sizes are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from little import make_base
from tinyforge.cli import main


@pytest.mark.parametrize("kind", ["fp32", "int8"])
def test_the_sizes_of_the_inputs_carry_the_names_that_browsers_need(tmp_path: Path, kind: str) -> None:
    onnx = pytest.importorskip("onnx")
    base, out = make_base(tmp_path / "base"), tmp_path / "out"
    assert main(["export", str(base), "--to", "onnx", "--type", kind, "--out", str(out)]) in (0, 3)
    graph = onnx.load(out / "model.onnx", load_external_data=False).graph
    sizes = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.input}
    assert sizes["input_ids"] == ["batch_size", "sequence_length"]
    assert sizes["attention_mask"] == ["batch_size", "total_sequence_length"]
    assert sizes["past_key_values.0.key"] == ["batch_size", 2, "past_sequence_length", 8]

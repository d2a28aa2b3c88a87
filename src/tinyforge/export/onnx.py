"""``--to onnx``: a graph that plain onnxruntime runs, made by transformers' own exporter.

A decoder becomes one graph that reads any number of tokens after any number of cached ones; inputs and outputs carry
the names that transformers.js and other runtimes look for (``past_key_values.0.key``, ``present.0.key``). A classifier
or an encoder becomes one graph from ids and mask to its scores.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export.safetensors import copy_companions
from tinyforge.export.source import Source
from tinyforge.export.target import Target

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner
    from tinyforge.models.predict import Predictor

TYPES = ("fp32", "fp16", "int8", "int4")
GRAPH = "model.onnx"
BLOCK = 32  # weights that share a scale in int4


def check(source: Source, kind: str) -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}, not installed.", 'Run: pip install "tinyforgeai[onnx]"')
    if not source.writes and source.objective != "classify":
        raise InputError(
            f"{source.name}: models trained with {source.objective} are not written as ONNX yet.",
            "Use --to safetensors.",
        )


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    """The graph, its weights beside it, and the tokenizer, template and configuration."""
    import onnx_ir
    import torch

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    model = source.merged().to(torch.float32)
    with _quiet():
        program = _decoder(model) if source.writes else _classifier(model)
    whole = folder / GRAPH if kind == "fp32" else folder / "whole.onnx"
    onnx_ir.save(program, str(whole), external_data=f"{whole.name}.data")
    del program
    if kind != "fp32":
        _reduce(whole, folder / GRAPH, kind)
        for path in (whole, whole.with_name(f"{whole.name}.data")):
            path.unlink(missing_ok=True)
    model.config.save_pretrained(folder)
    if source.writes:
        model.generation_config.save_pretrained(folder)
    source.tokenizer().save_pretrained(folder)
    copy_companions(source, folder)
    return {"file": GRAPH}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print what they are doing, and warn of what does not matter here."""
    from contextlib import redirect_stdout
    from io import StringIO

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _export(model: Any, inputs: dict[str, Any]) -> Any:
    from transformers.exporters import OnnxConfig, OnnxExporter

    return OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True)).program


def _decoder(model: Any) -> Any:
    """Traced with two rows, four cached tokens and three new ones: no size that is 0 or 1 becomes a constant."""
    import torch

    rows, cached, new = 2, 4, 3
    ids = torch.arange(rows * (cached + new)).reshape(rows, -1) % model.config.vocab_size
    with torch.inference_mode():
        past = model(input_ids=ids[:, :cached], use_cache=True).past_key_values
    inputs = {
        "input_ids": ids[:, cached:],
        "attention_mask": torch.ones_like(ids),
        "position_ids": torch.arange(cached, cached + new)[None].expand(rows, new).contiguous(),
        "past_key_values": past,
        "use_cache": True,
    }
    program = _export(model, inputs)
    _rename(program.graph)
    return program


def _rename(graph: Any) -> None:
    """``input.past_key_values.layers.0.keys`` and the like to the names that other runtimes look for."""
    for values, prefix in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for value in values:
            parts = str(value.name).split(".")
            if "layers" in parts:
                value.name = f"{prefix}.{parts[parts.index('layers') + 1]}.{parts[-1].removesuffix('s')}"


def _classifier(model: Any) -> Any:
    import torch

    ids = torch.arange(10).reshape(2, 5) % model.config.vocab_size
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return _export(model, inputs)


def _reduce(whole: Path, path: Path, kind: str) -> None:
    """The graph in ``whole`` with smaller weights: half precision, or matrices in 8 or 4 bits."""
    import onnx

    if kind == "int8":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with _quiet():
            quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
        return
    model = onnx.load(whole)
    model = _half(model) if kind == "fp16" else _four_bits(model)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)


def _half(model: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet():
        return convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)


def _four_bits(model: Any) -> Any:
    """Round to nearest, symmetric, 32 weights to a scale; embeddings and what is no matrix product stay."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with _quiet():
        quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=BLOCK, is_symmetric=True)
        quantizer.process()
    return quantizer.model.model


def open_graph(source: Source, folder: Path, kind: str) -> Runner | Predictor:
    from tinyforge.export.onnx_run import OnnxClassifier, OnnxRunner

    return OnnxRunner(folder) if source.writes else OnnxClassifier(folder)


ONNX = Target(TYPES, check, write, open_graph)

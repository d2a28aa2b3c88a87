"""``--to onnx``: graphs that plain onnxruntime runs (see ``onnx_graphs``), in the precision that was asked for."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export.onnx_graphs import GRAPH, graphs, quiet
from tinyforge.export.onnx_int8 import eight_bits
from tinyforge.export.safetensors import copy_companions
from tinyforge.export.source import Source
from tinyforge.export.target import Target

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner
    from tinyforge.models.predict import Predictor

TYPES = ("fp32", "fp16", "int8", "int4")
BLOCK = 32  # weights that share a scale in int4


def check(source: Source, kind: str) -> None:
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if missing:
        raise InputError(f"ONNX needs {', '.join(missing)}, not installed.", 'Run: pip install "tinyforgeai[onnx]"')


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    """The graphs, their weights beside them, and the tokenizer, template and configuration."""
    import onnx_ir
    import torch

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    model = source.merged().to(torch.float32)
    files = []
    whole = kind in ("fp32", "int8")
    for name, program in graphs(model, source.objective, source.writes):
        if kind == "int8":
            eight_bits(program.graph)
        file = name if whole else f"whole-{name}"
        onnx_ir.save(program, str(folder / file), external_data=f"{file}.data")
        files.append(name)
    del program
    model.config.architectures = [type(model).__name__]  # of an adapter's base these name the head that it had
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    source.tokenizer().save_pretrained(folder)
    copy_companions(source, folder)
    del model
    for name in () if whole else files:
        traced = folder / f"whole-{name}"
        _reduce(traced, folder / name, kind)
        for path in (traced, traced.with_name(f"{traced.name}.data")):
            path.unlink(missing_ok=True)
    return {"file": GRAPH} if files == [GRAPH] else {"files": files}


def _reduce(traced: Path, path: Path, kind: str) -> None:
    """The graph in ``traced`` with smaller weights: half precision, or matrices in 4 bits."""
    import onnx

    model = onnx.load(traced)
    model = _half(model) if kind == "fp16" else _four_bits(model)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)


def _half(model: Any) -> Any:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with quiet():
        return convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)


def _four_bits(model: Any) -> Any:
    """Round to nearest, symmetric, 32 weights to a scale; embeddings and what is no matrix product stay."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with quiet():
        quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=BLOCK, is_symmetric=True)
        quantizer.process()
    return quantizer.model.model


def open_graph(source: Source, folder: Path, kind: str) -> Runner | Predictor:
    from tinyforge.export.onnx_run import OnnxRunner, open_predictor

    return OnnxRunner(folder) if source.writes else open_predictor(folder)


ONNX = Target(TYPES, check, write, open_graph)

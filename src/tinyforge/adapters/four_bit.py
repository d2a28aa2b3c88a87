"""Weights in 4 bits: NF4 with double quantization (Dettmers et al. 2023), by bitsandbytes, on a CPU or a GPU."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError

if TYPE_CHECKING:
    import torch


def loading(quantize: str, dtype: torch.dtype) -> dict[str, Any]:
    """What to give ``from_pretrained`` besides the folder; nothing when ``quantize`` is empty.

    ``quantize`` is a type that bitsandbytes knows: nf4. Every linear layer but the head is quantized while loading
    and computes in ``dtype``. Raises InputError when bitsandbytes is missing.
    """
    if not quantize:
        return {}
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "weights in 4 bits (qlora) need bitsandbytes, which is not installed.",
            'Run: pip install "tinyforgeai[qlora]"',
        )
    import torch
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings, "device_map": {"": str(torch.get_default_device())}}


def layers(model: Any) -> list[tuple[str, Any]]:
    """The quantized layers of a model, with their names."""
    library = sys.modules.get("bitsandbytes")
    if library is None:
        return []
    return [(name, module) for name, module in model.named_modules() if isinstance(module, library.nn.Linear4bit)]


def forbid_repacking(model: Any) -> None:
    """Keep bitsandbytes from repacking layers for inference, as it does when one is first evaluated on some CPUs.

    Repacking (with AVX-512 bf16) rounds the scales to bf16 for good, and a repacked layer passes no gradient on. A
    training measures its dev loss between two steps, so the steps after it would silently learn something else.
    """
    for _, layer in layers(model):
        layer.support_avx512bf16_for_cpu = False


def dequantize(model: Any) -> Any:
    """The model with ordinary layers that hold the same weights, in the dtype they compute in; changes ``model``."""
    for name, layer in layers(model):
        model.set_submodule(name, _plain(layer))
    model.hf_quantizer.remove_quantization_config(model)
    model.is_loaded_in_4bit = False
    return model


def _plain(layer: Any) -> Any:
    """The layer that ``layer`` was before: transformers turns GPT-2's Conv1D, with its transposed weight, as well."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from transformers.pytorch_utils import Conv1D

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    turned = getattr(layer, "source_cls", None) is Conv1D
    inputs, outputs = layer.in_features, layer.out_features
    with torch.device("meta"):
        made: Any = Conv1D(outputs, inputs) if turned else torch.nn.Linear(inputs, outputs, layer.bias is not None)
    made.weight = torch.nn.Parameter(weight.T.contiguous() if turned else weight, requires_grad=False)
    if layer.bias is not None:
        made.bias = torch.nn.Parameter(layer.bias.data.to(weight.dtype), requires_grad=False)
    return made

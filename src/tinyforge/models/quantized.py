"""Weights in 8 or 4 bits: layers that hold codes and scales, and form the numbers again when they compute.

8 bits: signed codes, one float32 scale per output row. 4 bits: codes 0 to 15 in groups of inputs, each group with a
float16 scale and a zero point, ``weight = scale * (code - zero)``; two codes share a byte. Embeddings are always held
in 8 bits, one scale per token.

Codes are stored flat under the name ``weight``: a program that takes them for ordinary weights then stops at the
shape instead of writing nonsense.

Legend: O outputs, I inputs, G groups of a row (I / group).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

METHOD = "tinyforge"
FEW_ROWS = 16  # up to here the fused products of bf16 with codes were faster than forming the weights (2-core EPYC)
WHOLE = 32  # outputs and inputs of the fused products come in multiples of this
ALIGNED = 64  # bytes; where the memory that torch allocates begins
FUSED_GROUPS = (32, 64, 128, 256)  # that torch has a product for


def pack(codes_OI: Tensor) -> Tensor:
    """Codes 0 to 15, two in a byte: the first in the low half. I must be even."""
    low, high = codes_OI[:, 0::2], codes_OI[:, 1::2]
    return (low | (high << 4)).to(torch.uint8)


def unpack(bytes_OH: Tensor) -> Tensor:
    return torch.stack([bytes_OH & 15, bytes_OH >> 4], dim=-1).flatten(1)


class QuantizedLinear(nn.Module):
    """``x @ weight.T + bias`` over a weight of codes; computes in the dtype of ``x``. Not trainable."""

    weight: Tensor
    scale: Tensor
    zero: Tensor | None
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, bits: int, group: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bits, self.group = inputs, outputs, bits, group
        dtype = torch.int8 if bits == 8 else torch.uint8
        self.register_buffer("weight", torch.zeros(outputs * inputs * bits // 8, dtype=dtype))
        groups = inputs // group if group else 1
        self.register_buffer("scale", torch.ones(outputs, groups, dtype=torch.float16 if group else torch.float32))
        self.register_buffer("zero", torch.zeros(outputs, groups, dtype=torch.uint8) if bits == 4 else None)
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)
        self._layout: tuple[Tensor, int, Tensor] | None = None

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The weight (O, I) in ``dtype``."""
        if self.bits == 8:
            return (self.weight.view(self.out_features, self.in_features).float() * self.scale).to(dtype)
        codes_OI = unpack(self.weight.view(self.out_features, self.in_features // 2))
        codes_OGS = codes_OI.view(self.out_features, self.scale.shape[1], -1).float()
        assert self.zero is not None
        weight = (codes_OGS - self.zero[..., None]) * self.scale[..., None].float()
        return weight.view(self.out_features, self.in_features).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        few = x.numel() <= FEW_ROWS * self.in_features
        if not (few and x.dtype == torch.bfloat16 and x.device.type == "cpu" and self._fusible()):
            return nn.functional.linear(x, self.dequantized(x.dtype), bias)
        flat = x.reshape(-1, self.in_features)
        if self.bits == 8:
            product = self._product_8(flat)
        else:
            product = torch._weight_int4pack_mm_for_cpu(flat, *self._laid_out())
        result = product.view(*x.shape[:-1], self.out_features)
        return result if bias is None else result + bias

    def _fusible(self) -> bool:
        if self.bits == 8:
            return self.in_features % WHOLE == 0 and self.out_features >= WHOLE
        return self.group in FUSED_GROUPS and self.in_features % WHOLE == 0 and self.out_features % WHOLE == 0

    def _product_8(self, x_NI: Tensor) -> Tensor:
        """Torch's product (2.13) crashes on codes that a file's offset has misaligned, so such are copied, once; the
        last few outputs, where they are no multiple of what it takes at a time, go the long way round."""
        if self.weight.data_ptr() % ALIGNED:
            self.weight = self.weight.clone()
        codes_OI = self.weight.view(self.out_features, self.in_features)
        scale_O = self.scale[:, 0].to(x_NI.dtype)
        whole = self.out_features // WHOLE * WHOLE
        product = torch._weight_int8pack_mm(x_NI, codes_OI[:whole], scale_O[:whole])
        if whole == self.out_features:
            return product
        rest_OI = codes_OI[whole:].to(x_NI.dtype) * scale_O[whole:, None]
        return torch.cat([product, x_NI @ rest_OI.T], dim=-1)

    def _laid_out(self) -> tuple[Tensor, int, Tensor]:
        """The codes as this processor's product wants them, made at first use and kept beside the others.

        It computes ``(code - 8) * scale + shift``.
        """
        if self._layout is None:
            assert self.zero is not None
            codes_OI = unpack(self.weight.view(self.out_features, self.in_features // 2)).int()
            scale_OG = self.scale.float()
            shift_OG = (8 - self.zero.float()) * scale_OG
            scales_GO2 = torch.stack([scale_OG.T, shift_OG.T], dim=-1).bfloat16().contiguous()
            self._layout = (torch._convert_weight_to_int4pack_for_cpu(codes_OI, 1), self.group, scales_GO2)
        return self._layout


class QuantizedEmbedding(nn.Module):
    """Rows of 8-bit codes, each with its scale; gives ``dtype``."""

    weight: Tensor
    scale: Tensor

    def __init__(self, tokens: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.dtype = tokens, width, dtype
        self.register_buffer("weight", torch.zeros(tokens * width, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(tokens, 1, dtype=torch.float32))

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.weight.view(self.num_embeddings, self.embedding_dim)[ids].float()
        found: Tensor = (rows * self.scale[ids]).to(self.dtype)
        return found


class TiedHead(QuantizedLinear):
    """The output matrix that is the embedding's own; holds nothing."""

    def __init__(self, embedding: QuantizedEmbedding) -> None:
        super().__init__(embedding.embedding_dim, embedding.num_embeddings, 8, 0, False)
        for name in ("weight", "scale"):
            delattr(self, name)
        self._embedding = (embedding,)  # in a tuple: it is not this module's child

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "scale"):
            return getattr(self._embedding[0], name)
        return super().__getattr__(name)


def quantized(model: nn.Module) -> bool:
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def dequantized_sizes(model: nn.Module) -> int:
    """How many weights are held as codes; a tied head has none of its own."""
    own = [m for m in model.modules() if isinstance(m, QuantizedLinear) and not isinstance(m, TiedHead)]
    tables = [m for m in model.modules() if isinstance(m, QuantizedEmbedding)]
    linear = sum(layer.in_features * layer.out_features for layer in own)
    return linear + sum(table.num_embeddings * table.embedding_dim for table in tables)


def weights_of(layer: nn.Module) -> Tensor | None:
    """The weight (O, I) of a layer that can be quantized; GPT-2 keeps its own turned. None for any other layer."""
    if type(layer) is nn.Linear:
        return layer.weight
    if type(layer).__name__ == "Conv1D":
        assert isinstance(layer.weight, Tensor)
        return layer.weight.T
    return None


def linear_layers(model: Any) -> Iterator[tuple[str, nn.Module]]:
    """The layers that are quantized, with their names: every matrix but the output head."""
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if module is not head and weights_of(module) is not None:
            yield name, module


def fitting_group(inputs: int, group: int) -> int:
    """The largest divisor of ``inputs`` that is at most ``group`` and even, or the whole row."""
    return next((size for size in range(min(group, inputs), 1, -1) if inputs % size == 0 and size % 2 == 0), inputs)


def hollow(model: Any, bits: int, group: int, tied: bool) -> None:
    """Put empty quantized layers in the places of a model's own, in the order that :func:`linear_layers` gives.

    An embedding that does more than look up (Gemma's scales) stays as it is, and the head with it.
    """
    for name, layer in list(linear_layers(model)):
        weight_OI = weights_of(layer)
        assert weight_OI is not None
        outputs, inputs = weight_OI.shape
        size = fitting_group(inputs, group) if bits == 4 else 0
        model.set_submodule(name, QuantizedLinear(inputs, outputs, bits, size, layer.bias is not None))
    old, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not plain_ends(model):
        return
    embedding = QuantizedEmbedding(old.num_embeddings, old.embedding_dim, model.dtype)
    model.set_input_embeddings(embedding)
    if tied:
        model.set_output_embeddings(TiedHead(embedding))
    else:
        apart = QuantizedLinear(head.in_features, head.out_features, 8, 0, head.bias is not None)
        model.set_output_embeddings(apart)


def plain_ends(model: Any) -> bool:
    """Whether embedding and head are a table and a matrix and nothing more."""
    return type(model.get_input_embeddings()) is nn.Embedding and type(model.get_output_embeddings()) is nn.Linear


def is_tied(model: Any) -> bool:
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def dequantize(model: Any, dtype: torch.dtype | None = None) -> Any:
    """The model with ordinary layers of the rounded weights, as plain transformers knows them; changes ``model``."""
    dtype = dtype or model.dtype
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, QuantizedLinear)]
    for name, layer in layers:
        model.set_submodule(name, _plain(layer, dtype))
    if isinstance(embedding, QuantizedEmbedding):
        table_VD = embedding(torch.arange(embedding.num_embeddings, device=embedding.weight.device)).to(dtype)
        model.set_input_embeddings(nn.Embedding(table_VD.shape[0], table_VD.shape[1], _weight=table_VD))
    if isinstance(head, TiedHead):
        model.get_output_embeddings().weight = model.get_input_embeddings().weight
        model.config.tie_word_embeddings = True
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.is_quantized = False
    return model


def _plain(layer: QuantizedLinear, dtype: torch.dtype) -> nn.Linear:
    made = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    made.weight = nn.Parameter(layer.dequantized(dtype))
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.to(dtype))
    return made


def store_as(model: Any, dtype: torch.dtype) -> Any:
    """What is no code goes to ``dtype``, but for scales; changes ``model``."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if isinstance(module, QuantizedEmbedding):
            module.dtype = dtype
    model.config.dtype = dtype
    return model

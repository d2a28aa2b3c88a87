"""A model's weights in 8 or 4 bits, by a choice of rounding.

Legend: O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tinyforge.compress.blocks import Rows, blocks_of, observe
from tinyforge.compress.gptq import gptq
from tinyforge.compress.rounding import Grid, round_to_nearest
from tinyforge.models.quantized import (
    QuantizedEmbedding,
    QuantizedLinear,
    TiedHead,
    fitting_group,
    hollow,
    is_tied,
    linear_layers,
    pack,
    plain_ends,
    weights_of,
)

METHODS = ("rtn", "gptq")
Rounded = dict[str, tuple[Tensor, Grid]]


def quantize(
    model: Any,
    bits: int,
    group: int,
    method: str,
    rows: Rows = (),
    tell: Callable[[int, int], None] = lambda a, b: None,
) -> Any:
    """The model with its matrices as codes; changes ``model``. ``tell`` hears of each block that is done.

    ``method`` rtn rounds each weight to the nearest point; gptq needs calibration ``rows``. Embedding and head are
    rounded to 8 bits either way. A layer outside the blocks is always rounded to the nearest.
    """
    from tinyforge.models.quantizer import WeightOnlyConfig, register

    register()
    names = {id(layer): name for name, layer in linear_layers(model)}
    rounded: Rounded = {}
    if method == "gptq":
        rounded = _by_block(model, names, bits, group, rows, tell)
    for name, layer in linear_layers(model):
        if name not in rounded:
            rounded[name] = round_to_nearest(_weight(layer), bits, _group(layer, bits, group))
    tied, ends, biases = is_tied(model), plain_ends(model), {n: _bias(layer) for n, layer in linear_layers(model)}
    old = model.get_input_embeddings(), model.get_output_embeddings()
    hollow(model, bits, group, tied)
    for name, (codes, grid) in rounded.items():
        _fill(model.get_submodule(name), codes, grid, biases[name])
    if ends:
        _fill_ends(model, *old)
    model.config.quantization_config = WeightOnlyConfig(bits, group if bits == 4 else 0, method, tied and ends)
    if ends:
        model.config.tie_word_embeddings = False  # nothing that transformers could tie; the head is the embedding
    return model.eval()


def _weight(layer: nn.Module) -> Tensor:
    weight_OI = weights_of(layer)
    assert weight_OI is not None
    return weight_OI.detach()


def _bias(layer: nn.Module) -> Tensor | None:
    bias = layer.bias
    assert bias is None or isinstance(bias, Tensor)
    return bias


def _group(layer: nn.Module, bits: int, group: int) -> int:
    return fitting_group(_weight(layer).shape[1], group) if bits == 4 else 0


def _by_block(
    model: Any, names: dict[int, str], bits: int, group: int, rows: Rows, tell: Callable[[int, int], None]
) -> Rounded:
    """Block after block: each is calibrated on what the rounded ones before it give, as it will be when it is used."""
    rounded: Rounded = {}
    blocks = blocks_of(model)
    for number, block in enumerate(blocks, 1):
        layers = {names[id(layer)]: layer for layer in block.modules() if id(layer) in names}
        sums = {name: torch.zeros(2 * (_weight(layer).shape[1],)) for name, layer in layers.items()}
        _sum_squares(model, rows, layers, sums, block)
        with _one_thread():
            for name, layer in layers.items():
                codes, grid = gptq(_weight(layer), sums[name], bits, _group(layer, bits, group))
                rounded[name] = codes, grid
                _replace(layer, codes, grid)
        tell(number, len(blocks))
    return rounded


def _sum_squares(
    model: Any, rows: Rows, layers: dict[str, nn.Module], sums: dict[str, Tensor], block: nn.Module
) -> None:
    """Add ``x x^T`` of what each layer reads to its (I, I) in ``sums``."""

    def see(name: str, x: Tensor) -> None:
        sums[name].addmm_(x.T, x)

    observe(model, rows, layers, see, until=block)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Column by column there is too little in a step to share: threads would wait for each other at every one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _replace(layer: nn.Module, codes: Tensor, grid: Grid) -> None:
    """Let the layer compute with the rounded weights from here on."""
    values = grid.values(codes.view(codes.shape[0], grid.scale.shape[1], -1)).view(codes.shape)
    _weight(layer).copy_(values)


def _fill(layer: QuantizedLinear, codes: Tensor, grid: Grid, bias: Tensor | None) -> None:
    layer.weight = (pack(codes.to(torch.uint8)) if layer.bits == 4 else codes.to(torch.int8)).flatten()
    layer.scale = grid.scale.to(layer.scale.dtype)
    if layer.zero is not None:
        layer.zero = grid.zero.to(torch.uint8)
    if bias is not None:
        layer.bias = bias.detach().clone()


def _fill_ends(model: Any, old_embedding: Any, old_head: Any) -> None:
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, QuantizedEmbedding)
    codes, grid = round_to_nearest(old_embedding.weight.detach(), 8, 0)
    embedding.weight, embedding.scale = codes.to(torch.int8).flatten(), grid.scale
    if not isinstance(head, TiedHead):
        _fill(head, *round_to_nearest(old_head.weight.detach(), 8, 0), old_head.bias)

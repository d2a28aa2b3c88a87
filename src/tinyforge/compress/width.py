"""Take attention heads and MLP neurons out of every block: those that add least to what the block writes.

All blocks keep equally many, as one configuration speaks for all of them; which ones differs from block to block.

Legend: T tokens, H query heads, K key heads, W width of a head, D width of the model, I width of the MLP.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tinyforge.compress.blocks import Rows, blocks_of, observe
from tinyforge.compress.depth import rebuild
from tinyforge.errors import InputError

MULTIPLE = 16  # neurons: a width that the machine's vector units fill


def _parts(model: Any, path: str, names: tuple[str, ...]) -> list[dict[str, nn.Linear]]:
    """Those layers of each block. Raises InputError where a block has others."""
    found = []
    for block in blocks_of(model):
        part = getattr(block, path, None)
        layers = {name: getattr(part, name, None) for name in names}
        if not all(type(layer) is nn.Linear for layer in layers.values()):
            raise InputError(
                f"{type(model).__name__}: its blocks are not built of {', '.join(names)}, so that they cannot be "
                "narrowed.",
                "Remove whole blocks: --depth N.",
            )
        found.append(layers)
    return found  # type: ignore[return-value]


def attention_of(model: Any) -> list[dict[str, nn.Linear]]:
    return _parts(model, "self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"))


def mlps_of(model: Any) -> list[dict[str, nn.Linear]]:
    return _parts(model, "mlp", ("gate_proj", "up_proj", "down_proj"))


def group_importance(model: Any, rows: Rows) -> list[Tensor]:
    """For each block and key head (K): the squared length of what its query heads write, summed over the tokens.

    A head writes ``W_o[:, head] x_head``; its squared length over all tokens is ``tr(W S W^T)``, with S the sum of
    ``x x^T``.
    """
    parts, config = attention_of(model), model.config
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    width = parts[0]["o_proj"].in_features // heads
    sums = {str(n): torch.zeros(heads, width, width) for n in range(len(parts))}

    def see(name: str, x: Tensor) -> None:
        x_HTW = x.view(len(x), heads, width).transpose(0, 1)
        sums[name] += x_HTW.transpose(1, 2) @ x_HTW

    observe(model, rows, {str(n): part["o_proj"] for n, part in enumerate(parts)}, see)
    found = []
    for number, part in enumerate(parts):
        weight_HDW = part["o_proj"].weight.detach().float().view(-1, heads, width).transpose(0, 1)
        written_H = ((weight_HDW @ sums[str(number)]) * weight_HDW).sum((1, 2))
        found.append(written_H.view(keys, heads // keys).sum(1))
    return found


def neuron_importance(model: Any, rows: Rows) -> list[Tensor]:
    """For each block and neuron (I): the squared length of what it writes, summed over the tokens."""
    parts = mlps_of(model)
    sums = {str(n): torch.zeros(part["down_proj"].in_features) for n, part in enumerate(parts)}

    def see(name: str, x: Tensor) -> None:
        sums[name] += x.square().sum(0)

    observe(model, rows, {str(n): part["down_proj"] for n, part in enumerate(parts)}, see)
    columns = [part["down_proj"].weight.detach().float().square().sum(0) for part in parts]
    return [sums[str(number)] * column for number, column in enumerate(columns)]


def _kept(importance: Tensor, count: int) -> Tensor:
    return importance.topk(count).indices.sort().values


def narrow_heads(model: Any, share: float, rows: Rows) -> Any:
    """A model without about ``share`` of the query heads; a key head goes with all the query heads that read it.

    How many are left is the number nearest to that which the architecture allows: transformers takes some only where
    the model's width is a multiple of it.
    """
    parts = attention_of(model)
    keys, heads = model.config.num_key_value_heads, model.config.num_attention_heads
    width = parts[0]["o_proj"].in_features // heads
    config = _with_fewer_heads(model.config, share, width)
    count = config.num_key_value_heads
    state = model.state_dict()
    names = {id(module): name for name, module in model.named_modules()}
    for part, importance in zip(parts, group_importance(model, rows), strict=True):
        groups = _kept(importance, count)
        key_rows = (groups[:, None] * width + torch.arange(width)).flatten()
        per_key = heads // keys * width
        query_rows = (groups[:, None] * per_key + torch.arange(per_key)).flatten()
        for name, rows_kept in (("q_proj", query_rows), ("k_proj", key_rows), ("v_proj", key_rows)):
            _slice(state, names[id(part[name])], rows_kept, 0)
        _slice(state, names[id(part["o_proj"])], query_rows, 1)
    return rebuild(model, config, state)


def _with_fewer_heads(config: Any, share: float, width: int) -> Any:
    """Raises InputError when the share would remove no head, or all."""
    keys, per_key = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
    wanted = keys - share * keys
    for count in sorted(range(1, keys), key=lambda count: abs(count - wanted)):
        heads = {"num_key_value_heads": count, "num_attention_heads": per_key * count, "head_dim": width}
        try:
            return type(config).from_dict({**config.to_dict(), **heads})
        except Exception:  # each architecture refuses in its own way
            continue
    raise InputError(f"--heads {share:g}: there are {keys} key heads, none to remove.", "Leave --heads away.")


def _between(step: int, whole: int) -> str:
    return f"Give a share from {step / whole:.2f} to {1 - step / whole:.2f}."


def narrow_mlp(model: Any, share: float, rows: Rows) -> Any:
    """A model whose MLPs lack about ``share`` of their neurons; what is left is a multiple of MULTIPLE."""
    parts = mlps_of(model)
    whole = parts[0]["down_proj"].in_features
    step = MULTIPLE if whole >= 4 * MULTIPLE else 1
    count = round((1 - share) * whole / step) * step
    if not 0 < count < whole:
        raise InputError(f"--width {share:g} of {whole} neurons leaves {count}.", _between(step, whole))
    state = model.state_dict()
    names = {id(module): name for name, module in model.named_modules()}
    for part, importance in zip(parts, neuron_importance(model, rows), strict=True):
        kept = _kept(importance, count)
        for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1)):
            _slice(state, names[id(part[name])], kept, axis)
    config = copy.deepcopy(model.config)
    config.intermediate_size = count
    return rebuild(model, config, state)


def _slice(state: dict[str, Tensor], layer: str, kept: Tensor, axis: int) -> None:
    state[f"{layer}.weight"] = state[f"{layer}.weight"].index_select(axis, kept)
    if axis == 0 and f"{layer}.bias" in state:
        state[f"{layer}.bias"] = state[f"{layer}.bias"][kept]

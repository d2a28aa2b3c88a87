"""Take whole blocks out of a decoder: those that change the stream least.

Legend: T tokens, D width.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from tinyforge.compress.blocks import Rows, block_streams, blocks_of
from tinyforge.errors import InputError


def block_influence(model: Any, rows: Rows) -> list[float]:
    """For each block 1 - cos(input, output), averaged over the tokens of ``rows`` (Men et al. 2024, ShortGPT, eq. 1).

    0 means that the block leaves the direction of the stream as it is.
    """
    sums = [0.0] * len(blocks_of(model))
    tokens = 0
    for streams in block_streams(model, rows):
        tokens += len(streams[0][0])
        for number, (before_TD, after_TD) in enumerate(streams):
            cosine_T = nn.functional.cosine_similarity(before_TD, after_TD, dim=-1)
            sums[number] += float((1 - cosine_T).sum())
    return [total / tokens for total in sums]


def least_influential(influence: Sequence[float], count: int) -> list[int]:
    """The numbers of the ``count`` blocks with the least influence, in order. InputError when none would be left."""
    if not 0 < count < len(influence):
        raise InputError(
            f"{count} of {len(influence)} blocks cannot be removed.", f"Give --depth 1 to {len(influence) - 1}."
        )
    return sorted(sorted(range(len(influence)), key=lambda number: influence[number])[:count])


def drop_blocks(model: Any, drop: Collection[int]) -> Any:
    """A model of the remaining blocks, as a plain one of its own class with fewer layers.

    Raises InputError for a block that the model does not have.
    """
    blocks = blocks_of(model)
    unknown = sorted(number for number in drop if not 0 <= number < len(blocks))
    if unknown:
        raise InputError(f"there is no block {unknown[0]}.", f"Its blocks are 0 to {len(blocks) - 1}.")
    return keep_blocks(model, [number for number in range(len(blocks)) if number not in set(drop)])


def keep_blocks(model: Any, keep: Sequence[int]) -> Any:
    """A model of the blocks ``keep``, in that order."""
    blocks = blocks_of(model)
    if not keep:
        raise InputError("no block would be left.", "Keep at least one.")
    prefix = next(name for name, module in model.named_modules() if module is blocks)
    config = copy.deepcopy(model.config)
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == len(blocks):  # one entry for each block, as in layer_types
            setattr(config, name, [value[number] for number in keep])
    config.num_hidden_layers = len(keep)
    places = {number: place for place, number in enumerate(keep)}
    inside = re.compile(re.escape(prefix) + r"\.(\d+)\.(.*)")
    state = {}
    for name, tensor in model.state_dict().items():
        found = inside.fullmatch(name)
        if found is None:
            state[name] = tensor
        elif int(found[1]) in places:
            state[f"{prefix}.{places[int(found[1])]}.{found[2]}"] = tensor
    return rebuild(model, config, state)


def rebuild(model: Any, config: Any, state: dict[str, torch.Tensor]) -> Any:
    """A model of the same class and dtype in the shape of ``config`` with the weights ``state``."""
    made = type(model)(config).to(model.dtype)
    made.load_state_dict(state, strict=True)
    made.generation_config = copy.deepcopy(model.generation_config)
    return made.eval()

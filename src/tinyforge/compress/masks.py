"""Single weights set to zero, for study: the model keeps its shape, its size and its speed.

Legend: O outputs, I inputs, S inputs of a group.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tinyforge.compress.blocks import Rows, observe
from tinyforge.errors import InputError
from tinyforge.models.quantized import linear_layers, weights_of

SCORES = ("wanda", "magnitude")


def parse_pattern(text: str) -> tuple[int, int]:
    """``2:4``: 2 of every 4 inputs are kept. Raises InputError for anything else."""
    kept, _, of = text.partition(":")
    if not (kept.isdigit() and of.isdigit() and 0 < int(kept) < int(of)):
        raise InputError(f"--pattern {text}: is no pattern.", "Give KEPT:OF, such as 2:4.")
    return int(kept), int(of)


def mask(score_OI: Tensor, share: float, pattern: tuple[int, int] | None) -> Tensor:
    """Which weights stay: in each row all but the ``share`` of least score, or so many of each group of inputs."""
    outputs, inputs = score_OI.shape
    kept, of = pattern or (inputs - int(share * inputs), inputs)
    if inputs % of:
        raise InputError(f"a layer of {inputs} inputs has no groups of {of}.", "Use --unstructured SHARE.")
    grouped = score_OI.view(outputs, -1, of)
    best = grouped.topk(kept, dim=-1).indices
    stays = torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, best, True)
    return stays.view(outputs, inputs)


def prune_weights(model: Any, share: float, pattern: tuple[int, int] | None, scores: str, rows: Rows) -> float:
    """Set weights of every matrix but embedding and head to zero; returns the share of zeros among theirs.

    ``wanda`` scores a weight by |w| times the length of its input over the ``rows`` (Sun et al. 2024,
    arXiv:2306.11695), ``magnitude`` by |w| alone; either compares the weights of one output.
    """
    layers = dict(linear_layers(model))
    sums: dict[str, Tensor] = {}

    def see(name: str, x: Tensor) -> None:
        sums[name] = sums.get(name, torch.zeros(x.shape[1])) + x.square().sum(0)

    if scores == "wanda":
        observe(model, rows, layers, see)
    zeros = total = 0
    for name, layer in layers.items():
        weight_OI = weights_of(layer)
        assert weight_OI is not None
        score_OI = weight_OI.detach().float().abs() * (sums[name].sqrt() if scores == "wanda" else 1.0)
        stays = mask(score_OI, share, pattern)
        with torch.no_grad():
            weight_OI.mul_(stays)
        zeros, total = zeros + int((~stays).sum()), total + stays.numel()
    return zeros / total

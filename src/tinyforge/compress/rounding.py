"""From weights to codes: where the grid lies, and rounding to the nearest point of it.

Legend: O outputs, I inputs, G groups of a row, S inputs of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SHRINKS = torch.linspace(1.0, 0.6, 17)
"""How far the range of a group is narrowed in the search for the least squared error."""


@dataclass(frozen=True)
class Grid:
    """``weight = scale * (code - zero)``, ``low <= code <= high``; scale and zero (O, G), float32."""

    scale: Tensor
    zero: Tensor
    low: int
    high: int

    def codes(self, weight_OGS: Tensor) -> Tensor:
        points = torch.round(weight_OGS / self.scale[..., None]) + self.zero[..., None]
        return points.clamp(self.low, self.high)

    def values(self, codes_OGS: Tensor) -> Tensor:
        return (codes_OGS - self.zero[..., None]) * self.scale[..., None]


def grid_of(weight_OGS: Tensor, bits: int, search: bool = False) -> Grid:
    """The grid of each group: symmetric in 8 bits, from its least to its greatest weight in 4.

    With ``search`` the range is narrowed to where the squared error is least: rounding the many a little better can
    be worth cutting off the few.
    """
    if not search:
        return _grid(weight_OGS, bits, 1.0)
    best = _grid(weight_OGS, bits, 1.0)
    least = _error(weight_OGS, best)
    for shrink in SHRINKS[1:].tolist():
        tried = _grid(weight_OGS, bits, shrink)
        error = _error(weight_OGS, tried)
        better = error < least
        least = torch.where(better, error, least)
        scale, zero = torch.where(better, tried.scale, best.scale), torch.where(better, tried.zero, best.zero)
        best = Grid(scale, zero, best.low, best.high)
    return best


def _error(weight_OGS: Tensor, grid: Grid) -> Tensor:
    return (grid.values(grid.codes(weight_OGS)) - weight_OGS).square().sum(-1)


def _grid(weight_OGS: Tensor, bits: int, shrink: float) -> Grid:
    if bits == 8:
        scale = (weight_OGS.abs().amax(-1) * shrink / 127).clamp(min=torch.finfo(torch.float32).tiny)
        return Grid(scale, torch.zeros_like(scale), -127, 127)
    low, high = weight_OGS.amin(-1).clamp(max=0) * shrink, weight_OGS.amax(-1).clamp(min=0) * shrink
    # As it will be kept: the codes must be those of the rounded scale. 6e-8 is the least that float16 holds.
    scale = ((high - low) / 15).clamp(min=1e-7).half().float()
    return Grid(scale, torch.round(-low / scale).clamp(0, 15), 0, 15)


def round_to_nearest(weight_OI: Tensor, bits: int, group: int, search: bool = False) -> tuple[Tensor, Grid]:
    """Codes (O, I) and the grid; ``group`` 0 is one group for a whole row."""
    grouped = weight_OI.float().view(weight_OI.shape[0], -1, group or weight_OI.shape[1])
    grid = grid_of(grouped, bits, search)
    return grid.codes(grouped).view(weight_OI.shape), grid

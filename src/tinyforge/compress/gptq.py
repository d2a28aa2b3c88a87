"""Rounding that makes good its own error (Frantar et al. 2022, GPTQ, arXiv:2210.17323).

The inputs of a row are rounded one after the other; the error of each, as the layer's outputs feel it on calibration
data, is taken up by those that are still to come. How much each takes is in the Cholesky factor of the inverse Hessian.

Legend: O outputs, I inputs, S inputs of a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tinyforge.compress.rounding import Grid, grid_of

DAMPING = 0.01  # of the Hessian's mean diagonal, as in the paper
LAZY = 128  # columns after which the error is carried on to all the rest at once


def upper_inverse(hessian_II: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse Hessian, float32; inputs that were never seen count for nothing.

    Raises torch.linalg.LinAlgError when the Hessian cannot be inverted even so.
    """
    hessian = hessian_II.double().clone()
    diagonal = hessian.diagonal()
    unseen = diagonal == 0
    diagonal[unseen] = 1.0
    diagonal += DAMPING * diagonal.mean()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return factor


def gptq(weight_OI: Tensor, hessian_II: Tensor, bits: int, group: int) -> tuple[Tensor, Grid]:
    """Codes (O, I) and the grid, as :func:`round_to_nearest`; ``hessian_II`` is the sum of ``x x^T`` over the inputs.

    The grid of a group is laid when its first column is reached, over what the errors so far have made of the weights.
    """
    weight = weight_OI.float().clone()
    outputs, inputs = weight.shape
    size = group or inputs
    factor = upper_inverse(hessian_II)
    weight[:, hessian_II.diagonal() == 0] = 0
    codes = torch.empty_like(weight)
    grids: list[Grid] = []
    grid = grid_of(weight[:, None, :size], bits, search=True)
    for start in range(0, inputs, LAZY):
        end = min(start + LAZY, inputs)
        errors = torch.zeros(outputs, end - start)
        for column in range(start, end):
            if column % size == 0:
                # A group may reach past the columns that the errors so far were carried to.
                ahead = weight[:, column : column + size].clone()
                if column + size > end:
                    ahead[:, end - column :] -= errors[:, : column - start] @ factor[start:column, end : column + size]
                grid = grid_of(ahead[:, None], bits, search=True)
                grids.append(grid)
            found = grid.codes(weight[:, column, None, None])
            codes[:, column] = found[:, 0, 0]
            error = (weight[:, column] - grid.values(found)[:, 0, 0]) / factor[column, column]
            weight[:, column:end] -= error[:, None] * factor[column, column:end]
            errors[:, column - start] = error
        weight[:, end:] -= errors @ factor[start:end, end:]
    joined = Grid(torch.cat([g.scale for g in grids], 1), torch.cat([g.zero for g in grids], 1), grid.low, grid.high)
    return codes, joined

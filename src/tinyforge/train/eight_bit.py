"""AdamW with its two moments in 8 bits (Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization").

bitsandbytes does the arithmetic, on a CPU and on a GPU: each block of 256 values has its own scale, and the 256 levels
are spaced as a floating-point number with an exponent of changing length ("dynamic"). Two bytes and two 256ths of a
float per weight are kept instead of eight bytes. A tensor of fewer than SMALLEST values stays in float32.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from tinyforge.errors import InputError

SMALLEST = 4096  # values; what smaller ones would save is nothing, and norms and biases are sensitive
_MOMENTS = ("state1", "state2")
_SCALES = ("absmax1", "absmax2")


def adamw(groups: list[dict[str, Any]], learning_rate: float, betas: tuple[float, float], eps: float) -> Any:
    """The optimizer, a ``torch.optim.Optimizer``. Raises InputError when bitsandbytes is missing."""
    if find_spec("bitsandbytes") is None:
        raise InputError(
            "train.optimizer_bits = 8 needs bitsandbytes, which is not installed.",
            'Run: pip install "tinyforgeai[qlora]", or leave it at 32.',
        )
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)  # warns of a kernel not used here
    library: Any = import_module("bitsandbytes.optim")
    return library.AdamW8bit(groups, lr=learning_rate, betas=betas, eps=eps, min_8bit_size=SMALLEST)


def names(master: Tensor) -> tuple[str, ...]:
    """What is kept of a weight: its moments as bytes, the scales of their blocks, and the number of steps."""
    return (*_MOMENTS, "step") if master.numel() < SMALLEST else (*_MOMENTS, *_SCALES, "step")


def restored(optimizer: Any, found: dict[str, Tensor]) -> dict[str, Any]:
    """The optimizer's own state of a weight from the tensors of :func:`names`; the levels are the same for all."""
    state: dict[str, Any] = {**found, "step": int(found["step"])}
    if _SCALES[0] in found:
        device = found[_MOMENTS[0]].device
        levels = {key: optimizer.name2qmap[key].to(device) for key in ("dynamic", "udynamic")}
        state |= {"qmap1": levels["dynamic"], "qmap2": levels["udynamic"]}
    return state


def as_tensor(value: Any) -> Tensor:
    """A part of the state as a tensor; bitsandbytes counts steps in a plain integer."""
    return value if isinstance(value, Tensor) else torch.tensor(value)

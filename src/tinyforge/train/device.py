"""Where a training runs: the processor, or a GPU; and what has to be there for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import psutil
import torch
from torch import Tensor

from tinyforge.environment import worker
from tinyforge.errors import InputError


def choose_device(wanted: str) -> torch.device:
    """The device of this worker for ``train.device``; ``auto`` takes a CUDA GPU when there is one, else the CPU.

    Raises InputError when it is not there, or the workers are more than the GPUs: one GPU serves one of them.
    """
    here = worker()
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if wanted == "mps":
        if not torch.backends.mps.is_available():
            raise _missing("mps", "Apple's Metal")
        if here.size > 1:
            raise InputError("train.device = mps trains with one process.", "Leave --processes out, or use cpu.")
        return torch.device("mps")
    if not torch.cuda.is_available():
        raise _missing("cuda", "CUDA")
    if here.local_size > torch.cuda.device_count():
        raise InputError(
            f"{here.local_size} processes on this machine, but {torch.cuda.device_count()} GPUs.",
            "Start as many processes as there are GPUs, or train on the CPU: --set train.device=cpu",
        )
    return torch.device("cuda", here.local_rank)


def _missing(name: str, what: str) -> InputError:
    return InputError(
        f"train.device = {name}: this torch ({torch.__version__}) finds no {what} device.",
        "Use --set train.device=cpu, or install a torch build for it.",
    )


def claim(device: torch.device) -> None:
    """Make a GPU the one that this process's collectives and kernels use."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def device_of(model: Any) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def place(value: Any, device: torch.device) -> Any:
    """A batch with its tensors on the device: they may lie in dataclasses and tuples inside it."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(place(part, device) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: place(getattr(value, field.name), device) for field in fields(value)})
    return value


def place_state(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A checkpoint's tensors on the device; counters, which optimizers keep on the CPU, stay there."""
    return {name: tensor.to(device) if tensor.ndim else tensor for name, tensor in tensors.items()}


def memory_mb(device: torch.device) -> float:
    """Megabytes (2**20) in use: resident on a CPU, on a GPU the most that tensors have taken so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


class Placed:
    """An objective whose batches arrive on the model's device; otherwise it is ``inner``."""

    def __init__(self, inner: Any, device: torch.device) -> None:
        self._inner, self._device = inner, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def collate(self, rows: Any) -> Any:
        return place(self._inner.collate(rows), self._device)

    def prepare(self, model: Any) -> None:
        prepare = getattr(self._inner, "prepare", None)
        if prepare is not None:
            prepare(model)

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        found: tuple[Tensor, int, dict[str, float]] = self._inner.loss(model, batch)
        return found

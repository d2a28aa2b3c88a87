"""Checkpoints that survive a kill at any instant: staged, hashed, flushed, then renamed. Safetensors and JSON only."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinyforge.errors import InputError
from tinyforge.run import hash_file, read_json, write_folder_atomic, write_json

KEPT = 2
TENSORS, STATE = "state.safetensors", "state.json"


@dataclass
class Progress:
    """Where a training is: everything besides tensors that the next step depends on.

    ``step`` counts finished optimizer steps. ``stale`` counts dev measurements since the best one.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_loss: float = float("inf")
    stale: int = 0


def save(folder: Path, progress: Progress, tensors: dict[str, Tensor], key: str) -> None:
    """Write ``folder/step-NNNNNNN`` and keep it with the one before; ``key`` names the training it belongs to."""

    def write(temporary: Path) -> None:
        save_file({"rng.torch": torch.get_rng_state(), **tensors}, temporary / TENSORS)
        state = {"key": key, "progress": asdict(progress), "sha256": hash_file(temporary / TENSORS)}
        write_json(temporary / STATE, state)

    write_folder_atomic(folder / f"step-{progress.step:07d}", write)
    for old in _found(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def _found(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*")) if folder.exists() else []


def load_newest(folder: Path, key: str) -> tuple[Progress, dict[str, Tensor], list[str]] | None:
    """The newest undamaged checkpoint of this training, with one line for each damaged one passed over.

    Sets torch's random state. Checkpoints of another training (a different key) are removed: they cannot be
    continued, and would otherwise be mistaken for this one's.
    """
    damaged: list[str] = []
    for path in reversed(_found(folder)):
        try:
            state = read_json(path / STATE)
            intact = hash_file(path / TENSORS) == state["sha256"]
        except (InputError, OSError, KeyError):
            intact = False
        if not intact:
            damaged.append(f"{path.name} is damaged; the one before it is used")
            shutil.rmtree(path, ignore_errors=True)
            continue
        if state["key"] != key:
            shutil.rmtree(path, ignore_errors=True)
            continue
        tensors = load_file(path / TENSORS)
        torch.set_rng_state(tensors.pop("rng.torch"))
        return Progress(**state["progress"]), tensors, damaged
    return None


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)

"""Checkpoints that survive a kill at any instant: staged, hashed, flushed, then renamed. Safetensors and JSON only.

step-NNNNNNN/   state.safetensors: masters, optimizer, random states; state.json: the key of the training, its
                progress, the hash of the tensors, and a seal over all of that
best-NNNNNNN.safetensors
                the weights of the best dev loss so far; its hash is in the progress of the checkpoints that need it
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinyforge.errors import InputError
from tinyforge.run import (
    explain_os_error,
    hash_file,
    hash_json,
    write_file_atomic,
    write_folder_atomic,
    write_json,
)
from tinyforge.train.distributed import ALONE, World

KEPT = 2
TENSORS, STATE = "state.safetensors", "state.json"


@dataclass
class Progress:
    """Where a training is: everything besides tensors that the next step depends on.

    ``step`` counts finished optimizer steps, which is also the place in the data. ``stale`` counts dev measurements
    since the best one; ``best_hash`` is of the file that holds the best weights. ``losses`` is what ``watch.Losses``
    keeps.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best_step: int = -1
    best_loss: float = float("inf")
    best_hash: str = ""
    stale: int = 0
    losses: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, progress: Progress, tensors: dict[str, Tensor], key: str, world: World = ALONE) -> None:
    """Write ``folder/step-NNNNNNN`` and keep it with the one before; ``key`` names the training it belongs to.

    All workers of a training call this, for the random states of each are kept; the first writes.
    """
    everything = {**_all_random_states(world), **tensors}
    if not world.first:
        return

    def write(temporary: Path) -> None:
        save_file(everything, temporary / TENSORS)
        state = {"key": key, "processes": world.size, "progress": asdict(progress)}
        state["sha256"] = hash_file(temporary / TENSORS)
        write_json(temporary / STATE, {**state, "seal": hash_json(state)})

    write_folder_atomic(folder / f"step-{progress.step:07d}", write, _bytes(everything))
    _prune(folder, key)


def save_best(folder: Path, progress: Progress, tensors: dict[str, Tensor], world: World = ALONE) -> None:
    """Write the best weights so far and note their step and hash in ``progress``.

    Earlier ones go once no checkpoint needs them.
    """
    path = best_path(folder, progress.step)
    write_file_atomic(path, lambda temporary: save_file(tensors, temporary), _bytes(tensors))
    progress.best_step, progress.best_hash = progress.step, world.on_first(lambda: hash_file(path))


def load_best(folder: Path, progress: Progress) -> dict[str, Tensor]:
    return load_file(best_path(folder, progress.best_step))


def best_path(folder: Path, step: int) -> Path:
    """Where :func:`save_best` writes."""
    return folder / f"best-{step:07d}.safetensors"


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def found(folder: Path) -> list[Path]:
    """The checkpoints in the folder, oldest first; whether they can be used is not looked at."""
    return sorted(folder.glob("step-*"), key=lambda path: (len(path.name), path.name))


def _of(folder: Path, key: str) -> list[tuple[Path, dict[str, Any]]]:
    """The checkpoints of this training with their states, oldest first."""
    return [(path, state) for path in found(folder) if (state := _sealed(path)) and state["key"] == key]


def newest_path(folder: Path, key: str) -> Path | None:
    """The newest checkpoint of this training."""
    mine = _of(folder, key)
    return mine[-1][0] if mine else None


def _prune(folder: Path, key: str) -> None:
    """Keep the newest checkpoints of this training and the best weights that they name; remove the rest."""
    mine = _of(folder, key)
    needed = {path for path, _ in mine[-KEPT:]}
    for path in found(folder):
        if path not in needed:
            shutil.rmtree(path, ignore_errors=True)
    needed = {best_path(folder, state["progress"]["best_step"]) for _, state in mine[-KEPT:]}
    for path in folder.glob("best-*"):
        if path not in needed:
            path.unlink(missing_ok=True)


def _sealed(path: Path) -> dict[str, Any] | None:
    """The content of state.json, or None when it is missing or not as it was written."""
    try:
        state = json.loads((path / STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:  # not a damage: what cannot be read now must not be removed
        raise explain_os_error(error, path) from error
    if not isinstance(state, dict):
        return None
    seal = state.pop("seal", None)
    return state if seal == hash_json(state) else None


def _intact(path: Path, state: dict[str, Any]) -> bool:
    """Whether the tensors, and the best weights that the checkpoint names, are as they were written."""
    progress = Progress(**state["progress"])
    needed = {path / TENSORS: state["sha256"]}
    if progress.best_hash:
        needed[best_path(path.parent, progress.best_step)] = progress.best_hash
    return all(file.is_file() and hash_file(file) == expected for file, expected in needed.items())


def load_newest(
    folder: Path, key: str, note: Callable[[str], None], world: World = ALONE
) -> tuple[Progress, dict[str, Tensor]] | None:
    """The newest undamaged checkpoint of this training, or None; ``note`` is told of what is passed over.

    Sets the random states. A damaged one is removed. Those of another training (a different key) cannot be continued;
    they stay until this training writes its first, so that a person who reads the note can still go back. Raises
    InputError when it is of another number of processes, whose sums were rounded differently.
    """
    newest = world.on_first(lambda: _newest(folder, key, note, world.size))
    if newest is None:
        return None
    path = folder / newest["name"]
    tensors = load_file(path / TENSORS)
    _restore_random_states(_own_random_states(tensors, world))
    return Progress(**newest["progress"]), tensors


def _newest(folder: Path, key: str, note: Callable[[str], None], processes: int) -> dict[str, Any] | None:
    """The name and the progress of the checkpoint to continue from."""
    foreign = damaged = 0
    for path in reversed(found(folder)):
        state = _sealed(path)
        if state is not None and state["key"] != key:
            foreign += 1
        elif state is not None and _intact(path, state):
            _check_processes(path, state["processes"], processes)
            return {"name": path.name, "progress": state["progress"]}
        else:
            damaged += 1
            note(f"checkpoint {path.name} is damaged: removed, and the one before it is tried")
            shutil.rmtree(path, ignore_errors=True)
    if foreign:
        note("the checkpoints here are of a training with other data, settings, precision or threads: not continued")
    if damaged:
        note("no undamaged checkpoint is left: training starts again from the first step")
    return None


def _check_processes(path: Path, before: int, now: int) -> None:
    if before != now:
        raise InputError(
            f"{path}: was made by {before} {'processes' if before > 1 else 'process'}, and {now} would not continue it "
            "exactly.",
            f"Use --processes {before}, or remove {path.parent} to train again from the first step.",
        )


def _all_random_states(world: World) -> dict[str, Tensor]:
    """This worker's random states under their names, those of the others under ``worker.RANK.``."""
    own = _random_states()
    if world.size == 1:
        return own
    sent = world.gather({name: bytes(state.numpy()).hex() for name, state in own.items()})
    return {
        f"worker.{rank}.{name}" if rank else name: torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8)
        for rank, states in enumerate(sent)
        for name, state in states.items()
    }


def _own_random_states(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Takes the random states of all workers out of ``tensors``; returns this one's."""
    prefix = f"worker.{world.rank}." if world.rank else ""
    states = {name: tensors.pop(name) for name in list(tensors) if name.startswith(("rng.", "worker."))}
    return {name.removeprefix(prefix): state for name, state in states.items() if name.startswith(f"{prefix}rng.")}


def _random_states() -> dict[str, Tensor]:
    """The state of every source of random numbers: torch's, its GPUs', NumPy's and Python's."""
    kind, words, *rest = np.random.get_state()
    states = {
        "rng.torch": torch.get_rng_state(),
        "rng.numpy": _packed([kind, np.asarray(words).tolist(), *rest]),
        "rng.python": _packed(random.getstate()),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states |= {f"rng.cuda.{n}": state for n, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _restore_random_states(tensors: dict[str, Tensor]) -> None:
    """Takes the states out of ``tensors``."""
    torch.set_rng_state(tensors.pop("rng.torch"))
    np.random.set_state(tuple(_unpacked(tensors.pop("rng.numpy"))))
    version, words, normal = _unpacked(tensors.pop("rng.python"))
    random.setstate((version, tuple(words), normal))
    for name in [name for name in tensors if name.startswith("rng.cuda.")]:
        torch.cuda.set_rng_state(tensors.pop(name), int(name.rpartition(".")[2]))


def _packed(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _unpacked(tensor: Tensor) -> Any:
    return json.loads(tensor.numpy().tobytes())

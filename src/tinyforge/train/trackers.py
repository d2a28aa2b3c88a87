"""Report a training to the trackers that people already look at, through Accelerate's adapters to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError

if TYPE_CHECKING:
    from tinyforge.train.loop import Status

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
# Nothing leaves the machine and nothing is asked for, unless the person has set these otherwise.
_QUIET = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}


def open_trackers(names: Sequence[str], folder: Path, settings: dict[str, Any]) -> Callable[[Status], None]:
    """A function that reports each step's status to every tracker of ``names``, with files under ``folder``.

    ``settings`` are stored as the run's hyperparameters. Raises InputError for a name that is not known or whose
    package is not installed.
    """
    trackers = [_open(name, folder) for name in names]
    for tracker in trackers:
        tracker.store_init_configuration(_flat(settings))

    def report(status: Status) -> None:
        values = {
            "loss": status.loss,
            "learning_rate": status.learning_rate,
            "gradient_norm": status.gradient_norm,
            "tokens_per_second": status.tokens_per_second,
            "memory_mb": status.memory_mb,
            **status.metrics,
        }
        if status.dev_loss is not None:
            values["dev_loss"] = status.dev_loss
        for tracker in trackers:
            tracker.log(values, step=status.step)
            if status.step == status.total:
                tracker.finish()

    return report


def _open(name: str, folder: Path) -> Any:
    from importlib.util import find_spec

    if name not in PACKAGES:
        raise InputError(f"unknown tracker {name!r}.", f"Known: {', '.join(PACKAGES)}.")
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    os.environ.setdefault("WANDB_DIR", str(folder))
    # TensorBoard's writer also comes alone, as tensorboardX.
    found = find_spec(PACKAGES[name]) or (name == "tensorboard" and find_spec("tensorboardX"))
    if not found:
        raise InputError(f"train.trackers: {name} is not installed.", f"pip install {PACKAGES[name]}")
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState(cpu=True)  # Accelerate's trackers ask it which process may write
    kind = LOGGER_TYPE_TO_CLASS[name]
    folder.mkdir(parents=True, exist_ok=True)
    tracker = (
        kind(folder.parent.name, logging_dir=folder) if kind.requires_logging_directory else kind(folder.parent.name)
    )
    tracker.start()
    return tracker


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.name``, of the types that every tracker takes."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return found

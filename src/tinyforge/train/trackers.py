"""Report a training to the trackers that people already look at, through Accelerate's adapters to them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.run import read_json, write_json

if TYPE_CHECKING:
    from tinyforge.train.status import Status

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
# Nothing leaves the machine and nothing is asked for, unless the person has set these otherwise.
_QUIET = {
    "DO_NOT_TRACK": "1",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    "WANDB_CONSOLE": "off",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_DISABLE_GIT": "true",
    "WANDB_DISABLE_CODE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
}
# What torchrun tells a worker. Accelerate would join the other workers, and set the number of threads; but only one
# process reports, alone.
_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@contextmanager
def tracking(
    names: Sequence[str], folder: Path, key: str, settings: dict[str, Any]
) -> Iterator[Callable[[Status], None]]:
    """Gives a function that reports each step's status to every tracker of ``names``, with files under ``folder``.

    ``key`` names the training: reported to again, it goes on in the same place. ``settings`` are stored as its
    hyperparameters. The trackers are closed at the end, however it comes. Raises InputError for a name that is not
    known or whose package is not installed.
    """
    for name in names:
        _require(name)
    with ExitStack() as closing:
        trackers: list[Any] = []

        def report(status: Status) -> None:
            for name in names[len(trackers) :]:  # opened at the first report, which says where the training stands
                trackers.append(_open(name, folder, key, settings, status.step))
                closing.callback(trackers[-1].finish)
            for tracker in trackers:
                tracker.log(_values(status), step=status.step)

        yield report


def _values(status: Status) -> dict[str, float]:
    values = {
        "loss": status.loss,
        "learning_rate": status.learning_rate,
        "gradient_norm": status.gradient_norm,
        "tokens_per_second": status.tokens_per_second,
        "memory_mb": status.memory_mb,
        **status.metrics,
    }
    return values if status.dev_loss is None else {**values, "dev_loss": status.dev_loss}


def _require(name: str) -> None:
    from importlib.util import find_spec

    if name not in PACKAGES:
        raise InputError(f"train.trackers: unknown tracker {name!r}.", f"Known: {', '.join(PACKAGES)}.")
    # TensorBoard's writer also comes alone, as tensorboardX.
    if not (find_spec(PACKAGES[name]) or (name == "tensorboard" and find_spec("tensorboardX"))):
        raise InputError(f"train.trackers: {name} is not installed.", f"Run: pip install {PACKAGES[name]}")


def _open(name: str, folder: Path, key: str, settings: dict[str, Any], step: int) -> Any:
    """The tracker, open, where it stopped if it has heard of this training before.

    What it heard of ``step`` and later is of steps that were lost in a kill and are made again; TensorBoard drops it,
    the others keep the last value.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _be_alone(folder)
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    project, place = folder.resolve().parent.name, folder / f"{name}-{key[:8]}.json"
    known = read_json(place) if place.is_file() else {}
    arguments: dict[str, dict[str, Any]] = {
        "tensorboard": {"logging_dir": folder, "purge_step": step if known else None},
        "wandb": {"id": key[:16], "resume": "allow", "dir": str(folder)},
        "mlflow": {"run_id": known.get("run")},
        "trackio": {"name": key[:16], "resume": "allow"},
    }
    tracker = LOGGER_TYPE_TO_CLASS[name](
        f"{project}-{key[:8]}" if name == "tensorboard" else project, **arguments[name]
    )
    tracker.start()
    if not known:
        tracker.store_init_configuration(_flat(settings))
        run = tracker.tracker.info.run_id if name == "mlflow" else key[:16]
        write_json(place, {"run": run})
    return tracker


def _be_alone(folder: Path) -> None:
    """Set the trackers' switches, and tell Accelerate, which they ask who may write, that this process may."""
    from accelerate import PartialState

    places = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').resolve()}",
        "TRACKIO_DIR": str(folder.resolve() / "trackio"),
    }
    for variable, value in {**_QUIET, **places}.items():
        os.environ.setdefault(variable, value)
    told = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    try:
        PartialState(cpu=True)
    finally:
        os.environ.update(told)


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.name``, of the types that every tracker takes."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found.update(_flat(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value if isinstance(value, (int, float, str, bool)) else str(value)
    return found

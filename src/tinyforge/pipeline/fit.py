"""One training inside a run: the loop with the run's events, trackers and notes around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import TrainConfig
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, hash_json

if TYPE_CHECKING:
    from tinyforge.train.loop import Result, Rows, Status


def fit(
    job: Job,
    stage: str,
    key: str,
    *,
    model: Any,
    objective: Any,
    rows: Rows,
    dev: Rows | None,
    settings: TrainConfig,
    learning_rate: float,
    folder: Path,
    seed: int,
    machine: tuple[str, int],
    on_status: Callable[[Status], None],
    on_measure: Callable[[int], None] = lambda step: None,
) -> Result:
    """Train to the end, continuing from ``folder`` when it holds checkpoints of the same ``key`` and ``machine``.

    ``machine`` is the precision and the number of threads: other ones would round differently.
    """
    from tinyforge.train.loop import Training

    training = Training(
        model=model,
        objective=objective,
        rows=rows,
        dev=dev if dev is not None and len(dev) else None,
        config=settings,
        learning_rate=learning_rate,
        folder=folder,
        key=hash_json([key, *machine]),
        seed=seed,
        on_status=_reporting(job.run, settings, on_status),
        on_note=lambda note: job.say(stage, note),
        on_measure=on_measure,
    )
    return training.run()


def _reporting(run: Run, settings: TrainConfig, on_status: Callable[[Status], None]) -> Callable[[Status], None]:
    """``on_status`` that also writes each step to the run's events and to the trackers."""
    track: Callable[[Status], None] = lambda status: None  # noqa: E731
    if settings.trackers:
        from tinyforge.train.trackers import open_trackers

        track = open_trackers(settings.trackers, run.path("trackers"), settings.model_dump())

    def report(status: Status) -> None:
        run.event("step", **_rounded(asdict(status)))
        track(status)
        on_status(status)

    return report


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    rounded: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            rounded[name] = _rounded(value)
        else:
            rounded[name] = round(value, 6) if isinstance(value, float) else value
    return rounded

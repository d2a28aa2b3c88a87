"""One training inside a run: the loop with the run's events, trackers and notes around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import TrainConfig
from tinyforge.errors import TrainingError
from tinyforge.pipeline.fits import Around, state
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, hash_json

if TYPE_CHECKING:
    from tinyforge.train.rows import Rows
    from tinyforge.train.status import Result, Status


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
    around: Around | None = None,
) -> Result:
    """Train to the end, continuing from ``folder`` when it holds checkpoints of the same ``key`` and ``machine``.

    ``machine`` is the precision and the number of threads: other ones would round differently. A divergence is also
    written to the run's events.

    Its plan is stated first; raises InputError when it does not fit the machine. ``around`` is what the plan needs to
    know besides the training itself.
    """
    from tinyforge.train.device import device_of
    from tinyforge.train.loop import Training
    from tinyforge.train.trackers import tracking

    key = hash_json([key, *machine, device_of(model).type])
    names = settings.trackers if job.world.first else []
    with tracking(names, job.run.path("trackers"), key, settings.model_dump()) as track:
        training = Training(
            model=model,
            objective=objective,
            rows=rows,
            dev=dev if dev is not None and len(dev) else None,
            config=settings,
            learning_rate=learning_rate,
            folder=folder,
            key=key,
            seed=seed,
            on_status=_reporting(job.run, track, on_status) if job.world.first else lambda status: None,
            on_note=lambda note: job.say(stage, note),
            on_measure=on_measure,
            world=job.world,
        )
        state(job, stage, training, around or Around())
        try:
            return training.run()
        except TrainingError as error:
            if job.world.first:
                job.run.event("diverged", stage=stage, cause=error.message, fix=error.fix)
            raise


def _reporting(
    run: Run, track: Callable[[Status], None], on_status: Callable[[Status], None]
) -> Callable[[Status], None]:
    """``on_status`` that also writes each step to the run's events and to the trackers."""

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

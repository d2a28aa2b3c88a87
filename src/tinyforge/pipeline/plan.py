"""`tinyforge plan`: everything that a training does before its first step, and what it would take from there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.auto import pick
from tinyforge.pipeline.fits import Around, refusal
from tinyforge.pipeline.prepare import Prepared, prepare
from tinyforge.pipeline.sequence_level import asks
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.train import examples_of, existing, read_stage
from tinyforge.run import Run
from tinyforge.train.distributed import World


def plan(
    data: str | Path,
    config: Config,
    out: str | Path = ".",
    auto: bool = False,
    say: Callable[[str, str], None] = lambda stage, note: None,
) -> dict[str, Any]:
    """What training ``config.base`` on the rows of ``data`` would take here; nothing is kept.

    ``out`` is the run folder to be: its disk is what has to hold the run. With ``auto`` the options that suit this
    machine are chosen first. Raises InputError for what cannot be trained, and for what does not fit the machine, with
    settings that do.
    """
    from tinyforge.models.resolve import resolve
    from tinyforge.train.distributed import join
    from tinyforge.train.plan import Room, estimate

    source = existing(data)
    world = join(config.train)
    base = resolve(config.base)
    with _scratch(Path(out), world) as scratch:
        job = Job(Run.create(scratch / "run", "plan"), say, world=world)
        rows = read_stage(job, source, base, config)
        sides, objective = (examples_of(job.run, "train"), examples_of(job.run, "dev")), rows["objective"]
        if asks(objective, config.train):
            say("data", "a plan asks no teacher: the rows' own answers stand in for those that it would write")
            objective = "sft"
        picked = pick(job, base, sides, config, objective) if auto else None
        if picked is not None:
            config = picked.apply(config)
        prepared = prepare(job, base, *sides, config, objective)

        def rebuild(method: str) -> Prepared:
            settings = config.train.model_copy(update={"method": method})
            return prepare(job, base, *sides, config.model_copy(update={"train": settings}), objective)

        if prepared.device != "cpu":
            raise InputError("a plan is made for CPUs.", "Say --set train.device=cpu, or train and watch.")
        training = prepared.training(job.run.path("checkpoints"), config.seed, world)
        if training.shares_weights:
            raise InputError(
                "a plan is made for workers that each hold the whole model.", "Leave --accelerate-config out."
            )
        room = Room.here(scratch, prepared.settings, world)
        around = Around(prepared.loading, prepared.guard_seconds, prepared.method, rebuild)
        found = estimate(training, job.run.path("plan"), room, around.loading, around.seconds)
        if not found.fits:
            raise refusal(training, found, room, around)
        training.end()
        return {
            "objective": rows["objective"],
            "why": rows["why"],
            "base": base.name,
            "method": prepared.method,
            "parameters": prepared.parameters,
            "trained": prepared.trained,
            "precision": prepared.precision,
            "threads": prepared.threads,
            "rows": rows["usable"],
            "epochs": round(prepared.settings.epochs, 2),
            **found.to_json(),
            "auto": None if picked is None else {"train": picked.changes, "why": picked.why},
            "lines": [*(picked.lines() if picked else []), *found.lines()],
        }


@contextmanager
def _scratch(out: Path, world: World) -> Iterator[Path]:
    """A folder on the disk of the run to be, the same for all workers, that is gone afterwards."""
    beside = next(p for p in (out.resolve(), *out.resolve().parents) if p.is_dir())
    made = tempfile.TemporaryDirectory(prefix=".tinyforge-plan-", dir=beside) if world.first else None
    try:
        yield Path(world.share(made.name if made else ""))
        world.wait()
    finally:
        if made:
            made.cleanup()

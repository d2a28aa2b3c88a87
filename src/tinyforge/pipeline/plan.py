"""`tinyforge plan`: everything that a training does before its first step, and what it would take from there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.pipeline.auto import pick
from tinyforge.pipeline.fits import Around, refusal
from tinyforge.pipeline.prepare import Prepared, prepare
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.train import examples_of, existing, read_stage
from tinyforge.run import Run


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
    from tinyforge.train.plan import Room, estimate

    source = existing(data)
    base = resolve(config.base)
    beside = next(p for p in (Path(out).resolve(), *Path(out).resolve().parents) if p.is_dir())
    with tempfile.TemporaryDirectory(prefix=".tinyforge-plan-", dir=beside) as scratch:
        job = Job(Run.create(Path(scratch) / "run", "plan"), say)
        rows = read_stage(job, source, base, config)
        sides = examples_of(job.run, "train"), examples_of(job.run, "dev")
        picked = pick(job, base, sides, config, rows["objective"]) if auto else None
        if picked is not None:
            config = picked.apply(config)
        prepared = prepare(job, base, *sides, config, rows["objective"])

        def rebuild(method: str) -> Prepared:
            settings = config.train.model_copy(update={"method": method})
            return prepare(job, base, *sides, config.model_copy(update={"train": settings}), rows["objective"])

        training = prepared.training(job.run.path("checkpoints"), config.seed)
        room = Room.here(job.run.folder, prepared.settings)
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

"""Fine-tune a base on examples, with any objective and method: the train stage of a build and of a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.fit import fit
from tinyforge.pipeline.fits import Around
from tinyforge.pipeline.prepare import Prepared, prepare
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example
from tinyforge.run import write_folder_atomic, write_json

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base
    from tinyforge.train.status import Status


def tune(
    job: Job,
    key: str,
    base: Base,
    train: Sequence[Example],
    dev: Sequence[Example],
    config: Config,
    on_status: Callable[[Status], None],
    objective: str = "sft",
) -> dict[str, Any]:
    """Train ``base`` on the examples and write ``model/`` (full) or ``adapter/`` into the run.

    Returns what the report says of it. Raises InputError before the first step when the examples would train badly.
    """
    from tinyforge.train.finish import finish

    p = prepare(job, base, train, dev, config, objective)
    share = f"{p.trained:,} of {p.parameters:,} parameters"
    job.say("train", f"{p.method}: {share}, {p.precision}, {p.rendered.targets:,} target tokens")

    def rebuild(method: str) -> Prepared:
        settings = config.train.model_copy(update={"method": method})
        return prepare(job, base, train, dev, config.model_copy(update={"train": settings}), objective)

    result = fit(
        job,
        "train",
        key,
        model=p.model,
        objective=p.learner,
        rows=p.rows,
        dev=p.dev,
        settings=p.settings,
        learning_rate=p.learning_rate,
        folder=job.run.path("checkpoints"),
        seed=config.seed,
        machine=(p.precision, p.threads),
        on_status=on_status,
        around=Around(p.loading, p.guard_seconds, p.method, rebuild),
    )

    general_text = p.guard.end(job, p.model, p.settings) if p.guard else None

    def leave(folder: Path) -> dict[str, Any]:
        return finish(objective, folder, p.model, p.tokenizer, p.learner, train, p.dev if len(p.dev) else None)

    trained = p.trained
    beside = _save(job, base, p.model, p.tokenizer, p.method, leave)
    return {
        "objective": objective,
        "labels": p.labels,
        "method": p.method,
        "parameters": p.parameters,
        "trained": trained,
        "learning_rate": p.learning_rate,
        "epochs": round(p.settings.epochs, 2),
        "precision": p.precision,
        "threads": p.threads,
        "processes": job.world.size,
        "device": p.device,
        "steps": result.steps,
        "planned_steps": result.total_steps,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "dev_loss": result.best_loss if len(p.dev) else None,
        "stopped_by": result.stopped_by,
        "general": general_text,
        "replay": p.replay,
        "rendered": {"train": p.rendered.to_json(), "dev": p.dev_rendered.to_json()},
        **beside,
    }


def _save(
    job: Job, base: Base, model: Any, tokenizer: Any, method: str, leave: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The tuned weights as a plain transformers folder, or as a PEFT adapter that names its base.

    ``leave`` adds the objective's own files. base.json says what an adapter stands on: which files, and whether they
    were quantized.
    """
    from tinyforge import adapters

    beside: dict[str, Any] = {}

    def write(folder: Path) -> None:
        if method == "full":
            model.save_pretrained(folder)
        else:
            adapters.save(model, folder)
        tokenizer.save_pretrained(folder)
        beside.update(leave(folder))

    job.overwrite()
    write_folder_atomic(job.run.path("model" if method == "full" else "adapter"), write)
    shutil.rmtree(job.run.path("adapter" if method == "full" else "model"), ignore_errors=True)
    origin = {"name": base.name, "folder": str(base.folder), "hash": base.hash}
    write_json(job.run.path("base.json"), {**origin, "quantize": adapters.quantization(method)})
    return beside

"""Fine-tune a base on examples: the train stage of a build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, TrainConfig
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example, Tokens
from tinyforge.run import hash_json, write_folder_atomic, write_json

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base
    from tinyforge.train.loop import Status


def tune(
    job: Job,
    key: str,
    base: Base,
    train: Sequence[Example],
    dev: Sequence[Example],
    config: Config,
    on_status: Callable[[Status], None],
) -> dict[str, Any]:
    """Train ``base`` on the examples and write ``model/`` (full) or ``adapter/`` (lora) into the run.

    Returns what the report says of it. Raises InputError before the first step when the examples would train badly.
    """
    from tinyforge import adapters
    from tinyforge.dataset.render import render_all, stop_ids
    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import load_model, load_tokenizer
    from tinyforge.pipeline.pretrain import with_events
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.loop import EncodedRows, Training

    settings = config.train
    threads = set_threads(settings.threads)
    precision = settle_precision(job.run.folder, settings.precision)
    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    model: Any = load_model(base.folder, precision, config.trust_remote_code)
    method = adapters.choose_method(settings.method, model)
    parameters = sum(p.numel() for p in model.parameters())
    stops = stop_ids(model, tokenizer)
    rows, rendered = render_all(train, tokenizer, config.dataset.max_length, stops)
    dev_rows, dev_rendered = render_all(dev, tokenizer, config.dataset.max_length, stops)
    settings = settings.model_copy(update={"epochs": settings.epochs or enough_epochs(rows, settings)})
    if method == "lora":
        model = adapters.attach(model, settings, config.seed)
    training = Training(
        model=model,
        objective=load("train", "sft", OBJECTIVES)(tokenizer.pad_token_id),
        rows=EncodedRows(rows),
        dev=EncodedRows(dev_rows),
        config=settings,
        learning_rate=settings.learning_rate or adapters.default_learning_rate(method, parameters),
        folder=job.run.path("checkpoints"),
        key=hash_json([key, precision, threads]),
        seed=config.seed,
        on_status=with_events(job.run, on_status),
        on_note=lambda note: job.say("train", note),
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    job.say(
        "train", f"{method}: {trained:,} of {parameters:,} parameters, {precision}, {rendered.targets:,} target tokens"
    )
    result = training.run()
    _save(job, base, model, tokenizer, method)
    return {
        "method": method,
        "parameters": parameters,
        "trained": trained,
        "learning_rate": training.learning_rate,
        "epochs": round(settings.epochs, 2),
        "precision": precision,
        "threads": threads,
        "steps": result.steps,
        "planned_steps": result.total_steps,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "dev_loss": result.best_loss,
        "stopped_early": result.stopped_early,
        "rendered": {"train": rendered.to_json(), "dev": dev_rendered.to_json()},
    }


def enough_epochs(rows: Sequence[Tokens], settings: TrainConfig) -> float:
    """Three passes, or more where they come to fewer than 200 steps: a small set needs as many steps as a larger one.

    At most ten, so that a handful of rows is not read hundreds of times.
    """
    from tinyforge.dataset.batches import plan_epoch

    batches = plan_epoch([len(row.ids) for row in rows], settings.batch_tokens, 0, 0)
    return float(min(10.0, max(3.0, 200 * settings.accumulation / len(batches))))


def _save(job: Job, base: Base, model: Any, tokenizer: Any, method: str) -> None:
    """The tuned weights as a plain transformers folder, or as a PEFT adapter that names its base."""

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    write_folder_atomic(job.run.path("model" if method == "full" else "adapter"), write)
    shutil.rmtree(job.run.path("adapter" if method == "full" else "model"), ignore_errors=True)
    write_json(job.run.path("base.json"), {"name": base.name, "folder": str(base.folder), "hash": base.hash})

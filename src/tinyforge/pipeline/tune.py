"""Fine-tune a base on examples, with any objective and method: the train stage of a build and of a training."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, TrainConfig
from tinyforge.pipeline.fit import fit
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example, Tokens
from tinyforge.run import write_folder_atomic, write_json

if TYPE_CHECKING:
    from tinyforge.dataset.render import RenderReport
    from tinyforge.models.resolve import Base
    from tinyforge.train.loop import Status

HANDFUL = 20  # rows


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
    from tinyforge import adapters
    from tinyforge.dataset.pairs import classes_of
    from tinyforge.models.family import load_for
    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import count_parameters, load_tokenizer
    from tinyforge.train.finish import finish
    from tinyforge.train.loop import EncodedRows

    settings = config.train
    threads, precision = set_threads(settings.threads), settle_precision(job.run.folder, settings.precision)
    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    parameters = count_parameters(base.folder)
    method = adapters.choose_method(settings.method, parameters)
    quantize = adapters.quantization(method)
    labels = classes_of(train) if objective == "classify" else []
    model: Any = load_for(
        objective,
        base.folder,
        precision,
        labels,
        tokenizer.pad_token_id,
        config.seed,
        config.trust_remote_code,
        quantize,
    )
    learner = _objective(objective, tokenizer, config, labels)
    rows, rendered = _encode(objective, learner, train, model, tokenizer, config)
    dev_rows, dev_rendered = _encode(objective, learner, dev, model, tokenizer, config)
    settings = settings.model_copy(update={"epochs": settings.epochs or enough_epochs(rows, settings)})
    if method != "full":
        model = adapters.attach(model, settings, config.seed)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    job.say(
        "train", f"{method}: {trained:,} of {parameters:,} parameters, {precision}, {rendered.targets:,} target tokens"
    )
    learning_rate = settings.learning_rate or adapters.default_learning_rate(method, parameters)
    encoded_dev = EncodedRows(dev_rows)
    result = fit(
        job,
        "train",
        key,
        model=model,
        objective=learner,
        rows=EncodedRows(rows),
        dev=encoded_dev,
        settings=settings,
        learning_rate=learning_rate,
        folder=job.run.path("checkpoints"),
        seed=config.seed,
        machine=(precision, threads),
        on_status=on_status,
    )

    def leave(folder: Path) -> dict[str, Any]:
        return finish(objective, folder, model, tokenizer, learner, train, encoded_dev if dev_rows else None)

    beside = _save(job, base, model, tokenizer, method, leave)
    return {
        "objective": objective,
        "labels": list(labels),
        "method": method,
        "parameters": parameters,
        "trained": trained,
        "learning_rate": learning_rate,
        "epochs": round(settings.epochs, 2),
        "precision": precision,
        "threads": threads,
        "steps": result.steps,
        "planned_steps": result.total_steps,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "dev_loss": result.best_loss if dev_rows else None,
        "stopped_early": result.stopped_early,
        "rendered": {"train": rendered.to_json(), "dev": dev_rendered.to_json()},
        **beside,
    }


def _objective(name: str, tokenizer: Any, config: Config, labels: Sequence[str]) -> Any:
    from tinyforge.models.machine import choose_precision
    from tinyforge.models.resolve import load_model, load_tokenizer, resolve
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.objectives.distill import check_same_tokenizer

    make = load("train", name, OBJECTIVES)
    if name == "classify":
        return make(tokenizer.pad_token_id, config.train, labels)
    learner = make(tokenizer.pad_token_id, config.train)
    if name == "distill" and config.train.teacher:
        teacher = resolve(config.train.teacher)
        check_same_tokenizer(tokenizer, load_tokenizer(teacher.folder, config.trust_remote_code))
        learner.teacher = load_model(teacher.folder, choose_precision(config.train.precision), config.trust_remote_code)
    return learner


def _encode(
    name: str, learner: Any, examples: Sequence[Example], model: Any, tokenizer: Any, config: Config
) -> tuple[list[Tokens], RenderReport]:
    """Rows of the objective; those of conversations and running text are also checked for a stop token."""
    from tinyforge.dataset.render import render_all, stop_ids
    from tinyforge.models.family import longest_input
    from tinyforge.train.encoding import encode_all

    longest = longest_input(model.config, tokenizer, config.dataset.max_length)
    if name in ("sft", "distill", "pretrain"):
        everything = config.train.all_tokens
        return render_all(examples, tokenizer, longest, stop_ids(model, tokenizer), everything=everything)
    return encode_all(learner, examples, tokenizer, longest)


def enough_epochs(rows: Sequence[Tokens], settings: TrainConfig) -> float:
    """Three passes, or more where they come to fewer than 200 steps: a small set needs as many steps as a larger one.

    At most ten, so that a small set is not read hundreds of times; forty for a handful, to be learned by heart.
    """
    from tinyforge.dataset.batches import plan_epoch

    batches = plan_epoch([len(row.ids) for row in rows], settings.batch_tokens, 0, 0, settings.batch_rows)
    most = 10.0 if len(rows) >= HANDFUL else 40.0
    return float(min(most, max(3.0, 200 * settings.accumulation / len(batches))))


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
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        beside.update(leave(folder))

    write_folder_atomic(job.run.path("model" if method == "full" else "adapter"), write)
    shutil.rmtree(job.run.path("adapter" if method == "full" else "model"), ignore_errors=True)
    origin = {"name": base.name, "folder": str(base.folder), "hash": base.hash}
    write_json(job.run.path("base.json"), {**origin, "quantize": adapters.quantization(method)})
    return beside

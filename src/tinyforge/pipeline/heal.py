"""Train what was cut or shrunk with our own loop, and leave it as a plain folder of weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.resolve import Base, hash_weights
from tinyforge.pipeline.material import Material, keep_base, save_model, stored_dtype
from tinyforge.pipeline.replay import replay_inputs
from tinyforge.pipeline.stages import Job

if TYPE_CHECKING:
    from tinyforge.train.status import Status

WAYS = ("distill", "sft")


def heal(
    job: Job,
    key: str,
    material: Material,
    start: Path,
    teacher: Path,
    objective: str,
    on_status: Callable[[Status], None],
) -> dict[str, Any]:
    """Train the model in ``start`` on the material's rows into the run's model/; returns the training's summary.

    ``distill`` learns the distributions of the model in ``teacher`` at the rows' answers as well as the answers
    themselves, ``sft`` these alone. What an adapter learned is merged. Raises InputError without rows to learn from.
    """
    from tinyforge.pipeline.tune import tune

    if not any(example.kind == "chat" for example in material.train) and objective == "sft":
        raise InputError("there are no conversations to train on.", "Give --data rows of conversations.")
    changes: dict[str, Any] = {"objective": objective, "teacher": str(teacher) if objective == "distill" else ""}
    config = material.config.model_copy(update={"train": material.config.train.model_copy(update=changes)})
    base = Base(str(start), start, hash_weights(start))
    dev = [example for example in material.choice if example not in material.train]
    summary = tune(job, key, base, material.train, dev, config, on_status, objective)
    if summary["method"] != "full":
        _merge(job, start, summary, material)
    shutil.rmtree(job.run.path("checkpoints"), ignore_errors=True)
    keep_base(material, job.run)
    return summary


def learns_from(config: Config) -> list[Any]:
    """What the result of :func:`heal` depends on besides rows and weights, for the key of a stage."""
    return [config.train.decisive(), replay_inputs(config.train), config.seed]


def _merge(job: Job, start: Path, summary: dict[str, Any], material: Material) -> None:
    from tinyforge import adapters
    from tinyforge.models.resolve import load_model

    quantize = adapters.quantization(summary["method"])
    model = load_model(start, "fp32", material.config.trust_remote_code, quantize)
    merged = adapters.merge(adapters.load(model, job.run.path("adapter")))
    save_model(merged.to(stored_dtype(start)), material.tokenizer, job.run.path("model"))
    shutil.rmtree(job.run.path("adapter"))


def training_of(summary: dict[str, Any]) -> dict[str, Any]:
    """What compress.json keeps of a training."""
    names = ("objective", "method", "steps", "tokens", "train_seconds", "dev_loss", "learning_rate", "stopped_by")
    return {name: summary[name] for name in names}

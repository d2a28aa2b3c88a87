"""What a training takes, said before its first step; and, where the machine has too little for it, what would fit."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.pipeline.stages import Job
from tinyforge.run import read_json, write_json

if TYPE_CHECKING:
    from tinyforge.pipeline.prepare import Prepared
    from tinyforge.train.loop import Training
    from tinyforge.train.plan import Estimate, Room

NAME = "plan.json"
SMALLEST_BATCH = 256  # tokens: smaller ones leave a processor waiting
CHECKPOINTING = {"gradient_checkpointing": True}

Changes = dict[str, Any]
"""Options of ``train`` by name."""


@dataclass(frozen=True)
class Around:
    """What a plan needs to know besides the training itself.

    ``loading``: the most bytes held until then; ``seconds``: what comes after it; ``method``: what is trained, as
    resolved; ``rebuild``: the same prepared anew with another method, where there can be one.
    """

    loading: int = 0
    seconds: float = 0.0
    method: str = ""
    rebuild: Callable[[str], Prepared] | None = None


def state(job: Job, stage: str, training: Training, around: Around) -> None:
    """Say what the training will take, before its first step; one that continues repeats what was said.

    Raises InputError, with settings that fit where there are any, when it does not fit the machine.
    """
    from tinyforge.train.device import device_of
    from tinyforge.train.plan import Room, estimate

    if training.shares_weights or device_of(training.model).type != "cpu":
        job.say(stage, "no plan: estimates are made for CPUs whose workers each hold the whole model")
        return
    kept = training.folder / NAME
    said = job.world.on_first(lambda: read_json(kept) if kept.is_file() else {})
    if said.get("key") != training.key:
        room = Room.here(job.run.folder, training.config, job.world)
        found = estimate(training, training.folder / "plan", room, around.loading, around.seconds)
        said = {"key": training.key, "lines": found.lines(), **found.to_json()}
        if not found.fits:
            raise refusal(training, found, room, around)
        write_json(kept, said)
        job.run.event("plan", stage=stage, **found.to_json())
    for line in said["lines"]:
        job.say(stage, line)


def refusal(training: Training, found: Estimate, room: Room, around: Around) -> InputError:
    """The error for a training that does not fit, with settings that do, as estimated alike. Uses up the model."""
    for changes, fitting in fitting_changes(training, found, room, around):
        return InputError(f"{found.shortage()}.", f"With {as_settings(changes)} it takes {', '.join(fitting.parts())}.")
    return InputError(
        f"{found.shortage()}.",
        "Smaller batches, gradient checkpointing and adapters do not help enough: take a smaller base or shorter rows, "
        "or make room.",
    )


def as_settings(changes: Changes) -> str:
    """As a person types them."""
    shown = {name: str(value).lower() if isinstance(value, bool) else value for name, value in changes.items()}
    return " ".join(f"--set train.{name}={value}" for name, value in shown.items())


def fitting_changes(
    training: Training, found: Estimate, room: Room, around: Around
) -> Iterator[tuple[Changes, Estimate]]:
    """Changes with which the training fits, each with its estimate; those that change least come first."""
    training.end()
    smaller = [{}, *smaller_batches(training.config)]
    lightest = {**smaller[-1], **CHECKPOINTING}
    if found.measured and found.lacks_memory:
        yield from fitting(training, [*smaller[1:], CHECKPOINTING, lightest], room, around.loading)
    for method in lighter_methods(around.method) if around.rebuild else ():
        assert around.rebuild is not None
        release(training)
        try:
            prepared = around.rebuild(method)
        except InputError:  # this base or this machine cannot have it
            continue
        training = prepared.training(training.folder, training.seed, training.world)
        for changes, estimate in fitting(training, [{}, smaller[-1], lightest], room, prepared.loading):
            yield {"method": method, **changes}, estimate


def fitting(
    training: Training, candidates: Iterable[Changes], room: Room, loading: int
) -> Iterator[tuple[Changes, Estimate]]:
    """Of the candidates, which share the model of ``training``, those that fit."""
    from tinyforge.train.plan import estimate

    for changes in candidates:
        changed = replace(training, config=training.config.model_copy(update=changes))
        found = estimate(changed, training.folder / "plan", room, loading)
        changed.end()
        if found.fits:
            yield changes, found
        elif not found.measured:
            return  # already the weights and their gradients are too much


def smaller_batches(config: TrainConfig) -> list[Changes]:
    """Smaller micro-batches of as many tokens in a step, from which the same is learned; largest first."""
    changes: list[Changes] = []
    tokens, accumulation = config.batch_tokens, config.accumulation
    while tokens % 2 == 0 and tokens >= 2 * SMALLEST_BATCH:
        tokens, accumulation = tokens // 2, 2 * accumulation
        changes.append({"batch_tokens": tokens, "accumulation": accumulation})
    return changes


def lighter_methods(method: str) -> list[str]:
    """Methods that need less memory than ``method``, the one that gives up least first."""
    from importlib.util import find_spec

    if method not in ("full", "lora", "rslora", "dora"):
        return []
    methods = ["lora"] if method == "full" else []
    return [*methods, "qlora"] if find_spec("bitsandbytes") else methods


def release(training: Training) -> None:
    """Free the weights of a training that will not be run, whoever still holds its model, teacher or reference."""
    import torch

    from tinyforge.models.machine import release_memory

    training.end()
    held = [value for value in vars(training.objective).values() if isinstance(value, torch.nn.Module)]
    for model in (training.model, *held):
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.new_empty(0)
    gc.collect()
    release_memory()

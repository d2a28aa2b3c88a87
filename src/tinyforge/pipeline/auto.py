"""``--auto``: method, batch, accumulation, precision and checkpointing for this machine, by trying them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.fits import (
    CHECKPOINTING,
    Changes,
    as_settings,
    fitting,
    lighter_methods,
    release,
    smaller_batches,
)
from tinyforge.pipeline.prepare import Prepared, prepare
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example
from tinyforge.run import hash_json, read_json, write_json

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base
    from tinyforge.train.plan import Estimate

KEPT = "auto.json"
SPLITS = 3  # how far the tokens of a step are halved in search of a faster batch
AS_FAST = 1.1  # times the fastest: within what two measurements of the same differ by
SHARE_OF_MEMORY = 0.9  # of what can be had: an estimate may be that far off


@dataclass(frozen=True)
class Picked:
    """The options that were chosen, and a line on each for a person."""

    changes: Changes
    why: list[str]

    def apply(self, config: Config) -> Config:
        return config.model_copy(update={"train": config.train.model_copy(update=self.changes)})

    def lines(self) -> list[str]:
        return [*(f"auto: {line}" for line in self.why), f"auto: the same again: {as_settings(self.changes)}"]


def settle_auto(
    job: Job, base: Base, sides: tuple[Sequence[Example], Sequence[Example]], config: Config, objective: str
) -> Picked:
    """:func:`pick` once for a run: what it measures varies, and a run that continues must not change its settings."""
    path = job.run.path(KEPT)
    inputs = [[e.id for e in side] for side in sides]
    key = hash_json([inputs, base.hash, config.train.model_dump(), config.dataset.max_length, config.seed, objective])
    kept = read_json(path) if path.is_file() else {}
    if kept.get("key") != key:
        picked = pick(job, base, sides, config, objective)
        kept = {"key": key, "changes": picked.changes, "why": picked.why}
        write_json(path, kept)
    return Picked(kept["changes"], kept["why"])


def pick(
    job: Job, base: Base, sides: tuple[Sequence[Example], Sequence[Example]], config: Config, objective: str
) -> Picked:
    """What fits and runs fastest here; options that the person set are kept.

    Raises InputError when nothing fits, and where it cannot try: in several processes, or on a GPU.
    """
    from tinyforge.train.device import device_of

    refused: list[str] = []
    for prepared in _methods(job, base, sides, config, objective):
        if job.world.size > 1 or device_of(prepared.model).type != "cpu":
            raise InputError(
                "--auto tries settings in one process on a CPU.", "Leave it out, or --set train.device=cpu."
            )
        tried = _fastest(job.run.path("auto"), prepared, config.seed)
        if tried is not None:
            changes, why = tried
            found = {"method": prepared.method, "precision": prepared.precision, **changes}
            lines = [_why_method(prepared, config, refused), _why_precision(prepared, config), *why]
            return Picked(found, lines)
        refused.append(prepared.method)
    raise InputError(
        f"no setting fits the memory or disk of this machine ({', '.join(refused)} were tried).",
        "Take a smaller base or shorter rows, or make room.",
    )


def _methods(
    job: Job, base: Base, sides: tuple[Sequence[Example], Sequence[Example]], config: Config, objective: str
) -> Iterator[Prepared]:
    """The base prepared for the method that was asked for or suits its size, then for lighter ones."""
    prepared = prepare(job, base, *sides, config, objective)
    first = prepared.method
    yield prepared
    for method in lighter_methods(first) if config.train.method == "auto" else ():
        release(prepared.training(job.run.folder, config.seed))
        settings = config.train.model_copy(update={"method": method})
        try:
            prepared = prepare(job, base, *sides, config.model_copy(update={"train": settings}), objective)
        except InputError:  # this base or this machine cannot have it
            continue
        yield prepared


def _fastest(folder: Path, prepared: Prepared, seed: int) -> tuple[Changes, list[str]] | None:
    """The batch and the checkpointing for this method, with the reasons; None when nothing fits."""
    from tinyforge.train.plan import Room

    here = Room.here(folder, prepared.settings)
    room = Room(int(SHARE_OF_MEMORY * here.memory), here.disk)
    training = prepared.training(folder, seed)
    config = prepared.settings
    same: Changes = {"batch_tokens": config.batch_tokens, "accumulation": config.accumulation}
    batches = [same] if config.batch_rows else [same, *smaller_batches(config)[:SPLITS]]
    for checkpointing in (False, True) if not config.gradient_checkpointing else (True,):
        candidates = [{**batch, **CHECKPOINTING} if checkpointing else batch for batch in batches]
        found = list(fitting(training, candidates, room, prepared.loading))
        if found:
            return _choose(found, checkpointing, config.gradient_checkpointing)
    return None


def _choose(found: list[tuple[Changes, Estimate]], checkpointing: bool, asked: bool) -> tuple[Changes, list[str]]:
    """Of those as fast as the fastest, the one with the least memory."""
    best = min(_seconds(estimate) for _, estimate in found)
    fast = [pair for pair in found if _seconds(pair[1]) <= AS_FAST * best]
    changes, _ = min(fast, key=lambda pair: pair[1].memory.peak)
    others = "; ".join(
        f"{c['batch_tokens']} x {c['accumulation']}: {_seconds(e):,.0f} s, {e.memory.peak:,.0f} MB" for c, e in found
    )
    batch = (
        f"batch_tokens {changes['batch_tokens']} x accumulation {changes['accumulation']}: of the fast ones the "
        f"least memory ({others})"
    )
    reason = "as asked" if asked else "nothing fits without it" if checkpointing else "it fits without it"
    what = "on" if checkpointing else "off"
    return {**changes, "gradient_checkpointing": checkpointing}, [batch, f"gradient_checkpointing {what}: {reason}"]


def _seconds(estimate: Estimate) -> float:
    return estimate.duration.steps if estimate.duration is not None else float("inf")


def _why_method(prepared: Prepared, config: Config, refused: Sequence[str]) -> str:
    from tinyforge.adapters import FULL_UP_TO

    if config.train.method != "auto":
        return f"method {prepared.method}: as asked"
    if refused:
        return f"method {prepared.method}: {' and '.join(refused)} would not fit"
    side = "at most" if prepared.method == "full" else "more than"
    return f"method {prepared.method}: the base has {side} {FULL_UP_TO // 10**6} million weights"


def _why_precision(prepared: Prepared, config: Config) -> str:
    import torch

    from tinyforge.models.machine import matrix_rates

    if config.train.precision != "auto":
        return f"precision {prepared.precision}: as asked"
    bf16, fp32 = matrix_rates((torch.bfloat16, torch.float32))
    return f"precision {prepared.precision}: bf16 products run {bf16 / fp32:.1f} times as fast as fp32 here"

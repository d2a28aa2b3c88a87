"""What a training will take, before it begins: memory, time, disk and cost, from real steps and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from tinyforge.config import TrainConfig
from tinyforge.environment import available_memory, clock
from tinyforge.models.machine import resident
from tinyforge.train.checkpoint import KEPT
from tinyforge.train.distributed import ALONE, World
from tinyforge.train.loop import Training
from tinyforge.train.probe import Measured, Probe
from tinyforge.train.watch import START_BATCHES

MB = 2**20
STATUS_BYTES = 450  # of one step in events.jsonl


@dataclass(frozen=True)
class Room:
    """What a training may use, in bytes: the memory of its processes in all, and the free disk."""

    memory: int
    disk: int

    @classmethod
    def here(cls, folder: Path, config: TrainConfig, world: World = ALONE) -> Room:
        """What the machine has free, or ``train.memory_gb``; the disk is the one that ``folder`` is, or will be, on."""
        memory = world.share(available_memory()) + int(sum(world.gather(resident())))
        if config.memory_gb:
            memory = min(memory, int(config.memory_gb * 1e9))
        there = next(p for p in (folder.resolve(), *folder.resolve().parents) if p.exists())
        return cls(memory, world.share(psutil.disk_usage(str(there)).free))


@dataclass(frozen=True)
class Memory:
    """MB (2^20 bytes) held by the process. ``peak`` is the sum of the others, or that of loading, if more.

    Of several processes, the sums; pages that they share, such as the libraries', are counted in each, and the one
    that started them, and only waits, in none.
    ``activations`` is all that the longest batch needs besides its gradients: also the logits' chunks and what the
    libraries keep. ``rest``: Python, the libraries, the rows, and models besides the trained one.
    """

    peak: float
    weights: float
    masters: float
    gradients: float
    optimizer: float
    activations: float
    rest: float
    loading: float


@dataclass(frozen=True)
class Duration:
    """Seconds, when no early stop ends the training before its last step."""

    steps: float
    dev: float
    checkpoints: float
    after: float

    @property
    def total(self) -> float:
        return self.steps + self.dev + self.checkpoints + self.after


@dataclass(frozen=True)
class Disk:
    """MB: the most at one time, what stays, and one checkpoint."""

    peak: float
    kept: float
    checkpoint: float


@dataclass(frozen=True)
class Estimate:
    """``duration`` is None when the memory or the disk did not even allow the steps that it would rest on.

    ``longest`` are the rows and the width of the largest batch; ``measured`` of ``batches`` micro-batches were run, in
    ``planning_seconds``.
    """

    memory: Memory
    duration: Duration | None
    disk: Disk
    memory_available: float
    disk_available: float
    steps: int
    batches: int
    measured: int
    longest: tuple[int, int]
    planning_seconds: float
    price_per_hour: float
    processes: int = 1

    @property
    def fits(self) -> bool:
        return not self.shortage()

    @property
    def cost(self) -> float | None:
        if not self.price_per_hour or self.duration is None:
            return None
        return self.price_per_hour * self.duration.total / 3600

    def shortage(self) -> str:
        """What there is too little of, in words; empty when the training fits."""
        if self.lacks_memory:
            least = "" if self.duration else "about "
            return (
                f"this training needs {least}{_mb(self.memory.peak)} of memory at its peak, and "
                f"{_mb(self.memory_available)} can be had"
            )
        if self.disk.peak > self.disk_available:
            return f"this training needs {_mb(self.disk.peak)} of disk, and {_mb(self.disk_available)} are free"
        return ""

    @property
    def lacks_memory(self) -> bool:
        return self.memory.peak > self.memory_available

    def parts(self) -> list[str]:
        """For a person: what it takes."""
        whose = f" in {self.processes} processes" if self.processes > 1 else ""
        parts = [f"{_mb(self.memory.peak)} of memory{whose} at the peak (of {_mb(self.memory_available)})"]
        if self.duration is not None:
            parts.append(f"{clock(self.duration.total)} at most")
        parts.append(f"{_mb(self.disk.peak)} of disk (of {_mb(self.disk_available)})")
        if self.cost is not None:
            parts.append(f"cost {self.cost:.2f} at {self.price_per_hour:g} per hour")
        return parts

    def lines(self) -> list[str]:
        """The same, and what it rests on."""
        rows, width = self.longest
        return [
            f"plan: {', '.join(self.parts())}",
            f"plan: measured on {self.measured} of {self.batches:,} batches in {self.planning_seconds:.1f} s, "
            f"the longest ({rows} x {width:,} tokens) among them",
        ]

    def to_json(self) -> dict[str, Any]:
        duration = self.duration
        return {
            "memory_mb": {**_rounded(asdict(self.memory)), "available": round(self.memory_available, 1)},
            "seconds": None if duration is None else _rounded({**asdict(duration), "total": duration.total}),
            "disk_mb": {**_rounded(asdict(self.disk)), "available": round(self.disk_available, 1)},
            "cost": None if self.cost is None else round(self.cost, 4),
            "price_per_hour": self.price_per_hour or None,
            "steps": self.steps,
            "batches": {"all": self.batches, "measured": self.measured, "longest": list(self.longest)},
            "planning_seconds": round(self.planning_seconds, 2),
            "processes": self.processes,
            "fits": self.fits,
        }


def estimate(
    training: Training,
    folder: Path,
    room: Room,
    loading: int = 0,
    after: float = 0.0,
    longest: Sequence[int] | None = None,
) -> Estimate:
    """What ``training`` will take from here on; afterwards its model is bit by bit as it was.

    ``folder`` is made for the measurements and removed again. ``loading`` is the most bytes the process held while the
    model was loaded, ``after`` the seconds that something takes when it is trained. ``longest`` names the
    micro-batches to take for the largest ones. The workers of a training call this together, each with its own
    ``loading``, and all get the same.
    """
    world = training.world
    limit = room.memory // world.size
    probe = Probe(training, limit)
    trained = sum(p.numel() for p in training.model.parameters() if p.requires_grad)
    # Masters and gradients in float32, whatever else there is.
    least = int(world.most([resident()])[0]) + 8 * trained
    if least > limit or 12 * trained > room.disk:
        found = Measured(before=resident(), peak=least, complete=False, masters=4 * trained, best_bytes=4 * trained)
        found.checkpoint_bytes = 12 * trained
    else:
        found = probe.measure(folder, longest)
    return Estimate(
        Memory(**world.add(asdict(_memory(training, found, loading)))),
        _duration(training, found, after) if found.complete else None,
        _disk(training, found),
        room.memory / MB,
        room.disk / MB,
        training.total,
        min(len(training.batches), training.total * training.config.accumulation),
        len(found.trials),
        found.longest,
        found.seconds,
        training.config.price_per_hour,
        world.size,
    )


def _memory(training: Training, found: Measured, loading: int) -> Memory:
    weights = sum(p.nbytes for p in training.model.parameters())
    gradients = found.masters
    rest = max(0, found.before - weights)
    activations = max(0, found.peak - weights - rest - found.masters - gradients - found.optimizer)
    sizes = (found.peak, weights, found.masters, gradients, found.optimizer, activations, rest, loading)
    peak, *parts = (size / MB for size in sizes)
    return Memory(max(peak, loading / MB), *parts)


def _pauses(training: Training) -> int:
    """How often a training stops to measure the dev loss, or to save, without an early stop."""
    return math.ceil(training.total / max(1, math.ceil(training.total / training.config.evaluations)))


def _result_bytes(training: Training) -> int:
    """Of the tuned model, or of its adapter."""
    adapter = hasattr(training.model, "peft_config")
    return sum(p.nbytes for p in training.model.parameters() if p.requires_grad or not adapter)


def _duration(training: Training, found: Measured, after: float) -> Duration:
    """Every dev measurement is taken to be the best so far, which writes the weights and a checkpoint."""
    config, pauses = training.config, _pauses(training)
    measured = pauses if training.dev is not None else 0
    dev = measured * (found.dev_seconds + found.rate_seconds)
    steps = found.steps_seconds + training.total * found.update_seconds
    if config.divergence_steps:  # the first losses are measured, with a third of a step's operations
        batches = training.total * config.accumulation
        each = found.steps_seconds / batches * training.world.size  # they are divided; these every worker reads
        steps += min(START_BATCHES, batches) / 3 * each
    if config.max_minutes:
        steps = min(steps, max(0.0, 60 * config.max_minutes - dev))
    per_byte = found.checkpoint_seconds / max(1, found.checkpoint_bytes)
    late = steps + dev > config.checkpoint_seconds
    between = (steps + dev) / pauses // config.checkpoint_seconds
    saves = pauses * between + (pauses if measured or late else 0)
    written = measured * found.best_bytes + saves * found.checkpoint_bytes + _result_bytes(training)
    return Duration(steps, dev, per_byte * written, after)


def _disk(training: Training, found: Measured) -> Disk:
    """Each checkpoint that is kept may name best weights of its own; a new pair is written before an older one goes."""
    result = _result_bytes(training)
    pair = found.checkpoint_bytes + (found.best_bytes if training.dev is not None else 0)
    checkpoints = (KEPT + 1) * pair
    ending = KEPT * pair + result
    events = STATUS_BYTES * training.total
    return Disk((max(checkpoints, ending) + events) / MB, (result + events) / MB, found.checkpoint_bytes / MB)


def _mb(size: float) -> str:
    return f"{size / 1024:,.1f} GB" if size >= 10 * 1024 else f"{max(1, size):,.0f} MB"


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 2) for name, value in values.items()}

"""The one training loop. What is learned comes from the objective; where it stands comes from the checkpoint."""

from __future__ import annotations

import math
import signal
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tinyforge.config import TrainConfig
from tinyforge.dataset.batches import BatchPlan
from tinyforge.errors import TrainingError
from tinyforge.models.machine import matrix_rates, release_memory
from tinyforge.records import Tokens
from tinyforge.run import write_atomic
from tinyforge.train import checkpoint
from tinyforge.train.checkpoint import Progress
from tinyforge.train.cost import Work
from tinyforge.train.objectives.base import Objective, Prepares
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.schedule import learning_rate_factor

BEST = "best.safetensors"
TRIM_EVERY = 20  # steps; a trim costs milliseconds


class Rows(Protocol):
    """Encoded examples that know their lengths: a list behind :class:`EncodedRows`, or a memory-mapped store."""

    @property
    def lengths(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Tokens: ...


class EncodedRows:
    """Rows held in memory, end to end in two arrays: a quarter of what lists of Python integers take."""

    def __init__(self, rows: Iterable[Tokens]) -> None:
        ids, labels = array("i"), array("i")
        lengths, borders = [], array("i")
        for row in rows:
            ids.extend(row.ids)
            labels.extend(row.labels)
            lengths.append(len(row.ids))
            borders.append(row.border)
        self._ids, self._labels, self._borders = ids, labels, borders
        self.lengths = np.array(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tokens:
        end = int(self._ends[index])
        start = end - int(self.lengths[index])
        return Tokens(list(self._ids[start:end]), list(self._labels[start:end]), self._borders[index])


@dataclass(frozen=True)
class Status:
    """What a person wants to see after a step. Rates are averages over the last steps; memory is resident MB.

    ``peak_share`` is the part of the machine's measured matrix rate that went into useful tokens.
    ``metrics`` are the objective's own, as means over the step.
    """

    step: int
    total: int
    loss: float
    dev_loss: float | None
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    eta_seconds: float
    memory_mb: float
    peak_share: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    steps: int
    total_steps: int
    tokens: int
    seconds: float
    best_step: int
    best_loss: float
    stopped_early: bool


def checkpoint_activations(model: Any) -> None:
    """Keep only each block's input, and compute the rest again in the backward pass (Chen et al. 2016)."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()  # under frozen embeddings nothing would be computed again otherwise


def dev_loss(model: nn.Module, objective: Objective, rows: Rows, budget: int) -> float:
    """Mean loss per learned token over all the rows, in nats, without dropout."""
    plan = BatchPlan(rows.lengths, budget, 0, 1)
    total, weight = 0.0, 0
    model.eval()
    with torch.no_grad():
        for number in range(len(plan)):
            summed, count, _ = objective.loss(model, objective.collate([rows[int(i)] for i in plan[number]]))
            total += float(summed)
            weight += count
    model.train()
    return total / max(1, weight)


@contextmanager
def _interruptible() -> Iterator[dict[str, int]]:
    """Turn SIGTERM and Ctrl-C into a request to stop after the step that is running."""
    asked: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt  # asked twice: the person does not want to wait for the step
        asked["signal"] = number

    previous = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Interrupted(KeyboardInterrupt):
    """Asked to stop; the state was saved. ``signal`` is the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number


@dataclass
class Training:
    """One training: build it, then :meth:`run` it to the end. The same arguments always continue the same training.

    ``key`` must change whenever the data, the base or the configuration does: a checkpoint of another key is not used.
    After the run the model holds the weights of the best dev loss (or the last, without dev rows).
    """

    model: nn.Module
    objective: Objective
    rows: Rows
    dev: Rows | None
    config: TrainConfig
    learning_rate: float
    folder: Path
    key: str
    seed: int
    on_status: Callable[[Status], None] = lambda status: None
    on_note: Callable[[str], None] = lambda note: None
    on_measure: Callable[[int], None] = lambda step: None
    """Called with the step number after each dev loss, while the model is in eval mode."""

    def __post_init__(self) -> None:
        config = self.config
        self._plan = BatchPlan(self.rows.lengths, config.batch_tokens, self.seed, config.epochs, config.batch_rows)
        self.total = max(1, math.ceil(len(self._plan) / self.config.accumulation))
        if self.config.max_steps:
            self.total = min(self.total, self.config.max_steps)
        self._every = max(1, math.ceil(self.total / self.config.evaluations))
        self._rates: deque[tuple[float, int, float]] = deque(maxlen=20)
        self._work = Work.of(self.model)
        self._peak = self._matrix_rate()

    def _matrix_rate(self) -> float:
        return matrix_rates((next(self.model.parameters()).dtype,), rounds=10)[0]

    def run(self) -> Result:
        """Train to the end, from the newest checkpoint when there is one.

        Raises TrainingError when the loss is not a number, and Interrupted after saving when asked to stop.
        """
        torch.manual_seed(self.seed)
        if self.config.gradient_checkpointing:
            checkpoint_activations(self.model)
        self.model.train()
        if isinstance(self.objective, Prepares):
            self.objective.prepare(self.model)
        optimizer = MasterOptimizer(self.model, self.config, self.learning_rate)
        progress = self._restore(optimizer)
        stopped = False
        saved_at = time.monotonic()
        with _interruptible() as asked:
            while progress.step < self.total and not stopped:
                status = self._step(optimizer, progress)
                measured = progress.step % self._every == 0 or progress.step == self.total
                measured_loss = None
                if measured and self.dev is not None:
                    measured_loss = self._measure(optimizer, progress)
                    stopped = progress.stale >= self.config.patience
                if progress.step % TRIM_EVERY == 0:
                    release_memory()
                self.on_status(Status(**{**status, "dev_loss": measured_loss}))
                due = time.monotonic() - saved_at > self.config.checkpoint_seconds
                if asked or due or (measured and progress.seconds > self.config.checkpoint_seconds):
                    self._save(optimizer, progress)
                    saved_at = time.monotonic()
                if asked:
                    raise Interrupted(asked["signal"])
        self._take_best(optimizer, progress)
        return Result(
            progress.step,
            self.total,
            progress.tokens,
            progress.seconds,
            progress.best_step,
            progress.best_loss,
            stopped,
        )

    def _restore(self, optimizer: MasterOptimizer) -> Progress:
        found = checkpoint.load_newest(self.folder, self.key)
        if found is None:
            return Progress()
        progress, tensors, damaged = found
        for note in damaged:
            self.on_note(note)
        optimizer.load(tensors)
        self.on_note(f"continuing at step {progress.step} of {self.total}")
        return progress

    def _save(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        checkpoint.save(self.folder, progress, optimizer.tensors(), self.key)

    def _step(self, optimizer: MasterOptimizer, progress: Progress) -> dict[str, Any]:
        began = time.perf_counter()
        first = progress.step * self.config.accumulation
        numbers = range(first, min(first + self.config.accumulation, len(self._plan)))
        total, weight, tokens, operations = 0.0, 0, 0, 0.0
        sums: Counter[str] = Counter()  # adds floats as well
        for number in numbers:
            rows = [self.rows[int(i)] for i in self._plan[number]]
            summed, count, extra = self.objective.loss(self.model, self.objective.collate(rows))
            summed.backward()  # type: ignore[no-untyped-call]
            optimizer.gather()
            total += float(summed.detach())
            weight += count
            tokens += sum(len(r.ids) for r in rows)
            operations += self._work.operations(rows)
            sums.update(extra)
        loss = total / max(1, weight)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {progress.step + 1}.",
                "The last checkpoint is kept. Try --set train.learning_rate at a third of its value.",
            )
        factor = learning_rate_factor(self.config, progress.step, self.total)
        norm = optimizer.step(max(1, weight), factor)
        elapsed = time.perf_counter() - began
        progress.step, progress.tokens = progress.step + 1, progress.tokens + tokens
        progress.seconds += elapsed
        self._rates.append((elapsed, tokens, operations))
        seconds = sum(s for s, _, _ in self._rates)
        return {
            "step": progress.step,
            "total": self.total,
            "loss": loss,
            "learning_rate": self.learning_rate * factor,
            "gradient_norm": norm,
            "tokens_per_second": sum(t for _, t, _ in self._rates) / seconds,
            "eta_seconds": (self.total - progress.step) * seconds / len(self._rates),
            "memory_mb": psutil.Process().memory_info().rss / 2**20,
            "metrics": {name: value / max(1, weight) for name, value in sums.items()},
            "peak_share": sum(o for _, _, o in self._rates) / seconds / self._peak,
        }

    def _measure(self, optimizer: MasterOptimizer, progress: Progress) -> float:
        assert self.dev is not None
        began = time.perf_counter()
        loss = dev_loss(self.model, self.objective, self.dev, 4 * self.config.batch_tokens)
        self.model.eval()
        self.on_measure(progress.step)
        self.model.train()
        self._peak = self._matrix_rate()  # a shared machine's rate changes by the minute
        progress.seconds += time.perf_counter() - began
        if loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.stale = loss, progress.step, 0
            self._save_best(optimizer, progress)
        else:
            progress.stale += 1
        return loss

    def _best_path(self, step: int) -> Path:
        return self.folder / f"{step:07d}-{BEST}"

    def _save_best(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        """The newest best joins the folder; older ones go only once a checkpoint names the newer."""
        path = self._best_path(progress.step)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda handle: _write_tensors(handle, optimizer.masters))
        self._save(optimizer, progress)
        for old in self.folder.glob(f"*-{BEST}"):
            if old != path:
                old.unlink(missing_ok=True)

    def _take_best(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        if progress.best_step in (-1, progress.step):
            return
        best = load_file(self._best_path(progress.best_step))
        with torch.no_grad():
            for name, master in optimizer.masters.items():
                master.copy_(best[name])
        optimizer.write_back()


def _write_tensors(handle: Any, tensors: dict[str, Tensor]) -> None:
    from safetensors.torch import save

    handle.write(save({name: t.contiguous() for name, t in tensors.items()}))

"""The one training loop. What is learned comes from the objective; where it stands comes from the checkpoint."""

from __future__ import annotations

import math
import random
import signal
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from tinyforge.config import TrainConfig
from tinyforge.dataset.batches import BatchPlan
from tinyforge.errors import Interrupted
from tinyforge.models.attention import own_attention
from tinyforge.models.lean import lean_layers
from tinyforge.models.machine import matrix_rates, release_memory
from tinyforge.records import Tokens
from tinyforge.train import checkpoint, watch
from tinyforge.train.budget import Budget
from tinyforge.train.checkpoint import Progress
from tinyforge.train.compiled import compiling
from tinyforge.train.cost import Work
from tinyforge.train.device import device_of, memory_mb, place_state
from tinyforge.train.distributed import ALONE, Share, World, shares
from tinyforge.train.objectives.base import Objective, Packs, Prepares
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.schedule import learning_rate_factor
from tinyforge.train.workers import divide

TRIM_EVERY = 20  # steps; a trim costs milliseconds
DEV_BUDGET = 4  # times the tokens of a training batch: nothing is kept for a backward pass


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
    stopped_by: str
    """``epochs``: every pass was made; else the option that ended it: max_steps, max_minutes or patience."""


def checkpoint_activations(model: Any) -> None:
    """Keep only each block's input, and compute the rest again in the backward pass (Chen et al. 2016)."""
    model.gradient_checkpointing_enable({"use_reentrant": False})
    if hasattr(model, "enable_input_require_grads"):
        model.enable_input_require_grads()  # under frozen embeddings nothing would be computed again otherwise


def dev_loss(model: nn.Module, objective: Objective, rows: Rows, budget: int, world: World = ALONE) -> float:
    """Mean loss per learned token over all the rows, in nats, without dropout; the workers divide the batches."""
    plan = BatchPlan(rows.lengths, budget, 0, 1)
    batches = [plan[number] for number in range(len(plan))]
    total, weight = 0.0, 0
    model.eval()
    with torch.no_grad():
        for share in shares(batches, rows.lengths, world, together=True, in_step=True):
            batch = objective.collate([rows[int(i)] for i in share.indices])
            summed, count, _ = objective.loss(model, batch)
            total += float(summed) * share.counts
            weight += count * share.counts
    model.train()
    found = world.add({"loss": total, "weight": weight})
    return found["loss"] / max(1, found["weight"])


@contextmanager
def _interruptible() -> Iterator[dict[str, int]]:
    """Turn SIGTERM and Ctrl-C into a request to stop after the step that is running."""
    asked: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise Interrupted(number)  # asked twice: the person does not want to wait for the step
        asked["signal"] = number

    heeded = [s for s in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(s) is not signal.SIG_IGN]
    previous = {s: signal.signal(s, ask) for s in heeded}
    try:
        yield asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


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
    world: World = ALONE

    def __post_init__(self) -> None:
        config = self.config
        self._device = device_of(self.model)
        self._workers = divide(self.model, self.objective, self.world, config)
        self.objective = self._workers.objective
        self._plan = BatchPlan(self.rows.lengths, config.batch_tokens, self.seed, config.epochs, config.batch_rows)
        self._budget = Budget.of(len(self._plan), config)
        self.total = self._budget.total
        self._watch = watch.Watch(config, self.total)
        self._rates: deque[tuple[float, int, float]] = deque(maxlen=20)
        self._work = Work.of(self.model)
        self._peak = self._matrix_rate()
        self._compiled = compiling(self.model, config)
        self._begun = False
        self._lean = ExitStack()

    def _matrix_rate(self) -> float:
        dtype = next(self.model.parameters()).dtype
        rate = matrix_rates((dtype,), rounds=10, device=self._device.type)[0]
        return self.world.add({"rate": rate})["rate"]

    @property
    def batches(self) -> BatchPlan:
        """All the micro-batches, of which ``total`` steps are taken."""
        return self._plan

    def begin(self) -> None:
        """What comes before the first step, once: the mode, and what the objective keeps of the model's start."""
        if self._begun:
            return
        self._begun = True
        if self.config.gradient_checkpointing:
            checkpoint_activations(self.model)
        self.model.train()
        self._prepare_layers()
        if isinstance(self.objective, Prepares):
            self.objective.prepare(self.model)

    def _prepare_layers(self) -> None:
        """Until the run ends, the model's layers stand in the forms that are fastest to train on a CPU."""
        if self._device.type != "cpu" or not self._workers.whole_model or self.config.compile == "on":
            return  # a compiler makes its own layers
        self._lean.enter_context(lean_layers(self.model))
        packs = self._lean.enter_context(own_attention(self.model)) and self.config.packing
        if isinstance(self.objective, Packs):
            self.objective.packing = packs
            self._lean.callback(setattr, self.objective, "packing", False)

    def end(self) -> None:
        """Undo :meth:`begin` for a training that is not run after all."""
        self._lean.close()
        self._begun = False

    def learn(
        self, optimizer: MasterOptimizer, rows: list[Tokens], counts: bool = True
    ) -> tuple[float, int, dict[str, float]]:
        """One micro-batch: its summed loss, weight and metrics; its gradients, unless it does not count, are added."""
        with self._compiled:
            summed, weight, metrics = self.objective.loss(self.model, self.objective.collate(rows))
            (summed if counts else 0 * summed).backward()  # type: ignore[no-untyped-call]
        optimizer.gather()
        return float(summed.detach()), weight, metrics

    def run(self) -> Result:
        """Train to the end, from the newest checkpoint when there is one.

        Raises TrainingError when it diverges, and Interrupted after saving when asked to stop.
        """
        with self._lean:
            return self._run()

    def _run(self) -> Result:
        watch.refuse_again(self.folder, self.key, self.config)
        for note in (self._budget.note(), *self._workers.notes):
            self._tell(note)
        self.begin()
        seed = self.world.seed(self.seed)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        optimizer = self._workers.prepare(self.learning_rate)
        progress = self._restore(optimizer)
        if self._watch.on and progress.step == 0:
            first = range(min(watch.START_BATCHES, len(self._plan)))
            self._watch.begin(self.model, self.objective, (self._batch(number) for number in first))
        stopped = progress.stale >= self.config.patience
        self._saved_step, self._saved_at = progress.step, time.monotonic()
        with _interruptible() as asked:
            while not stopped and not self._budget.ended(progress):
                before = self._budget.position(progress)
                status = self._step(optimizer, progress)
                self._judge(progress, status)
                measured = self._budget.measures(before, progress)
                measured_loss = None
                if measured and self.dev is not None:
                    measured_loss = self._measure(optimizer, progress)
                    stopped = progress.stale >= self.config.patience
                if progress.step % TRIM_EVERY == 0:
                    release_memory()
                self.on_status(Status(**{**status, "dev_loss": measured_loss}))
                late = time.monotonic() - self._saved_at > self.config.checkpoint_seconds
                # Read once: a signal that comes after this line waits for the next step. The workers agree on it.
                leaving, due = map(int, self.world.most((asked.get("signal", 0), late)))
                if leaving or due or (measured and progress.seconds > self.config.checkpoint_seconds):
                    self._save(optimizer, progress)
                if leaving:
                    raise Interrupted(leaving)
        self._check(progress, self._workers.whole(optimizer.masters))
        self._take_best(optimizer, progress)
        self._workers.finish()
        reason, why = self._budget.ending(progress, stopped)
        self._tell(why)
        return Result(
            progress.step,
            self.total,
            progress.tokens,
            progress.seconds,
            progress.best_step,
            progress.best_loss,
            reason,
        )

    def _tell(self, note: str) -> None:
        if note:
            self.on_note(note)

    def _shares(self, numbers: Iterable[int]) -> list[Share]:
        """This worker's part of a step's micro-batches."""
        together = getattr(self.objective, "compares_rows", False)
        batches = [self._plan[number] for number in numbers]
        return shares(batches, self.rows.lengths, self.world, together, in_step=not self._workers.whole_model)

    def _batch(self, number: int) -> list[Tokens]:
        return [self.rows[int(i)] for i in self._plan[number]]

    def _judge(self, progress: Progress, status: dict[str, Any]) -> None:
        seen = self._watch.diverged(progress.step, status["loss"])
        if seen:
            self.on_status(Status(**{**status, "dev_loss": None}))
            self._give_up(progress, progress.step, f"training diverged at step {progress.step}: {seen}")

    def _check(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Raises TrainingError when one of them is not finite: such a state is never kept."""
        spoilt = watch.not_finite(tensors)
        if spoilt:
            self._give_up(progress, progress.step, f"after step {progress.step}, {spoilt} holds what is no number")

    def _give_up(self, progress: Progress, step: int, message: str) -> NoReturn:
        best = checkpoint.best_path(self.folder, progress.best_step) if progress.best_step >= 0 else None
        newest = checkpoint.newest_path(self.folder, self.key)
        error = watch.give_up(message, best, newest, self.config, self.learning_rate)
        if self.world.first:
            watch.note_down(self.folder, self.key, step, error)
        raise error

    def _restore(self, optimizer: MasterOptimizer) -> Progress:
        found = checkpoint.load_newest(self.folder, self.key, self.on_note, self.world)
        if found is None:
            return Progress()
        progress, tensors = found
        optimizer.load(self._workers.split(place_state(tensors, self._device), optimizer.masters))
        self._watch.load(progress.losses)
        self.on_note(f"continuing at step {progress.step} of {self.total}")
        return progress

    def _save(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        """Write a checkpoint of this step once, unless the last steps may be the first of a divergence."""
        if self._watch.suspicious or progress.step == self._saved_step:
            return
        tensors = self._workers.whole(optimizer.tensors())
        self._check(progress, tensors)
        progress.losses = self._watch.state()
        checkpoint.save(self.folder, progress, tensors, self.key, self.world)
        self._saved_step, self._saved_at = progress.step, time.monotonic()

    def _step(self, optimizer: MasterOptimizer, progress: Progress) -> dict[str, Any]:
        began = time.perf_counter()
        first = progress.step * self.config.accumulation
        numbers = range(first, min(first + self.config.accumulation, len(self._plan)))
        sums: Counter[str] = Counter()  # adds floats as well
        for share in self._shares(numbers):
            rows = [self.rows[int(i)] for i in share.indices]
            summed, count, extra = self.learn(optimizer, rows, share.counts)
            if share.counts:
                useful = {"tokens": sum(len(r.ids) for r in rows), "operations": self._work.operations(rows)}
                sums.update({**extra, "loss": summed, "weight": count, **useful})
        sums = self.world.add(sums)
        self._workers.add_gradients(optimizer.masters)
        total, weight, tokens, operations = (sums.pop(name) for name in ("loss", "weight", "tokens", "operations"))
        loss = total / max(1, weight)
        now = progress.step + 1
        if not math.isfinite(loss):
            spoilt = watch.not_finite(dict(self.model.named_parameters()))
            why = f", for {spoilt} holds what is no number" if spoilt else ""
            self._give_up(progress, now, f"the loss became {loss} at step {now}{why}")
        factor = learning_rate_factor(self.config, self._budget.position(progress), self.total)
        norm = optimizer.step(max(1, weight), factor)
        if not math.isfinite(norm):
            self._give_up(progress, now, f"the norm of the gradient became {norm} at step {now}")
        elapsed = self.world.share(time.perf_counter() - began)  # what hangs on the clock is the same for all workers
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
            "eta_seconds": self._budget.eta(progress, seconds / len(self._rates)),
            "memory_mb": memory_mb(self._device),
            "metrics": {name: value / max(1, weight) for name, value in sums.items()},
            "peak_share": sum(o for _, _, o in self._rates) / seconds / self._peak,
        }

    def _measure(self, optimizer: MasterOptimizer, progress: Progress) -> float:
        assert self.dev is not None
        began = time.perf_counter()
        loss = dev_loss(self.model, self.objective, self.dev, DEV_BUDGET * self.config.batch_tokens, self.world)
        self.model.eval()
        if self._workers.whole_model:
            self.on_measure(progress.step)
        self.model.train()
        self._peak = self._matrix_rate()  # a shared machine's rate changes by the minute
        progress.seconds += self.world.share(time.perf_counter() - began)
        if not math.isfinite(loss):
            self._give_up(progress, progress.step, f"the dev loss became {loss} at step {progress.step}")
        if loss >= progress.best_loss:
            progress.stale += 1
        elif self._budget.ended(progress) or not self._watch.suspicious:
            progress.best_loss, progress.stale = loss, 0
            masters = self._workers.whole(optimizer.masters)
            self._check(progress, masters)
            checkpoint.save_best(self.folder, progress, masters, self.world)
            self._save(optimizer, progress)
        return loss

    def _take_best(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        if progress.best_step in (-1, progress.step):
            return
        best = self._workers.split(
            place_state(checkpoint.load_best(self.folder, progress), self._device), optimizer.masters
        )
        with torch.no_grad():
            for name, master in optimizer.masters.items():
                master.copy_(best[name])
        optimizer.write_back()

"""The one training loop. What is learned comes from the objective; where it stands comes from the checkpoint."""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tinyforge.config import TrainConfig
from tinyforge.dataset.batches import BatchPlan
from tinyforge.errors import Interrupted
from tinyforge.models.attention import own_attention
from tinyforge.models.lean import lean_layers
from tinyforge.models.machine import matrix_rates, release_memory
from tinyforge.records import Tokens
from tinyforge.train import watch
from tinyforge.train.budget import Budget
from tinyforge.train.checkpoint import Progress
from tinyforge.train.compiled import compiling
from tinyforge.train.cost import Work
from tinyforge.train.device import device_of, memory_mb
from tinyforge.train.distributed import ALONE, Share, World, shares
from tinyforge.train.interrupt import interruptible
from tinyforge.train.keep import Keeper
from tinyforge.train.objectives.base import Objective, Packs, Prepares
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.rows import Rows
from tinyforge.train.schedule import learning_rate_factor
from tinyforge.train.status import Rates, Result, Status
from tinyforge.train.workers import divide

TRIM_EVERY = 20  # steps; a trim costs milliseconds
DEV_BUDGET = 4  # times the tokens of a training batch: nothing is kept for a backward pass


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
        self._rates = Rates()
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

    @property
    def shares_weights(self) -> bool:
        """Whether each worker holds only a part of the model (FSDP2)."""
        return not self._workers.whole_model

    @property
    def together(self) -> bool:
        """Whether the rows of a micro-batch have to stay with one worker."""
        return bool(getattr(self.objective, "compares_rows", False))

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

    def add_gradients(self, optimizer: MasterOptimizer) -> None:
        """Make the gradients of this worker's rows those of all workers' rows."""
        self._workers.add_gradients(optimizer.masters)

    def run(self) -> Result:
        """Train to the end, from the newest checkpoint when there is one.

        Raises TrainingError when it diverges, and Interrupted after saving when asked to stop.
        """
        with self._lean:
            return self._run()

    def _run(self) -> Result:
        watch.refuse_again(self.folder, self.key, self.config)
        self._keeper = Keeper(
            self.folder,
            self.key,
            self.config,
            self.learning_rate,
            self._watch,
            self._workers,
            self.world,
            self._device,
            self.on_note,
        )
        for note in (self._budget.note(), *self._workers.notes):
            self._tell(note)
        self.begin()
        seed = self.world.seed(self.seed)
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        optimizer = self._workers.prepare(self.learning_rate)
        progress = self._keeper.restore(optimizer, self.total)
        if self._watch.on and progress.step == 0:
            first = range(min(watch.START_BATCHES, len(self._plan)))
            self._watch.begin(self.model, self.objective, (self._batch(number) for number in first))
        stopped = progress.stale >= self.config.patience
        with interruptible() as asked:
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
                # Read once: a signal that comes after this line waits for the next step. The workers agree on it.
                leaving, due = map(int, self.world.most((asked.get("signal", 0), self._keeper.late)))
                if leaving or due or (measured and progress.seconds > self.config.checkpoint_seconds):
                    self._keeper.save(optimizer, progress)
                if leaving:
                    raise Interrupted(leaving)
        self._keeper.check(progress, self._workers.whole(optimizer.masters))
        self._keeper.take_best(optimizer, progress)
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
        batches = [self._plan[number] for number in numbers]
        return shares(batches, self.rows.lengths, self.world, self.together, in_step=self.shares_weights)

    def _batch(self, number: int) -> list[Tokens]:
        return [self.rows[int(i)] for i in self._plan[number]]

    def _judge(self, progress: Progress, status: dict[str, Any]) -> None:
        seen = self._watch.diverged(progress.step, status["loss"])
        if seen:
            self.on_status(Status(**{**status, "dev_loss": None}))
            self._keeper.give_up(progress, progress.step, f"training diverged at step {progress.step}: {seen}")

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
        self.add_gradients(optimizer)
        total, weight, tokens, operations = (sums.pop(name) for name in ("loss", "weight", "tokens", "operations"))
        loss = total / max(1, weight)
        now = progress.step + 1
        if not math.isfinite(loss):
            spoilt = watch.not_finite(dict(self.model.named_parameters()))
            why = f", for {spoilt} holds what is no number" if spoilt else ""
            self._keeper.give_up(progress, now, f"the loss became {loss} at step {now}{why}")
        factor = learning_rate_factor(self.config, self._budget.position(progress), self.total)
        norm = optimizer.step(max(1, weight), factor)
        if not math.isfinite(norm):
            self._keeper.give_up(progress, now, f"the norm of the gradient became {norm} at step {now}")
        elapsed = self.world.share(time.perf_counter() - began)  # what hangs on the clock is the same for all workers
        progress.step, progress.tokens = progress.step + 1, progress.tokens + tokens
        progress.seconds += elapsed
        self._rates.add(elapsed, tokens, operations)
        return {
            "step": progress.step,
            "total": self.total,
            "loss": loss,
            "learning_rate": self.learning_rate * factor,
            "gradient_norm": norm,
            "tokens_per_second": self._rates.tokens_per_second,
            "eta_seconds": self._budget.eta(progress, self._rates.step_seconds),
            "memory_mb": memory_mb(self._device),
            "metrics": {name: value / max(1, weight) for name, value in sums.items()},
            "peak_share": self._rates.operations_per_second / self._peak,
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
            self._keeper.give_up(progress, progress.step, f"the dev loss became {loss} at step {progress.step}")
        if loss >= progress.best_loss:
            progress.stale += 1
        elif self._budget.ended(progress) or not self._watch.suspicious:
            progress.best_loss, progress.stale = loss, 0
            self._keeper.save_best(optimizer, progress)
        return loss

"""Real steps of a training, measured in place and then undone: what a plan rests on.

Several workers take the same steps at the same time, each on its part of the rows, and agree on what they see: the
slowest one's time, and the memory of the one that holds most.

Legend: N micro-batches; a batch of some rows is padded to its width, the tokens of its longest row.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from tinyforge.dataset.batches import BatchPlan
from tinyforge.models.machine import PeakMemory, matrix_rates, release_memory, resident
from tinyforge.run import write_file_atomic
from tinyforge.train import checkpoint
from tinyforge.train.checkpoint import Progress
from tinyforge.train.cost import Work
from tinyforge.train.distributed import cut, deals
from tinyforge.train.loop import DEV_BUDGET, Training, dev_loss
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.rows import EncodedRows
from tinyforge.train.schedule import learning_rate_factor

LEAST_MEASURED, MOST_MEASURED = 2, 8  # micro-batches besides the longest
SHARE_MEASURED = 0.04  # of all micro-batches, between these two


@dataclass(frozen=True)
class Sizes:
    """The rows, the widths and the relative costs of N micro-batches, by number."""

    rows_N: NDArray[np.int64]
    widths_N: NDArray[np.int64]
    costs_N: NDArray[np.float64]

    @classmethod
    def of(cls, plan: BatchPlan, lengths: Any, count: int, work: Work) -> Sizes:
        """Of the first ``count`` batches, or of the first epoch where that is shorter."""
        lengths = np.asarray(lengths)
        shapes = [(len(plan[n]), int(lengths[plan[n]].max())) for n in range(min(count, plan.first_epoch))]
        rows_N, widths_N = np.array(shapes, dtype=np.int64).T
        return cls(rows_N, widths_N, np.asarray(work.padded(rows_N, widths_N), dtype=np.float64))

    @property
    def tokens(self) -> NDArray[np.int64]:
        return self.rows_N * self.widths_N

    def largest(self) -> list[int]:
        """The batch of most tokens, padding included, and that with most pairs of tokens: one of them needs most."""
        pairs_N = self.tokens * self.widths_N
        return sorted({int(np.lexsort((pairs_N, self.tokens))[-1]), int(np.argmax(pairs_N))})

    def typical(self, count: int) -> list[tuple[int, float]]:
        """``count`` batches, cheapest first, each with the number of batches like it that it stands for.

        The batches in order of cost are cut into as many equal parts, and the middle one speaks for its part.
        """
        parts = np.array_split(np.argsort(self.costs_N, kind="stable"), min(count, len(self.costs_N)))
        middles = [int(part[len(part) // 2]) for part in parts]
        return [(m, float(self.costs_N[p].sum() / self.costs_N[m])) for m, p in zip(middles, parts, strict=True)]


@dataclass(frozen=True)
class Trial:
    """One micro-batch that was learned, and the update after it. ``peak``: the most bytes that a worker held by then.

    ``tokens`` are those of all its rows, whichever worker learned them.
    """

    tokens: int
    seconds: float
    update_seconds: float
    peak: int


@dataclass
class Measured:
    """What the steps showed. Sizes in bytes, times in seconds; ``complete`` is False where the longest batch was not
    run, because by the smaller ones it would have needed more memory than there is.

    ``steps_seconds`` is for all N micro-batches of the training without their updates, ``dev_seconds`` for one pass
    over the dev rows.
    """

    before: int = 0
    peak: int = 0
    complete: bool = True
    trials: list[Trial] = field(default_factory=list)
    longest: tuple[int, int] = (0, 0)
    steps_seconds: float = 0.0
    update_seconds: float = 0.0
    dev_seconds: float = 0.0
    rate_seconds: float = 0.0
    checkpoint_seconds: float = 0.0
    checkpoint_bytes: int = 0
    best_bytes: int = 0
    masters: int = 0
    optimizer: int = 0
    seconds: float = 0.0


@contextmanager
def undone(training: Training, optimizer: MasterOptimizer, folder: Path) -> Iterator[None]:
    """Whatever the block trains, afterwards every weight, buffer and random number is as before, bit by bit.

    The trained weights wait on the disk: a copy in memory would be the peak that is to be measured.
    """
    model, path = training.model, folder / "start.safetensors"
    random = torch.get_rng_state()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    size = sum(master.nbytes for master in optimizer.masters.values())
    write_file_atomic(path, lambda temporary: save_file(optimizer.masters, temporary), size)
    try:
        yield
    finally:
        start = load_file(path)
        with torch.no_grad():
            for name, master in optimizer.masters.items():
                master.copy_(start[name])
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        optimizer.write_back()
        for parameter in model.parameters():
            parameter.grad = None
        model.train()
        torch.set_rng_state(random)


class Probe:
    """The steps of one training. ``limit`` is how many bytes each worker may hold."""

    def __init__(self, training: Training, limit: int) -> None:
        self._training, self._limit, self._world = training, limit, training.world
        self._deals = deals(training.config.accumulation, training.world, training.together)
        self._work = Work.of(training.model)
        self._count = min(len(training.batches), training.total * training.config.accumulation)
        self.sizes = Sizes.of(training.batches, training.rows.lengths, self._count, self._work)
        self.found = Measured(before=resident())

    def measure(self, folder: Path, longest: Sequence[int] | None = None) -> Measured:
        """Run the steps, write one checkpoint into ``folder`` (made, and removed again), and undo all of it.

        ``longest`` names the batches to take for the largest ones.
        """
        began = time.perf_counter()
        self._world.on_first(lambda: _empty(folder))
        try:
            with PeakMemory() as self._memory:
                self._training.begin()
                optimizer = MasterOptimizer(self._training.model, self._training.config, self._training.learning_rate)
                with undone(self._training, optimizer, folder):
                    self._steps(optimizer, self.sizes.largest() if longest is None else longest)
                    if self.found.complete:
                        self._others(optimizer, folder)
                    self.found.peak = max(self.found.peak, self._memory.value())
                self._world.wait()  # what was put aside is read from the folder by all
        finally:
            if self._world.first:
                shutil.rmtree(folder, ignore_errors=True)
        del optimizer
        release_memory()
        self.found.seconds = time.perf_counter() - began
        return self.found

    def _steps(self, optimizer: MasterOptimizer, longest: Sequence[int]) -> None:
        """From the cheapest batch to the largest, so that a lack of memory is foreseen before it is met."""
        found, sizes = self.found, self.sizes
        found.masters = sum(master.nbytes for master in optimizer.masters.values())
        typical = sizes.typical(max(LEAST_MEASURED, min(MOST_MEASURED, int(self._count * SHARE_MEASURED))))
        first = self._rows(typical[0][0])
        self._try(optimizer, first[: self._world.size])  # kernels are chosen and the optimizer's state is made
        tensors = [*optimizer.tensors().values()]
        found.optimizer = sum(tensor.nbytes for tensor in tensors) - found.masters
        self._fixed = int(self._world.most([resident()])[0]) + 2 * found.masters  # a gradient beside its sum
        seconds = {}
        widest = max(longest, key=lambda n: int(sizes.widths_N[n]))
        found.longest = (int(sizes.rows_N[widest]), int(sizes.widths_N[widest]))
        for number in [*(n for n, _ in typical), *(n for n in longest if n not in dict(typical))]:
            if not self._approach(optimizer, number):
                found.complete, found.peak = False, self._foreseen(max(int(sizes.tokens[n]) for n in longest))
                return
            before = first if self._training.config.accumulation > 1 and number in longest else None
            seconds[number] = self._try(optimizer, self._rows(number), before).seconds
        each = self._training.config.accumulation
        turns = -(-each // self._world.size) / each if self._deals else 1.0  # of all micro-batches
        scale = turns * self._count / len(sizes.rows_N)
        found.steps_seconds = scale * sum(seconds[number] * like for number, like in typical)
        found.update_seconds = sum(trial.update_seconds for trial in found.trials[1:]) / len(found.trials[1:])

    def _rows(self, number: int) -> NDArray[np.int64]:
        return self._training.batches[number]

    def _try(
        self, optimizer: MasterOptimizer, rows: NDArray[np.int64], before: NDArray[np.int64] | None = None
    ) -> Trial:
        """Learn the rows and update; where steps accumulate, on top of the gradients of the rows ``before``."""
        training = self._training
        if before is not None:
            self._learn(optimizer, before)
        began = time.perf_counter()
        weight = self._learn(optimizer, rows)
        learned = time.perf_counter()
        training.add_gradients(optimizer)
        optimizer.step(max(1, weight), learning_rate_factor(training.config, 0, training.total))
        done = time.perf_counter()
        slowest, all_of_it, peak = self._world.most([learned - began, done - began, self._memory.value()])
        tokens = len(rows) * int(np.asarray(training.rows.lengths)[rows].max())
        self.found.trials.append(Trial(tokens, slowest, all_of_it - slowest, int(peak)))
        return self.found.trials[-1]

    def _learn(self, optimizer: MasterOptimizer, rows: NDArray[np.int64]) -> int:
        """This worker's part of the rows, which may be none; returns its weight."""
        training = self._training
        mine = rows if self._deals else cut(rows, training.rows.lengths, self._world)
        return training.learn(optimizer, [training.rows[int(i)] for i in mine])[1] if len(mine) else 0

    def _approach(self, optimizer: MasterOptimizer, number: int) -> bool:
        """Whether the batch may be run. One that seems too large is tried in growing parts first, to see better."""
        tokens, rows = int(self.sizes.tokens[number]), int(self.sizes.rows_N[number])
        while self._foreseen(tokens) > self._limit:
            largest = max(trial.tokens for trial in self.found.trials)
            part = 2 * largest * rows // tokens
            if tokens <= 2 * largest or part < 1 or self._foreseen(2 * largest) > self._limit:
                return False
            self._try(optimizer, self._rows(number)[:part])
        return True

    def _foreseen(self, tokens: int) -> int:
        """The peak of a batch of so many tokens: what every batch needs, and the rest as the largest one so far."""
        largest = max(self.found.trials, key=lambda trial: trial.tokens)
        return self._fixed + max(0, largest.peak - self._fixed) * tokens // largest.tokens

    def _others(self, optimizer: MasterOptimizer, folder: Path) -> None:
        """A part of a dev measurement and one whole checkpoint."""
        found = self.found
        found.best_bytes = (folder / "start.safetensors").stat().st_size
        began = time.perf_counter()
        checkpoint.save(folder / "checkpoint", Progress(), optimizer.tensors(), "plan", self._world)
        found.checkpoint_seconds = self._world.most([time.perf_counter() - began])[0]
        files = (folder / "checkpoint").rglob("*")
        found.checkpoint_bytes = self._world.on_first(lambda: sum(p.stat().st_size for p in files if p.is_file()))
        if self._training.dev is not None:
            found.dev_seconds = self._dev_seconds(self._training.dev)
            began = time.perf_counter()
            matrix_rates((next(self._training.model.parameters()).dtype,), rounds=10)
            found.rate_seconds = self._world.most([time.perf_counter() - began])[0]

    def _dev_seconds(self, dev: Any) -> float:
        """Of one pass. The batches are dealt out; here every worker goes through each that is measured."""
        training = self._training
        budget = DEV_BUDGET * training.config.batch_tokens
        plan = BatchPlan(dev.lengths, budget, 0, 1)
        sizes = Sizes.of(plan, dev.lengths, len(plan), self._work)
        typical, seconds = sizes.typical(3), {}
        for number in sorted({*(n for n, _ in typical), *sizes.largest()}):
            rows = EncodedRows(dev[int(i)] for i in plan[number])
            began = time.perf_counter()
            dev_loss(training.model, training.objective, rows, budget)
            seconds[number] = self._world.most([time.perf_counter() - began])[0]
        turns = -(-len(plan) // self._world.size) / len(plan)
        return turns * sum(seconds[number] * like for number, like in typical)


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

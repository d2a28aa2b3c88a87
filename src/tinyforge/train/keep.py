"""What a training keeps, and when: its checkpoints, its best weights, and nothing that is spoilt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from tinyforge.config import TrainConfig
from tinyforge.train import checkpoint, watch
from tinyforge.train.checkpoint import Progress
from tinyforge.train.device import place_state
from tinyforge.train.distributed import World
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.workers import Replicated


@dataclass
class Keeper:
    """Between one training and its ``folder`` of checkpoints; ``rate`` is its peak learning rate."""

    folder: Path
    key: str
    config: TrainConfig
    rate: float
    watch: watch.Watch
    workers: Replicated
    world: World
    device: torch.device
    note: Callable[[str], None]

    def restore(self, optimizer: MasterOptimizer, total: int) -> Progress:
        """Where the newest checkpoint of this training stands, with its state put in place; or the beginning."""
        found = checkpoint.load_newest(self.folder, self.key, self.note, self.world)
        progress = Progress()
        if found is not None:
            progress, tensors = found
            optimizer.load(self.workers.split(place_state(tensors, self.device), optimizer.masters))
            self.watch.load(progress.losses)
            self.note(f"continuing at step {progress.step} of {total}")
        self._saved_step, self._saved_at = progress.step, time.monotonic()
        return progress

    @property
    def late(self) -> bool:
        """Whether it is time for another checkpoint."""
        return time.monotonic() - self._saved_at > self.config.checkpoint_seconds

    def save(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        """Write a checkpoint of this step once, unless the last steps may be the first of a divergence."""
        if self.watch.suspicious or progress.step == self._saved_step:
            return
        tensors = self.workers.whole(optimizer.tensors())
        self.check(progress, tensors)
        progress.losses = self.watch.state()
        checkpoint.save(self.folder, progress, tensors, self.key, self.world)
        self._saved_step, self._saved_at = progress.step, time.monotonic()

    def save_best(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        """Write the weights of the best dev loss so far, and a checkpoint that names them."""
        masters = self.workers.whole(optimizer.masters)
        self.check(progress, masters)
        checkpoint.save_best(self.folder, progress, masters, self.world)
        self.save(optimizer, progress)

    def take_best(self, optimizer: MasterOptimizer, progress: Progress) -> None:
        """Put the weights of the best dev loss into the model, where they are not those of the last step."""
        if progress.best_step in (-1, progress.step):
            return
        best = place_state(checkpoint.load_best(self.folder, progress), self.device)
        best = self.workers.split(best, optimizer.masters)
        with torch.no_grad():
            for name, master in optimizer.masters.items():
                master.copy_(best[name])
        optimizer.write_back()

    def check(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Raises TrainingError when one of them is not finite: such a state is never kept."""
        spoilt = watch.not_finite(tensors)
        if spoilt:
            self.give_up(progress, progress.step, f"after step {progress.step}, {spoilt} holds what is no number")

    def give_up(self, progress: Progress, step: int, message: str) -> NoReturn:
        """Raises TrainingError with what was kept, after noting down beside it why the training ended at ``step``."""
        best = checkpoint.best_path(self.folder, progress.best_step) if progress.best_step >= 0 else None
        newest = checkpoint.newest_path(self.folder, self.key)
        error = watch.give_up(message, best, newest, self.config, self.rate)
        if self.world.first:
            watch.note_down(self.folder, self.key, step, error)
        raise error

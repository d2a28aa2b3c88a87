"""How far a training is, in steps or in time, and what ends it.

Under ``train.max_minutes`` the place in the schedule is the larger of the two shares: that of the steps, and that of
the time. So the learning rate always falls to its end, and the dev loss is measured as often, however few steps the
machine manages. The price is that the rates depend on the clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinyforge.config import TrainConfig
from tinyforge.train.checkpoint import Progress


@dataclass(frozen=True)
class Budget:
    """``total`` steps, and the seconds that ``config`` allows."""

    total: int
    config: TrainConfig

    @classmethod
    def of(cls, batches: int, config: TrainConfig) -> Budget:
        """For so many micro-batches in all the epochs."""
        total = max(1, math.ceil(batches / config.accumulation))
        return cls(min(total, config.max_steps or total), config)

    @property
    def seconds(self) -> float:
        return 60 * self.config.max_minutes or math.inf

    def position(self, progress: Progress) -> float:
        """Between 0 and ``total``: the number of finished steps, where no time is set."""
        return max(progress.step, self.total * min(1.0, progress.seconds / self.seconds))

    def ended(self, progress: Progress) -> bool:
        return self.position(progress) >= self.total

    def measures(self, before: float, progress: Progress) -> bool:
        """Whether the dev loss is due after a step that began at position ``before``."""
        every = max(1, math.ceil(self.total / self.config.evaluations))
        return self.ended(progress) or int(self.position(progress) / every) > int(before / every)

    def eta(self, progress: Progress, seconds_per_step: float) -> float:
        return min((self.total - progress.step) * seconds_per_step, max(0.0, self.seconds - progress.seconds))

    def note(self) -> str:
        """What a person has to know before a training against the clock, or nothing."""
        if not self.config.max_minutes:
            return ""
        return (
            f"train.max_minutes: at most {self.config.max_minutes:g} minutes of training; the learning rate falls with "
            "the time, so another run, or a resumed one, is not bit-identical"
        )

    def ending(self, progress: Progress, impatient: bool) -> tuple[str, str]:
        """What ended the training (see ``Result.stopped_by``), and in words unless it is the last epoch."""
        at = f"stopped after step {progress.step:,} of {self.total:,} by train."
        if impatient:
            return "patience", f"{at}patience: {progress.stale} dev losses in a row were no better"
        if progress.step < self.total:
            return "max_minutes", f"{at}max_minutes: {progress.seconds / 60:.3g} minutes of training are spent"
        if self.total == self.config.max_steps:
            return "max_steps", f"{at}max_steps"
        return "epochs", ""

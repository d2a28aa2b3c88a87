"""Whether a training still learns: what its losses say, and what a run leaves behind when it does not.

Two rules judge the loss of each step. It is high when it lies above the losses that the untrained weights had, or above
the recent ones, by more than noise explains; too many high steps close together are a divergence. Steps that only
memorise are never high, so overfitting stays the business of early stopping.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from tinyforge.config import TrainConfig
from tinyforge.errors import InputError, TrainingError
from tinyforge.records import Tokens
from tinyforge.run import read_json, write_json
from tinyforge.train.objectives.base import Objective

START_BATCHES = 8  # micro-batches that the untrained weights are measured on
WINDOW = 64  # steps
LEAST = 20  # steps, before the recent losses are a measure
RISE_SHARE, LEAST_RISE = 0.25, 1.0  # of the loss at the start; nats
RECOVERY = 0.5  # of a high step, by another: a divergence in small batches has steps that look fine
MARKER = "diverged.json"
_AGAIN = "--set train.divergence_steps=0"


@dataclass
class Losses:
    """The statistics behind the rules: a part of the checkpoint, so that a resumed run judges as if never stopped.

    ``start`` are losses of the untrained weights, ``recent`` those of the last steps that were not high. ``high``
    rises by one at a high step and falls by a half at another; ``since`` is the step at which it last left zero.
    """

    start: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)
    high: float = 0.0
    since: int = 0


def spread(values: Iterable[float]) -> float:
    """The median absolute deviation, scaled to the standard deviation of a normal distribution."""
    known = list(values)
    middle = median(known)
    return 1.4826 * median(abs(value - middle) for value in known)


class Watch:
    """Judges the steps of one training of ``total`` steps, by ``train.divergence_steps`` and ``_deviations``."""

    def __init__(self, config: TrainConfig, total: int) -> None:
        self.on = config.divergence_steps > 0
        self.losses = Losses()
        # A short training cannot wait as long: a quarter of it must be enough.
        self._allowed = min(config.divergence_steps, max(2, total // 4))
        self._deviations = config.divergence_deviations

    def state(self) -> dict[str, Any]:
        return asdict(self.losses)

    def load(self, state: Mapping[str, Any]) -> None:
        self.losses = Losses(**state)

    @torch.no_grad()
    def begin(self, model: nn.Module, objective: Objective, batches: Iterable[Sequence[Tokens]]) -> None:
        """Take the losses of the untrained weights on these micro-batches, without dropout; none if not finite."""
        model.eval()
        summed = [objective.loss(model, objective.collate(rows))[:2] for rows in batches]
        model.train()
        found = [float(total) / max(1, weight) for total, weight in summed]
        self.losses.start = found if all(map(math.isfinite, found)) else []

    @property
    def suspicious(self) -> bool:
        """Whether the last steps may be the first of a divergence: no state of theirs is worth keeping."""
        return self.on and self.losses.high > 0

    def limits(self) -> dict[str, float]:
        """The losses above which a step is high, by what they were taken from.

        Taken from the largest of them: where two kinds of rows take turns, a median and its deviation know but one.
        """
        start, recent = self.losses.start, self.losses.recent
        known = {"that of the untrained weights": start} if start else {}
        if len(recent) >= LEAST:
            known["that of the steps before"] = recent
        return {name: max(values) + self._rise(values) for name, values in known.items()}

    def _rise(self, values: list[float]) -> float:
        scale = RISE_SHARE * median(self.losses.start or values)
        return max(LEAST_RISE, scale, self._deviations * spread(values))

    def diverged(self, step: int, loss: float) -> str:
        """Take in the finite loss of a step; what is wrong with it, or nothing."""
        losses, limits = self.losses, self.limits()
        name = min(limits, key=lambda known: limits[known], default="")
        if not name or loss <= limits[name]:
            losses.recent = [*losses.recent, loss][-WINDOW:]
            losses.high = max(0.0, losses.high - RECOVERY)
            return ""
        losses.since = losses.since if losses.high else step
        losses.high += 1
        if not self.on or losses.high < self._allowed:
            return ""
        usual = median(losses.start if name.endswith("weights") else losses.recent)
        return (
            f"since step {losses.since} the loss is far above {name}: {loss:.4g}, where {usual:.4g} was usual and "
            f"{limits[name]:.4g} is the most that noise explains"
        )


def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds a NaN or an infinity, or nothing."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return ""


def give_up(message: str, best: Path | None, newest: Path | None, config: TrainConfig, rate: float) -> TrainingError:
    """What to raise when a training has to stop: ``message``, what was kept, and what to try.

    ``best`` is where the weights of the best dev loss are, ``newest`` the last checkpoint, if there are any; ``rate``
    is the peak learning rate.
    """
    return TrainingError(f"{message}.", f"{_kept(best, newest)} {_what_to_try(config, rate)}")


def note_down(folder: Path, key: str, step: int, error: TrainingError) -> None:
    """Leave a note beside the checkpoints that this training stopped at ``step``, for :func:`refuse_again`."""
    write_json(folder / MARKER, {"key": key, "step": step, "message": error.message, "fix": error.fix})


def _kept(best: Path | None, newest: Path | None) -> str:
    kept = [f"the weights of the best dev loss, {best}"] if best else []
    kept += [f"the last good checkpoint, {newest}"] if newest else []
    return f"Kept: {' and '.join(kept)}." if kept else "Nothing was saved since the base, which is unchanged."


def _what_to_try(config: TrainConfig, rate: float) -> str:
    lower = f"--set train.learning_rate={rate / 3:.2g}"
    if config.optimizer == "muon":
        lower += f" --set train.muon_learning_rate={config.muon_learning_rate / 3:.2g}"
    return (
        f"Try {lower}, more warm-up (train.warmup_fraction), or look for spoilt rows with `tinyforge data validate`. "
        f"The same command would end the same way; with {_AGAIN} it goes on from what was kept, unwatched."
    )


def refuse_again(folder: Path, key: str, config: TrainConfig) -> None:
    """Raises TrainingError when this very training diverged before: it would only do so again.

    The note of another training is removed, and that of this one when it is not to be watched any more.
    """
    path = folder / MARKER
    if not path.exists():
        return
    try:
        found = read_json(path)
        same = found["key"] == key and config.divergence_steps > 0
    except (InputError, KeyError):
        same = False  # a note that cannot be read costs no more than finding out again
    if same:
        raise TrainingError(f"this training stopped before, and would again: {found['message']}", found["fix"])
    path.unlink(missing_ok=True)

"""What a training says of itself: after each step, and at its end."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

AVERAGED = 20  # steps


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


class Rates:
    """How fast the last steps were."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, float]] = deque(maxlen=AVERAGED)

    def add(self, seconds: float, tokens: int, operations: float) -> None:
        """Take in one step: what it took, and what was useful of it."""
        self._steps.append((seconds, tokens, operations))

    @property
    def _seconds(self) -> float:
        return sum(seconds for seconds, _, _ in self._steps)

    @property
    def step_seconds(self) -> float:
        return self._seconds / len(self._steps)

    @property
    def tokens_per_second(self) -> float:
        return sum(tokens for _, tokens, _ in self._steps) / self._seconds

    @property
    def operations_per_second(self) -> float:
        return sum(operations for _, _, operations in self._steps) / self._seconds

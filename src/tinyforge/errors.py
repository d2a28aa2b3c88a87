"""What can go wrong, as the person sees it: one line that names the place and what to do next."""

from __future__ import annotations


class TinyForgeError(Exception):
    """Base of every error that TinyForge raises on purpose; ``exit_code`` is what the command returns."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()


class InputError(TinyForgeError):
    """The person's input or usage cannot be used; nothing was changed."""

    exit_code = 2


class GateError(TinyForgeError):
    """The work finished, and a quality gate that was asked for refused the result."""

    exit_code = 3


class TrainingError(TinyForgeError):
    """Training stopped for a stated reason; the last good checkpoint is kept."""


class Interrupted(KeyboardInterrupt):
    """Asked to stop by a signal, whose number is ``signal``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.signal = number

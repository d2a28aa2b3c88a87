"""How many calls to a server may be under way: more while it answers, fewer when it says that it is busy.

Additive increase, multiplicative decrease, with a slow start, as TCP does it (Chiu and Jain 1989; Jacobson 1988).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

START = 4
DECREASE = 0.8
_LOOK = 0.5  # seconds between two looks at the clock and at whether all was called off


class StoppedError(Exception):
    """Nothing more is to be asked."""


class Throttle:
    """A limit between 1 and ``most``. Several threads may use it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(min(START, most))
        self.stopped = False
        self._changed = threading.Condition()
        self._busy = 0
        self._decreases = 0
        self._pause_until = 0.0

    @contextmanager
    def slot(self) -> Iterator[int]:
        """Wait for a place; gives the ticket that :meth:`refused` wants. Raises StoppedError after :meth:`stop`."""
        with self._changed:
            while not self.stopped and (self._busy >= int(self.limit) or self._pause() > 0):
                self._changed.wait(min(self._pause(), _LOOK) or _LOOK)
            if self.stopped:
                raise StoppedError
            self._busy += 1
            ticket = self._decreases
        try:
            yield ticket
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def _pause(self) -> float:
        return max(0.0, self._pause_until - time.monotonic())

    def answered(self) -> None:
        """Room for one more after each answer, until the server was busy once; then after each round of answers."""
        with self._changed:
            step = 1 / self.limit if self._decreases else 1.0
            self.limit = min(float(self.most), self.limit + step)
            self._changed.notify_all()

    def refused(self, ticket: int, seconds: float = 0.0) -> None:
        """The server is busy, and wants to be left alone for so many seconds. Calls sent together count as one."""
        with self._changed:
            if ticket == self._decreases:
                self.limit = max(1.0, self.limit * DECREASE)
                self._decreases += 1
            self._pause_until = max(self._pause_until, time.monotonic() + seconds)

    def wait(self, seconds: float) -> None:
        """Sleep, but not past :meth:`stop`."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped, seconds)

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

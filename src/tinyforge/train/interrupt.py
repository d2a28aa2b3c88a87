"""Being asked to stop: the step that is running is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tinyforge.errors import Interrupted


@contextmanager
def interruptible() -> Iterator[dict[str, int]]:
    """Turn SIGTERM and Ctrl-C into an entry ``signal`` of what is yielded; a second one raises Interrupted at once."""
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

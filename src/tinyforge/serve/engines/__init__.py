"""What writes the answers behind the server: requests in, events out while the answer grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.sampling import GREEDY, Sampling

if TYPE_CHECKING:
    from tinyforge.models.sample import Choice, Constraint

Finish = Literal["", "stop", "length", "cancelled", "error"]
FIRST_GUESS = 5.0  # seconds that an answer is taken to need before one was measured


class BusyError(TinyForgeError):
    """The queue is full. ``retry_after`` is about how many seconds from now there will be room."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} requests are waiting already.", f"Try again in {retry_after} seconds.")
        self.retry_after = retry_after


class StoppingError(TinyForgeError):
    """The server is about to end and takes nothing new."""

    def __init__(self) -> None:
        super().__init__("the server is stopping.", "Try again when it runs.")


@dataclass(frozen=True, slots=True)
class Event:
    """What an answer has grown by. The last event of an answer, and no other, has a ``finish``; ``tokens`` and
    ``prompt_tokens`` are then the whole answer's and its prompt's. ``reason`` says what an error was."""

    text: str = ""
    choices: tuple[Choice, ...] = ()
    finish: Finish = ""
    tokens: int = 0
    prompt_tokens: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt as token ids, and who hears of its answer.

    ``on_event`` is called by the engine's thread and must return at once. ``adapter`` "" is the base itself.
    """

    ids: Sequence[int]
    on_event: Callable[[Event], None]
    sampling: Sampling = GREEDY
    adapter: str = ""
    constraint: Constraint | None = None


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was taken. After ``cancel`` its slot is free within a token.

    ``on_cancel`` is the engine's, where it waits for something that would not look at ``cancelled`` by itself.
    """

    request: Request
    cancelled: threading.Event = field(default_factory=threading.Event)
    on_cancel: Callable[[Ticket], None] | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        if self.on_cancel is not None:
            self.on_cancel(self)


@dataclass(frozen=True, slots=True)
class Stats:
    """``running`` of ``slots`` and ``waiting`` are as of now; the others count since the start."""

    slots: int
    running: int
    waiting: int
    requests: int
    cancelled: int
    failed: int
    prompt_tokens: int
    tokens: int


def check_room(waiting: int, coming: int, bound: int, free: int, slots: int, seconds: float) -> None:
    """Raises BusyError where ``coming`` requests find no place: ``bound`` may wait, ``free`` slots take some at once.

    ``seconds`` is about how long an answer takes. Raises InputError for more than ever find one.
    """
    if coming > bound + slots:
        raise InputError(
            f"{coming} answers are asked for at once, and {bound + slots} are the most.", "Ask in several requests."
        )
    if waiting + coming > bound + max(0, free):
        raise BusyError(waiting, max(1, round(seconds * (1 + waiting // slots))))


class Engine(Protocol):
    """One base model with its adapters. Every method may be called from any thread.

    ``stops`` are the tokens that end an answer, ``context`` the most tokens of a prompt and its answer together.
    """

    @property
    def tokenizer(self) -> Any: ...
    @property
    def stops(self) -> Collection[int]: ...
    @property
    def context(self) -> int: ...
    @property
    def adapters(self) -> tuple[str, ...]: ...
    def add_adapter(self, name: str, place: Path) -> None:
        """Load an adapter under a name. Raises InputError for one that does not fit the base."""
        ...

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; answers under way with it are finished first, new ones are refused from now on."""
        ...

    def submit(self, requests: Sequence[Request]) -> list[Ticket]:
        """Take all of the requests or none.

        Raises BusyError when the queue has no room, InputError when it never has room for so many, StoppingError after
        close.
        """
        ...

    def stats(self) -> Stats: ...
    def close(self, seconds: float) -> None:
        """Take nothing new, let what was taken finish for so long, then end the rest with an error event."""
        ...

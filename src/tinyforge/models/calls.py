"""Many calls to a teacher: side by side, each kept by its content in SQLite, none paid for twice, within a budget.

An answer is on the disk before it is used. What was under way when the process was killed is asked again, under the
same Idempotency-Key.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

from tinyforge.models.endpoint import ATTEMPTS, Chat, Completion, Options, PassingError, patience
from tinyforge.models.throttle import StoppedError, Throttle
from tinyforge.records import Message
from tinyforge.run import hash_json

BUSY_ATTEMPTS = 60  # a server that is busy is asked more often than one that fails
BYTES_PER_TOKEN = 3.0  # of a prompt; what it really was is known, and counted, afterwards
_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY, teacher TEXT NOT NULL, purpose TEXT NOT NULL, text TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A prompt, what it is for, and how it is to be answered."""

    messages: tuple[Message, ...]
    purpose: str
    options: Options

    @property
    def tokens(self) -> int:
        """The most tokens that it should take: the prompt, estimated, and the longest answer."""
        return self.prompt_tokens + self.options.max_tokens

    @property
    def prompt_tokens(self) -> int:
        return int(sum(len(m.content.encode()) / BYTES_PER_TOKEN + 8 for m in self.messages))

    def key(self, teacher: str) -> str:
        return hash_json([teacher, [asdict(m) for m in self.messages], asdict(self.options)])


@dataclass(frozen=True, slots=True)
class Usage:
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that may be spent, over all reruns; 0 sets no limit. Prices are for a million tokens."""

    requests: int = 0
    tokens: int = 0
    price: float = 0.0
    price_in: float = 0.0
    price_out: float = 0.0

    def cost(self, usage: Usage) -> float:
        return (usage.prompt_tokens * self.price_in + usage.completion_tokens * self.price_out) / 1e6

    def allows(self, usage: Usage) -> bool:
        """Whether this much may be spent."""
        return not (
            (self.requests and usage.calls > self.requests)
            or (self.tokens and usage.tokens > self.tokens)
            or (self.price and self.cost(usage) > self.price)
        )


class Store:
    """Every answer so far, by the content of its call. Threads may share it; each answer is one transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._base = sqlite3.connect(path, check_same_thread=False)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")
        self._base.execute(_SCHEMA)
        self._base.commit()
        self._lock = Lock()

    def close(self) -> None:
        self._base.close()

    def find(self, key: str) -> Completion | None:
        with self._lock:
            query = "SELECT text, prompt_tokens, completion_tokens FROM calls WHERE key = ?"
            row = self._base.execute(query, (key,)).fetchone()
        return Completion(*row) if row else None

    def keep(self, key: str, teacher: str, purpose: str, answer: Completion) -> None:
        row = (key, teacher, purpose, answer.text, answer.prompt_tokens, answer.completion_tokens)
        with self._lock, self._base:
            self._base.execute("INSERT OR IGNORE INTO calls VALUES (?, ?, ?, ?, ?, ?)", row)

    def usage(self) -> Usage:
        """All that was ever spent."""
        query = "SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0) FROM calls"
        with self._lock:
            return Usage(*self._base.execute(query).fetchone())


class Caller:
    """Asks a teacher, at most ``most`` calls at once. ``count`` hears how many of a batch are answered."""

    def __init__(
        self,
        teacher: Chat,
        store: Store,
        budget: Budget,
        most: int,
        count: Callable[[str, int, int], None] = lambda name, done, total: None,
    ) -> None:
        self.teacher, self.store, self.budget, self.most = teacher, store, budget, most
        self.asked = 0  # calls that this process made and that were answered
        self.seconds = 0.0  # that those took, waiting for a free place not counted
        self.spent = False  # whether the budget kept something from being asked
        self._count = count
        self._lock = Lock()

    def ask_all(self, calls: Sequence[Call]) -> list[str | None]:
        """The answers in order; None for those that the budget does not allow.

        Which calls those are depends on the calls before them and on the budget alone, not on which answer came first.
        Raises the first error that does not pass; answers that came until then are kept.
        """
        keys = [call.key(self.teacher.identity) for call in calls]
        answers = [self.store.find(key) for key in keys]
        wanted = dict.fromkeys(key for key, answer in zip(keys, answers, strict=True) if answer is None)
        by_key = dict(zip(keys, calls, strict=True))
        admitted = self._admitted([(key, by_key[key]) for key in wanted])
        self._ask(admitted)
        return [
            a.text if (a := found or self.store.find(key)) else None for key, found in zip(keys, answers, strict=True)
        ]

    def _admitted(self, calls: Sequence[tuple[str, Call]]) -> list[tuple[str, Call]]:
        """Those that the budget allows when each takes all that it may."""
        used = self.store.usage()
        admitted = []
        for key, call in calls:
            more = (used.prompt_tokens + call.prompt_tokens, used.completion_tokens + call.options.max_tokens)
            used = Usage(used.calls + 1, *more)
            if not self.budget.allows(used):
                self.spent = True
                break
            admitted.append((key, call))
        return admitted

    def _ask(self, calls: Sequence[tuple[str, Call]]) -> None:
        if not calls:
            return
        throttle, done = Throttle(self.most), 0

        def work(item: tuple[str, Call]) -> None:
            nonlocal done
            try:
                self._answer(*item, throttle)
            except BaseException:
                throttle.stop()
                raise
            with self._lock:
                done += 1
                self._count("teacher", done, len(calls))

        with ThreadPoolExecutor(min(self.most, len(calls))) as pool:
            try:
                futures = [pool.submit(work, item) for item in calls]
                failures = [f.exception() for f in futures]
            except BaseException:
                throttle.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for failure in failures:
            if failure is not None and not isinstance(failure, StoppedError):
                raise failure

    def _answer(self, key: str, call: Call, throttle: Throttle) -> None:
        failures = 0
        for _ in range(BUSY_ATTEMPTS):
            with throttle.slot() as ticket:
                began = time.monotonic()
                try:
                    answer = self.teacher.complete(call.messages, call.options, key)
                except PassingError as failure:
                    problem, again = failure, failure.seconds or patience(failures)
                    failures += not failure.busy
                    if failure.busy:
                        throttle.refused(ticket, failure.seconds)
                        again = 0.0 if failure.seconds else patience(0)  # the throttle keeps the server's time
                    if failures == ATTEMPTS:
                        raise
                else:
                    self.store.keep(key, self.teacher.name, call.purpose, answer)
                    throttle.answered()
                    with self._lock:
                        self.asked += 1
                        self.seconds += time.monotonic() - began
                    return
            throttle.wait(again)
        raise problem

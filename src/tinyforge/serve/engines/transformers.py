"""The reference engine: transformers, with continuous batching.

One thread owns the model. Between two steps it takes rows in and lets rows go; a prompt is read alone, then its row
takes its steps with the others of its adapter. Greedy answers are those of a run alone, to the bit where
``batch.least_rows`` could find a number of rows that makes them so.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyforge import adapters
from tinyforge.dataset.render import stop_ids
from tinyforge.errors import InputError
from tinyforge.models.pieces import Pieces
from tinyforge.models.sample import Chooser
from tinyforge.serve.engines import FIRST_GUESS, Event, Finish, Request, Stats, StoppingError, Ticket, check_room
from tinyforge.serve.engines.batch import Apart, Ragged, least_rows, takes_ragged


class _Row:
    """An answer under way."""

    def __init__(self, ticket: Ticket, decode: Callable[[Sequence[int]], str], context: int) -> None:
        request = ticket.request
        self.ticket, self.request = ticket, request
        self.chooser = Chooser(request.sampling, request.ids, request.constraint)
        self.plain = self.chooser.plain
        self.pieces = Pieces(decode, request.sampling.stop)
        room = context - len(request.ids)
        self.budget = min(request.sampling.max_new_tokens or room, room)
        self.token, self.tokens, self._told = 0, 0, 0
        self.began = time.monotonic()

    def take(self, logits_V: Tensor, best: int, stops: set[int]) -> bool:
        """Choose the next token and tell what may be told; whether the answer goes on."""
        self.token = best if self.plain else self.chooser.choose(logits_V)
        if self.token in stops:
            self.finish("stop")
            return False
        self.tokens += 1
        text = self.pieces.push(self.token)
        if self.pieces.stopped or self.tokens == self.budget:
            self.finish("stop" if self.pieces.stopped else "length", text)
            return False
        if text:
            self._tell(Event(text, self._choices()))
        return True

    def finish(self, finish: Finish, text: str = "", reason: str = "") -> None:
        text += self.pieces.close()
        self._tell(Event(text, self._choices(), finish, self.tokens, len(self.request.ids), reason))

    def _choices(self) -> tuple[Any, ...]:
        if self.request.sampling.logprobs is None:
            return ()
        told, self._told = self._told, self.pieces.tokens
        return tuple(self.chooser.choices[told : self._told])

    def _tell(self, event: Event) -> None:
        try:
            self.request.on_event(event)
        except RuntimeError:  # who asked is gone, and its event loop with it
            self.ticket.cancel()


class TransformersEngine:
    """See :class:`tinyforge.serve.engines.Engine`. ``slots`` answers are written at a time, ``waiting`` more wait."""

    def __init__(self, model: Any, tokenizer: Any, slots: int = 8, waiting: int = 64) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._slots, self._bound = slots, waiting
        self.stops = stop_ids(model, tokenizer)
        self._virtual = adapters.virtual_tokens(model)
        self.context = int(getattr(model.config, "max_position_embeddings", 1 << 30)) - self._virtual
        self._plain_model = model.get_base_model() if hasattr(model, "peft_config") else model
        self.batched = not self._virtual and takes_ragged(self._plain_model)
        self._least = least_rows(self._plain_model, slots) if self.batched else 1
        self._peft: Any = None
        self._active: str | None = ""
        self._ids: dict[str, str] = {}
        self._leaving: set[str] = set()
        self._numbers = itertools.count()
        self._waiting: deque[Ticket] = deque()
        self._groups: dict[str, tuple[Any, list[_Row]]] = {}
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = queue.SimpleQueue()
        self._wake = threading.Condition()
        self._closing, self._deadline = False, 0.0
        self._counts = dict.fromkeys(("requests", "cancelled", "failed", "prompt_tokens", "tokens"), 0)
        self._seconds = FIRST_GUESS
        self._thread = threading.Thread(target=self._work, name="tinyforge-engine", daemon=True)
        self._thread.start()

    # --- called from any thread --------------------------------------------------------------------------------------

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._ids)

    def submit(self, requests: Sequence[Request]) -> list[Ticket]:
        tickets = [Ticket(request) for request in requests]
        with self._wake:
            if self._closing:
                raise StoppingError()
            free = self._slots - self._running()
            check_room(len(self._waiting), len(tickets), self._bound, free, self._slots, self._seconds)
            for request in requests:
                if request.adapter and request.adapter not in self._ids:
                    raise InputError(f"no adapter {request.adapter!r} is loaded.")
            self._waiting.extend(tickets)
            self._counts["requests"] += len(tickets)
            self._wake.notify()
        return tickets

    def stats(self) -> Stats:
        return Stats(self._slots, self._running(), len(self._waiting), **self._counts)

    def add_adapter(self, name: str, place: Path) -> None:
        self._call(lambda: self._add(name, place))

    def remove_adapter(self, name: str) -> None:
        self._call(lambda: self._remove(name))

    def close(self, seconds: float) -> None:
        with self._wake:
            self._closing, self._deadline = True, time.monotonic() + seconds
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds + 60)

    def _call(self, task: Callable[[], Any]) -> Any:
        """Have the engine's thread do something between two steps."""
        done: Future[Any] = Future()
        with self._wake:
            if self._closing:
                raise StoppingError()
            self._tasks.put((task, done))
            self._wake.notify()
        return done.result()

    def _running(self) -> int:
        return sum(len(rows) for _, rows in tuple(self._groups.values()))

    # --- the engine's thread -----------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._waiting or self._groups or self._closing or not self._tasks.empty()):
                    self._wake.wait()
                over = self._closing and (time.monotonic() >= self._deadline or not (self._waiting or self._groups))
            if over:
                self._end_all()
                return
            self._do_tasks()
            self._admit()
            for name in list(self._groups):
                self._advance(name)
            self._forget()

    def _do_tasks(self) -> None:
        while not self._tasks.empty():
            task, done = self._tasks.get()
            try:
                done.set_result(task())
            except Exception as error:
                done.set_exception(error)

    def _admit(self) -> None:
        """Read one waiting prompt, so that those under way wait for no more than one."""
        with self._wake:
            gone = [ticket for ticket in self._waiting if ticket.cancelled.is_set()]
            for ticket in gone:
                self._waiting.remove(ticket)
            ready = self._waiting and self._running() < self._slots
            first: Ticket | None = self._waiting.popleft() if ready else None
        for left in gone:
            self._drop(left)
        if first is None:
            return
        row = _Row(first, self._decode, self.context)
        try:
            self._begin(row)
        except Exception as error:
            self._fail(row, error)

    def _begin(self, row: _Row) -> None:
        name = self._ids.get(row.request.adapter, "")
        if row.request.adapter and not name:
            raise InputError(f"the adapter {row.request.adapter!r} was removed.")
        self._switch(name)
        ids_1T = torch.tensor([list(row.request.ids)], device=self.model.device)
        output = self.model(input_ids=ids_1T, use_cache=True, logits_to_keep=1)
        self._counts["prompt_tokens"] += len(row.request.ids)
        logits_V = output.logits[0, -1]
        if not self._next(row, logits_V, int(logits_V.argmax())):
            return
        if name not in self._groups:
            batch = Ragged(self._plain_model, self._least) if self.batched else Apart(self._plain_model)
            self._groups[name] = (batch, [])
        batch, rows = self._groups[name]
        batch.join(output.past_key_values, len(row.request.ids) + self._virtual)
        rows.append(row)

    def _advance(self, name: str) -> None:
        """One step of the rows of an adapter."""
        batch, rows = self._groups[name]
        for place in reversed([i for i, row in enumerate(rows) if row.ticket.cancelled.is_set()]):
            self._drop(rows[place].ticket, rows[place])
            self._leave(batch, rows, place)
        try:
            if rows:
                self._switch(name)
                self._take(batch, rows)
        except Exception as error:
            for row in rows:
                self._fail(row, error)
            rows.clear()
        if not rows:
            del self._groups[name]

    def _take(self, batch: Any, rows: list[_Row]) -> None:
        logits_BV = batch.step([row.token for row in rows])
        best = logits_BV.argmax(-1).tolist()
        going = [self._next(row, logits_BV[i], best[i]) for i, row in enumerate(rows)]
        for place in reversed([i for i, goes in enumerate(going) if not goes]):
            self._leave(batch, rows, place)

    def _next(self, row: _Row, logits_V: Tensor, best: int) -> bool:
        """Whether the row goes on; one whose constraint cannot be kept fails alone."""
        try:
            goes_on = row.take(logits_V, best, self.stops)
        except InputError as error:
            self._fail(row, error)
            return False
        if not goes_on:
            self._counts["tokens"] += row.tokens
            self._seconds += 0.2 * (time.monotonic() - row.began - self._seconds)
        return goes_on

    def _leave(self, batch: Any, rows: list[_Row], place: int) -> None:
        batch.leave(place)
        rows[place] = rows[-1]
        rows.pop()

    def _drop(self, ticket: Ticket, row: _Row | None = None) -> None:
        self._counts["cancelled"] += 1
        (row or _Row(ticket, self._decode, self.context)).finish("cancelled")

    def _fail(self, row: _Row, error: Exception) -> None:
        self._counts["failed"] += 1
        row.finish("error", reason=str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}")

    def _end_all(self) -> None:
        rows = [row for _, group in self._groups.values() for row in group]
        for row in [*rows, *(_Row(ticket, self._decode, self.context) for ticket in self._waiting)]:
            row.finish("error", reason=StoppingError().message)
        self._groups.clear()
        self._waiting.clear()
        while not self._tasks.empty():
            self._tasks.get()[1].set_exception(StoppingError())

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    # --- adapters ----------------------------------------------------------------------------------------------------

    def _add(self, name: str, folder: Path) -> None:
        if name in self._ids:
            raise InputError(f"an adapter {name!r} is loaded already.", "Give it another name.")
        inner = f"adapter{next(self._numbers)}"
        self._active = None  # also where the adapter is refused: PEFT may have switched before it was
        self._peft = adapters.add(self._peft or self.model, folder, inner)
        self._ids[name] = inner
        if self.batched:
            self._least = max(self._least, least_rows(self._plain_model, self._slots))

    def _remove(self, name: str) -> None:
        inner = self._ids.pop(name, None)
        if inner is None:
            raise InputError(f"no adapter {name!r} is loaded.")
        self._leaving.add(inner)

    def _forget(self) -> None:
        """Delete the adapters that were removed and that no answer needs any more."""
        for inner in [inner for inner in self._leaving if inner not in self._groups]:
            self._leaving.discard(inner)
            self._peft.delete_adapter(inner)
            self._active = None

    def _switch(self, inner: str) -> None:
        """Make the adapter the one that works; "" is the base alone."""
        if inner == self._active or self._peft is None:
            return
        if inner:
            self._peft.base_model.enable_adapter_layers()
            self._peft.base_model.set_adapter(inner, inference_mode=True)
        else:
            self._peft.base_model.disable_adapter_layers()
        self._active = inner

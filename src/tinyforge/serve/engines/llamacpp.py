"""The fast engine on CPUs: llama.cpp with a run's GGUF file, in a process that is watched.

Prompts are rendered here, so that both engines are given the same ids; stop texts and stop tokens are looked for here
as well. llama.cpp fills its slots continuously. When its process dies, the answers under way end with an error event
that says so, and it is started again. Sums are added up in another order in company than alone, so that an answer may
differ from that of a run alone where two tokens are as good as equally likely.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from http.client import HTTPException
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.llama_process import LlamaProcess, LlamaStream
from tinyforge.serve.engines import FIRST_GUESS, Request, Stats, StoppingError, Ticket, check_room
from tinyforge.serve.engines.llamacpp_answer import GrowingAnswer, TokenBytes, refuse

LONGEST_PAUSE = 30.0  # seconds between two attempts to start a process that does not come up
ENDS = 5.0  # seconds in which a process whose connection broke is found dead

_log = logging.getLogger("tinyforge.serve")


class LlamaEngine:
    """See :class:`tinyforge.serve.engines.Engine`. ``slots`` answers are written at a time, ``waiting`` more wait.

    ``file`` holds the model that ``tokenizer`` belongs to. Adapters are GGUF files; llama.cpp takes them when it
    starts, so adding one lets the answers under way finish and starts it again. Raises TinyForgeError when llama.cpp
    refuses the file.
    """

    def __init__(
        self,
        file: Path,
        tokenizer: Any,
        stops: Collection[int],
        context: int,
        threads: int,
        slots: int = 8,
        waiting: int = 64,
        exact: bool = False,
    ) -> None:
        self.file, self.tokenizer, self.stops, self.context = file, tokenizer, frozenset(stops), context
        self._slots, self._bound, self._exact, self._used = slots, waiting, exact, threads
        self._files: dict[str, Path] = {}
        self._loaded: tuple[str, ...] = ()
        self._waiting: deque[Ticket] = deque()
        self._streams: dict[int, LlamaStream | None] = {}  # of the answers under way, by their ticket's id
        self._wake = threading.Condition()
        self._changing = threading.Lock()
        self._pausing = self._closing = self._ended = False
        self._broken = ""  # why there is no process
        self._deadline = 0.0
        self._counts = dict.fromkeys(("requests", "cancelled", "failed", "prompt_tokens", "tokens"), 0)
        self._seconds = FIRST_GUESS
        self._process = self._start()
        workers = [threading.Thread(target=self._work, name="tinyforge-llama", daemon=True) for _ in range(slots)]
        watcher = threading.Thread(target=self._watch, name="tinyforge-llama-watch", daemon=True)
        self._threads = [*workers, watcher]
        for thread in self._threads:
            thread.start()

    @cached_property
    def token_bytes(self) -> TokenBytes:
        return TokenBytes(self.tokenizer)

    # --- called from any thread --------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """llama.cpp's process."""
        return self._process.pid

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(self._files)

    def submit(self, requests: Sequence[Request]) -> list[Ticket]:
        for request in requests:
            refuse(request)
        tickets = [Ticket(request, on_cancel=self._left) for request in requests]
        with self._wake:
            if self._closing:
                raise StoppingError()
            if self._broken:
                raise TinyForgeError(f"llama.cpp is not running: {self._broken}", "It is tried again; so try again.")
            free = self._slots - len(self._streams)
            check_room(len(self._waiting), len(tickets), self._bound, free, self._slots, self._seconds)
            for request in requests:
                if request.adapter and request.adapter not in self._files:
                    raise InputError(f"no adapter {request.adapter!r} is loaded.")
            self._waiting.extend(tickets)
            self._counts["requests"] += len(tickets)
            self._wake.notify_all()
        return tickets

    def stats(self) -> Stats:
        return Stats(self._slots, len(self._streams), len(self._waiting), **self._counts)

    def add_adapter(self, name: str, place: Path) -> None:
        if name in self._files:
            raise InputError(f"an adapter {name!r} is loaded already.", "Give it another name.")
        if place.suffix != ".gguf":
            raise InputError(
                f"{place}: llama.cpp takes adapters as GGUF files.",
                "Make one: tinyforge export RUN --to adapter --type gguf",
            )
        with self._changing:
            self._pause()
            try:
                self._process.close()
                self._files[name] = place
                self._process = self._start()
            except TinyForgeError as error:
                del self._files[name]
                self._process = self._start()
                raise InputError(f"{place}: {error}") from error
            finally:
                self._go_on()

    def remove_adapter(self, name: str) -> None:
        with self._wake:
            if self._files.pop(name, None) is None:
                raise InputError(f"no adapter {name!r} is loaded.")

    def close(self, seconds: float) -> None:
        with self._wake:
            deadline = time.monotonic() + seconds
            self._deadline = min(self._deadline, deadline) if self._closing else deadline
            self._closing = True
            self._wake.notify_all()
            while (self._waiting or self._streams) and time.monotonic() < self._deadline:
                self._wake.wait(0.1)
            self._ended = True
            rest, streams = list(self._waiting), list(self._streams.values())
            self._waiting.clear()
            self._wake.notify_all()
        for ticket in rest:
            GrowingAnswer(self, ticket).finish("error", reason=StoppingError().message)
        for stream in streams:
            if stream is not None:
                stream.cancel()
        self._process.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(60)

    def _left(self, ticket: Ticket) -> None:
        """Nobody waits for this answer any more."""
        with self._wake:
            waits, stream = ticket in self._waiting, self._streams.get(id(ticket))
            if waits:
                self._waiting.remove(ticket)
                self._counts["cancelled"] += 1
        if waits:
            GrowingAnswer(self, ticket).finish("cancelled")
        elif stream is not None:
            stream.cancel()

    # --- the process -------------------------------------------------------------------------------------------------

    def _start(self) -> LlamaProcess:
        files = dict(self._files)
        made = LlamaProcess(self.file, self.context, self._used, self._slots, list(files.values()), self._exact)
        self._loaded = tuple(files)
        return made

    def _pause(self) -> None:
        """Take nothing out of the queue, and wait for what is under way."""
        with self._wake:
            self._pausing = True
            while self._streams:
                self._wake.wait()

    def _go_on(self) -> None:
        with self._wake:
            self._pausing = False
            self._wake.notify_all()

    def _watch(self) -> None:
        """Start the process again when it ends and nobody has ended it."""
        while True:
            process = self._process
            how = process.wait()
            with self._changing:
                if self._ended:
                    return
                if process is self._process:
                    said = f"llama.cpp ended ({how}); it is started again"
                    _log.error(json.dumps({"error": said, "file": str(self.file)}))
                    self._restart(how)

    def _restart(self, how: str) -> None:
        self._pause()
        pause = 1.0
        while not self._ended:
            try:
                self._process = self._start()
                break
            except TinyForgeError as error:
                self._fail_waiting(f"llama.cpp ended ({how}) and does not start again: {error}")
                with self._wake:
                    self._wake.wait_for(lambda: self._ended, pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        self._broken = ""
        if self._ended:
            self._process.close()
        self._go_on()

    def _fail_waiting(self, reason: str) -> None:
        with self._wake:
            self._broken, rest = reason, list(self._waiting)
            self._waiting.clear()
            self._counts["failed"] += len(rest)
        for ticket in rest:
            GrowingAnswer(self, ticket).finish("error", reason=reason)

    # --- one thread for each slot ------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._ended and (self._pausing or not self._waiting):
                    self._wake.wait()
                if self._ended:
                    return
                ticket = self._waiting.popleft()
                self._streams[id(ticket)] = None
                process, loaded = self._process, self._loaded
            answer = GrowingAnswer(self, ticket)
            try:
                self._write(answer, process, loaded)
            except (OSError, HTTPException, JSONDecodeError) as error:
                self._broke(answer, process, error)
            except TinyForgeError as error:
                self._fail(answer, str(error))
            except Exception as error:  # nobody else would hear of it, and this thread serves others
                self._fail(answer, f"{type(error).__name__}: {error}")
            finally:
                with self._wake:
                    del self._streams[id(ticket)]
                    self._wake.notify_all()

    def _write(self, answer: GrowingAnswer, process: LlamaProcess, loaded: Sequence[str]) -> None:
        ticket, request = answer.ticket, answer.request
        if request.adapter and request.adapter not in loaded:
            raise InputError(f"the adapter {request.adapter!r} was removed.")
        try:
            stream = process.stream(answer.ask(loaded))
        except OSError:
            if not self._wait_again(ticket, process):
                raise
            return
        with self._wake:
            self._streams[id(ticket)] = stream
        if ticket.cancelled.is_set():  # before there was a stream to cancel
            stream.cancel()
        try:
            for event in stream:
                if ticket.cancelled.is_set() or not answer.take(event, process):
                    break
            else:
                if not answer.ended and not ticket.cancelled.is_set():
                    raise HTTPException("the stream ended before the answer did")
        except (OSError, HTTPException, JSONDecodeError):
            if not ticket.cancelled.is_set():
                raise
        finally:
            stream.close()
        if not answer.ended:
            answer.finish("cancelled")
            with self._wake:
                self._counts["cancelled"] += 1
            return
        with self._wake:
            self._counts["prompt_tokens"] += len(request.ids)
            self._counts["tokens"] += answer.tokens
            self._seconds += 0.2 * (time.monotonic() - answer.began - self._seconds)

    def _wait_again(self, ticket: Ticket, process: LlamaProcess) -> bool:
        """Put what was not begun back in the queue, where the process has died and is about to be started again."""
        if self._ended or not process.ended(ENDS):
            return False
        with self._wake:
            self._waiting.appendleft(ticket)
            if self._process is process:
                self._pausing = True
        return True

    def _broke(self, answer: GrowingAnswer, process: LlamaProcess, error: Exception) -> None:
        """The connection ended: llama.cpp died, or this engine was closed."""
        if self._ended:
            self._fail(answer, StoppingError().message)
        elif process.ended(ENDS):
            self._fail(answer, f"llama.cpp ended in the middle of this answer ({process.wait()}). Ask again.")
        else:
            self._fail(answer, f"the connection to llama.cpp broke ({type(error).__name__}: {error}). Ask again.")

    def _fail(self, answer: GrowingAnswer, reason: str) -> None:
        with self._wake:
            self._counts["failed"] += 1
        with suppress(RuntimeError):
            answer.finish("error", reason=reason)

"""Untrusted files are read in child processes with a time and a memory limit each; this is the parent's side.

The limit on memory is the kernel's, on the address space (RLIMIT_AS, set anew for each call as what the process uses
then plus ``megabytes``), because it also holds inside C libraries and against sparse mappings. Where the kernel does
not enforce it (macOS), the parent watches the resident size instead. Time is the parent's clock.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tinyforge.environment import cores
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.worker import READY

_MOST_WORKERS = 4
_AHEAD = 8  # calls per worker that may be finished before the one that is next in order
_AHEAD_BYTES = 4_000_000  # of their answers, beyond which no further call is made
_SECONDS_TO_START = 120.0
_WATCH_EVERY = 0.05
_START = "import sys; sys.path[:] = sys.argv[2:]; from tinyforge.ingest.worker import serve; serve(int(sys.argv[1]))"


@dataclass(frozen=True)
class Limits:
    """What one call may take. ``kernel``: whether the kernel keeps the memory limit, else the parent watches."""

    seconds: float
    megabytes: float
    kernel: bool = sys.platform == "linux"


class Call(NamedTuple):
    """A function by name ("module:function") and its arguments, all of which JSON can say."""

    target: str
    arguments: dict[str, Any]


class _Worker:
    """One child process and the call that it is busy with."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        paths = [str(Path(path).absolute()) for path in sys.path]
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), *paths],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.log,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            )
        self.connection = Connection(ours.detach())
        self.ready = False
        self.number = -1
        self.deadline = 0.0
        self.largest = 0.0

    def send(self, number: int, call: Call, limits: Limits) -> None:
        self.number = number
        self.deadline = time.monotonic() + (limits.seconds if self.ready else _SECONDS_TO_START)
        self.largest = 0.0 if limits.kernel else self.resident() + limits.megabytes * 1e6
        message = {"call": call.target, "arguments": call.arguments, "seconds": limits.seconds}
        message |= {"megabytes": limits.megabytes, "kernel": limits.kernel}
        self.connection.send_bytes(json.dumps(message).encode("ascii"))

    def resident(self) -> int:
        import psutil

        try:
            return int(psutil.Process(self.process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def said(self) -> str:
        """The end of what a process that did not start wrote."""
        self.log.seek(0)
        return " ".join(self.log.read()[-600:].decode(errors="replace").split())

    def close(self) -> int:
        """End the process; returns its exit status (negative: the signal)."""
        self.connection.close()
        if self.process.poll() is None:
            self.process.kill()
        self.log.close()
        return self.process.wait()


def _bytes(answers: dict[int, bytes | TinyForgeError]) -> int:
    return sum(len(answer) for answer in answers.values() if isinstance(answer, bytes))


class Pool:
    """Up to four child processes, as many as there are cores, started when needed and kept for the next call."""

    def __init__(self, limits: Limits, size: int = 0) -> None:
        self.limits = limits
        self.size = size or min(cores(), _MOST_WORKERS)
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop(self._busy + self._idle)
        self._idle.clear()

    def run(self, target: str, **arguments: Any) -> Any:
        """The answer to one call. Raises TinyForgeError where there is none; the message does not name the file."""
        outcome = next(self.map([Call(target, arguments)]))
        if isinstance(outcome, TinyForgeError):
            raise outcome
        return outcome

    def map(self, calls: Iterable[Call]) -> Iterator[Any]:
        """For each call, in order, its answer or the TinyForgeError that says why there is none.

        Calls are drawn as workers come free, not all at once. Raises TinyForgeError when no worker can be started.
        """
        source = enumerate(calls)
        done: dict[int, bytes | TinyForgeError] = {}
        given = 0
        try:
            while True:
                while len(self._busy) < self.size and len(done) < _AHEAD * self.size and _bytes(done) < _AHEAD_BYTES:
                    entry = next(source, None)
                    if entry is None:
                        break
                    self._send(*entry)
                if not self._busy and not done:
                    return
                done |= self._finished() if self._busy else {}
                while given in done:
                    outcome = done.pop(given)
                    yield json.loads(outcome) if isinstance(outcome, bytes) else outcome
                    given += 1
        finally:
            self._stop(self._busy)  # where the caller stops early: an answer that comes later must not be mistaken

    def _send(self, number: int, call: Call) -> None:
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.send(number, call, self.limits)
            except ConnectionError:  # it died while it waited
                worker.close()
                continue
            self._busy.append(worker)
            return
        worker = _Worker()
        self._busy.append(worker)
        worker.send(number, call, self.limits)

    def _finished(self) -> dict[int, bytes | TinyForgeError]:
        """Wait a little, then the outcomes that are there by now."""
        pause = max(0.0, min(worker.deadline for worker in self._busy) - time.monotonic())
        wait([w.connection for w in self._busy], pause if self.limits.kernel else min(pause, _WATCH_EVERY))
        found: dict[int, bytes | TinyForgeError] = {}
        for worker in list(self._busy):
            outcome = self._outcome(worker)
            if outcome is not None:
                found[worker.number] = outcome
        return found

    def _outcome(self, worker: _Worker) -> bytes | TinyForgeError | None:
        """The answer as it came, or why there is none; None while the worker is busy."""
        if worker.connection.poll():
            return self._received(worker)
        if time.monotonic() >= worker.deadline:
            self._stop([worker])
            if not worker.ready:
                raise TinyForgeError("The process that reads files does not start.", "Is the machine overloaded?")
            return self._too_slow()
        if worker.ready and worker.largest and worker.resident() > worker.largest:
            self._stop([worker])
            return self._too_large()
        return None

    def _received(self, worker: _Worker) -> bytes | TinyForgeError | None:
        try:
            data = worker.connection.recv_bytes(int(self.limits.megabytes * 1e6))
        except (EOFError, ConnectionError):
            return self._died(worker)
        except OSError:  # longer than the limit
            self._stop([worker])
            return self._too_large()
        if data == READY:
            worker.ready = True
            worker.deadline = time.monotonic() + self.limits.seconds
            return None
        told, answer = json.loads(data[: data.index(b"\n")]), data[data.index(b"\n") :]
        if told.get("last"):
            self._stop([worker])
        else:
            self._busy.remove(worker)
            self._idle.append(worker)
        return self._problem(told) if "error" in told else answer

    def _died(self, worker: _Worker) -> TinyForgeError:
        said = "" if worker.ready else worker.said()
        self._busy.remove(worker)
        worker.connection.close()
        worker.log.close()
        status = worker.process.wait()
        if not worker.ready:
            raise TinyForgeError(f"The process that reads files cannot start (status {status}): {said}")
        if -status == signal.SIGALRM:
            return self._too_slow()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        more = f"If it is merely large: --set ingest.memory_mb={2 * self.limits.megabytes:g}"
        return InputError(f"its parser crashed ({name}).", f"Save it again from the program that made it. {more}")

    def _problem(self, answer: dict[str, Any]) -> TinyForgeError:
        kind = answer["error"]
        if kind == "memory":
            return self._too_large()
        if kind == "depth":
            return InputError("nested too deeply to be read.", "Flatten it, or save it as plain text.")
        if kind == "refused":
            return InputError(answer["message"], answer["fix"])
        fix = "Save the file again from the program that made it, or convert it to Markdown or text."
        return InputError(f"its parser failed ({answer['message']}).", fix)

    def _too_slow(self) -> InputError:
        seconds = self.limits.seconds
        return InputError(
            f"reading it takes longer than ingest.timeout_seconds = {seconds:g}.",
            f"Split the file, or say --set ingest.timeout_seconds={2 * seconds:g}",
        )

    def _too_large(self) -> InputError:
        megabytes = self.limits.megabytes
        return InputError(
            f"reading it needs more than ingest.memory_mb = {megabytes:g}.",
            f"Split the file, or say --set ingest.memory_mb={2 * megabytes:g}",
        )

    def _stop(self, workers: Iterable[_Worker]) -> None:
        for worker in list(workers):
            worker.close()
            if worker in self._busy:
                self._busy.remove(worker)

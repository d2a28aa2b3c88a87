"""The real command, to be killed at an exact place, at the price of a fork.

To start Python and import torch takes seconds, so one process does that once and forks a child for each run. It
computes nothing itself: a fork after torch has used its threads may hang.

Where a child ends is said in one of three ways: after so many seconds; at the n-th system call of a name, with strace,
which also sees what libraries in Rust and C do; or at the n-th call of a Python function, in the child itself.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHANGES = (
    *("write", "pwrite64", "writev", "ftruncate", "fallocate", "copy_file_range", "fsync", "fdatasync"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
)
"""The system calls that change what is on the disk, or wait until it is there."""

IMPORTED = (
    *("torch", "transformers", "peft", "safetensors.torch", "transformers.models.llama.modeling_llama"),
    *("tinyforge.cli", "tinyforge.cli.train", "tinyforge.pipeline.train", "tinyforge.train.loop", "tinyforge.adapters"),
    *("tinyforge.train.objectives.sft", "tinyforge.dataset.rows", "tinyforge.dataset.holdout"),
    *("tinyforge.models.family", "tinyforge.models.resolve", "tinyforge.train.finish", "tinyforge.train.encoding"),
)
TIMES = frozenset({"seconds", "train_seconds"})
NOT_COMPARED = frozenset({".lock", "events.jsonl", "diverged.json"})


@dataclass(frozen=True)
class Call:
    """The ``number``-th call, counted from 1, of a system call (``fsync``) or of a function (``os.fsync``).

    ``signals`` are sent to the process on entering it, before it does anything. ``error`` instead lets this system call
    and all later ones fail with that name, such as ENOSPC.
    """

    name: str
    number: int
    signals: tuple[int, ...] = (signal.SIGKILL,)
    error: str = ""

    @property
    def in_python(self) -> bool:
        return "." in self.name


@dataclass(frozen=True)
class Ending:
    """How a child ended: its exit code, or minus the signal that killed it; what it said; after how many seconds."""

    code: int
    said: str
    seconds: float

    @property
    def resumed_from(self) -> int | None:
        """The step that it continued from."""
        found = re.search(r"continuing at step (\d+)", self.said)
        return int(found[1]) if found else None


class Server:
    """Starts ``tinyforge`` commands in forks of one process that has imported everything."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._log = folder / "said.txt"
        self._trace = folder / "trace.txt"
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "1000", **environment},
        )
        self._answer()

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> int:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server ended")
        return int(line)

    def run(
        self, arguments: Sequence[str], *, after: float | None = None, at: Call | None = None, file_limit: int = 0
    ) -> Ending:
        """Run a command to its end, or kill it ``after`` so many seconds or ``at`` a call.

        ``file_limit`` is the most bytes that it may write into one file.
        """
        tracing = at is not None and not at.in_python
        order = {"arguments": list(arguments), "log": str(self._log), "wait": tracing, "file_limit": file_limit}
        began = self._begin({**order, "at": asdict(at) if at and at.in_python else None})
        if after is not None:
            self._kill_after(after)
        if at is not None and tracing:
            what = f"error={at.error}:when={at.number}+" if at.error else f"signal=KILL:when={at.number}"
            return self._traced(began, ["-o", "/dev/null", "-e", f"trace={at.name}", "-e", f"inject={at.name}:{what}"])
        return self._end(began)

    def count(self, arguments: Sequence[str], folder: Path) -> tuple[Ending, list[tuple[str, int, str]]]:
        """Run a command to its end; also name, number and text of each call that changed something in ``folder``."""
        began = self._begin({"arguments": list(arguments), "log": str(self._log), "wait": True})
        known = ",".join(f"?{name}" for name in CHANGES)
        ending = self._traced(began, ["-y", "-s", "0", "-o", str(self._trace), "-e", f"trace={known}"])
        return ending, list(_calls(self._trace.read_text(errors="replace"), self._pid, folder))

    def _begin(self, order: dict[str, Any]) -> float:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        self._pid = self._answer()
        return time.monotonic()

    def _end(self, began: float) -> Ending:
        code = self._answer()
        return Ending(code, self._log.read_text(errors="replace"), time.monotonic() - began)

    def _kill_after(self, seconds: float) -> None:
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it was over before
            os.kill(self._pid, signal.SIGKILL)

    def _traced(self, began: float, options: Sequence[str]) -> Ending:
        with subprocess.Popen(["strace", "-f", "-qq", *options, "-p", str(self._pid)], stderr=subprocess.DEVNULL):
            return self._end(began)


def _calls(trace: str, pid: int, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Only the main thread's, because strace counts each thread's calls by themselves."""
    numbers: Counter[str] = Counter()
    for line in trace.splitlines():
        found = re.match(r"(\d+)\s+(\w+)\((.*)", line)
        if found is None or int(found[1]) != pid or found[2] not in CHANGES:
            continue
        numbers[found[2]] += 1
        if str(folder) in found[3]:
            yield found[2], numbers[found[2]], found[3].replace(str(folder), "RUN")


def can_trace() -> bool:
    """Whether strace is here and may do its work."""
    if shutil.which("strace") is None:
        return False
    done = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


def result(run: Path) -> dict[str, str]:
    """The hash of every file of a run, by its name, with measured times left out of what is compared."""
    from tinyforge.run import hash_file, hash_json

    found = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file() and p.name not in NOT_COMPARED):
        name = str(path.relative_to(run))
        timed = path.suffix == ".json" and path.parent in (run, run / "stages")
        found[name] = hash_json(_timeless(json.loads(path.read_text()))) if timed else hash_file(path)
    return found


def _timeless(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _timeless(value) for name, value in data.items() if name not in TIMES}
    return data


@contextmanager
def server(folder: Path, **environment: str) -> Iterator[Server]:
    started = Server(folder, **environment)
    try:
        yield started
    finally:
        started.close()


# --- in the server ---------------------------------------------------------------------------------------------------


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, Any]) -> None:
    """The child: its own log, its own limits, and then the command."""
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if order.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], resource.RLIM_INFINITY))
    if order.get("at"):
        _intercept(Call(**order["at"]))
    if order["wait"]:
        _wait_for_the_tracer()
    code = 1
    try:
        from tinyforge.cli import main

        code = main(order["arguments"])
    except BaseException:
        import traceback

        with suppress(OSError):  # the log may be on the disk that is full
            traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _wait_for_the_tracer() -> None:
    while not re.search(r"^TracerPid:\t[1-9]", Path("/proc/self/status").read_text(), re.MULTILINE):
        time.sleep(0.005)
    time.sleep(0.05)  # it is seized now, and interrupted in a moment


def _intercept(at: Call) -> None:
    """Send the signals on entering the call."""
    place, _, name = at.name.rpartition(".")
    owner = pkgutil.resolve_name(place)
    real, calls = getattr(owner, name), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at.number:
            for number in at.signals:
                os.kill(os.getpid(), number)
        return real(*arguments, **options)

    setattr(owner, name, counted)


if __name__ == "__main__":
    _serve()

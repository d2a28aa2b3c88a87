"""The process in which untrusted files are read: takes calls as JSON, answers as JSON, under its own limits.

It runs as a plain child (no ``multiprocessing``: that would import the caller's main module again and pickle) and
imports nothing heavy itself; a parser comes in with the first file that needs it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tinyforge.errors import TinyForgeError

READY = b"ready"
_GRACE = 5  # seconds after which a call ends by itself, should the parent be gone and not have ended it


def address_space() -> int:
    """Bytes of address space in use; 0 where the system does not say (then the parent watches the resident size)."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def serve(descriptor: int) -> None:
    """Answer calls from the socket until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash must not leave a core file beside the documents
    silence = os.open(os.devnull, os.O_RDWR)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send_bytes(READY)
        os.dup2(silence, 2)  # from here on, standard error could only be a library's chatter
        while True:
            told, value = _answer(json.loads(connection.recv_bytes()))
            connection.send_bytes(f"{json.dumps(told)}\n{value}".encode("ascii"))
            if told.get("last"):
                return


def _answer(call: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What to tell besides the value (``{"error": kind, ...}`` instead of one, ``"last"`` where the process has grown
    too much to go on), and the value as JSON on one line.
    """
    before = address_space()
    allowed = int(call["megabytes"] * 1e6)
    if before and call["kernel"]:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (before + allowed, hard))
    signal.alarm(int(call["seconds"]) + _GRACE)
    try:
        told, value = _call(call["call"], call["arguments"])
    finally:
        signal.alarm(0)
    if address_space() - before > allowed / 2:
        told["last"] = True
    return told, value


def _call(target: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], str]:
    module, _, name = target.partition(":")
    try:
        value = getattr(import_module(module), name)(**arguments)
        return {}, json.dumps(value)  # here, so that a value that is too much counts as the file's own trouble
    except TinyForgeError as error:
        refused = {"error": "refused", "message": error.message, "fix": error.fix}
        return _memory() if _is_memory(error) else refused, ""
    except MemoryError:
        return _memory(), ""
    except RecursionError:
        return {"error": "depth"}, ""
    except Exception as error:
        failed = {"error": "failed", "message": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        return _memory() if _is_memory(error) else failed, ""


def _memory() -> dict[str, Any]:
    return {"error": "memory", "last": True}


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is a C library's way of saying that it got no memory."""
    while error is not None:
        told = str(error).lower()
        if isinstance(error, MemoryError) or "out of memory" in told or "memory allocation" in told:
            return True
        error = error.__cause__ or error.__context__
    return False

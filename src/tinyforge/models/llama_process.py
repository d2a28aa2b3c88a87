"""The process that runs llama.cpp: started, asked, watched, and ended with this one."""

from __future__ import annotations

import http.client
import json
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tinyforge.errors import InputError, TinyForgeError

START_SECONDS, ANSWER_SECONDS = 120.0, 120.0
LINES = 30  # of what it last said, to tell why it ended


class LlamaProcess:
    """llama.cpp with ``file`` loaded, on ``threads`` threads, for ``slots`` answers of ``context`` tokens at a time.

    ``loras`` are adapters, each with the strength that a request gives it (1 where it gives none). ``exact`` keeps the
    cache in F32. Raises TinyForgeError when llama.cpp refuses a file, hangs or dies.
    """

    def __init__(
        self,
        file: Path,
        context: int,
        threads: int,
        slots: int = 1,
        loras: Sequence[Path] = (),
        exact: bool = False,
    ) -> None:
        self.file, self.slots = file, slots
        self.key = secrets.token_hex(16)
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tinyforge.models.llama_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True).start()
        options = {
            "model": str(file),
            "context": context,
            "threads": threads,
            "slots": slots,
            "loras": [str(path) for path in loras],
            "exact": exact,
            "key": self.key,
        }
        self.address = self._started(options)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            self._said = [*self._said[-LINES:], line.strip()]

    def _started(self, options: dict[str, Any]) -> str:
        """Give it its options, which are not for everybody's eyes, and wait for its address."""
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(options) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise self.refused("did not load it")
        return str(json.loads(line)["address"])

    def refused(self, what: str) -> TinyForgeError:
        """The error that says what llama.cpp did not do, and why; the process is ended."""
        self.close()
        return TinyForgeError(f"{self.file}: llama.cpp {what}: {self._reason()}")

    def _reason(self) -> str:
        errors = [line for line in self._said if " E " in line or "rror" in line]
        return "; ".join((errors or self._said)[-2:]) or f"exit code {self._process.returncode}"

    def wait(self) -> str:
        """Wait for its end; how it ended."""
        code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}: {self._reason()}"

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What it answers to a request; GET without a body. Raises TinyForgeError for anything but an answer."""
        import urllib3

        headers = {"Authorization": f"Bearer {self.key}"}
        method = "GET" if body is None else "POST"
        try:
            reply = urllib3.request(
                method, self.address + path, json=body, headers=headers, timeout=ANSWER_SECONDS, retries=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise self.refused(f"gave no answer ({type(error).__name__})") from error
        if reply.status != 200:
            raise TinyForgeError(f"{self.file}: llama.cpp refused {path}: {reply.data.decode(errors='replace')[:300]}")
        return reply.json()

    def stream(self, body: dict[str, Any]) -> LlamaStream:
        """A completion whose events are told as they come."""
        return LlamaStream(self.address, self.key, body)

    def close(self) -> None:
        """End the process: kindly, then not."""
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> LlamaProcess:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class LlamaStream:
    """The events of a completion, one per token. :meth:`cancel` may be called from any thread, and frees its slot."""

    def __init__(self, address: str, key: str, body: dict[str, Any]) -> None:
        place = urlsplit(address)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port)
        self.key, self._body = key, json.dumps({**body, "stream": True})
        self._connection.connect()
        self._socket = self._connection.sock

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises InputError for what llama.cpp refuses, and OSError or HTTPException where the connection ends."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self._connection.request("POST", "/completion", self._body, headers)
        reply = self._connection.getresponse()
        if reply.status != 200:
            raise InputError(f"llama.cpp refused the request: {_message(reply.read())}")
        for line in reply:
            kind, _, said = line.partition(b": ")
            if kind == b"data":
                event = json.loads(said)
                if "error" in event:
                    raise InputError(f"llama.cpp gave up: {_message(said)}")
                yield event
            elif kind == b"error":
                raise InputError(f"llama.cpp gave up: {_message(said)}")

    def cancel(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """The same from the thread that reads the events."""
        self.cancel()
        self._connection.close()


def _message(said: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        found = json.loads(said)
        return str(found.get("error", found)["message"])
    return said.decode(errors="replace")[:300]

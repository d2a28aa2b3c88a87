"""A GGUF file run by the real llama.cpp, in a process of its own that ends with this one."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from tinyforge.environment import cores
from tinyforge.errors import TinyForgeError
from tinyforge.export.runners import Speed, Step
from tinyforge.records import Message

START_SECONDS, ANSWER_SECONDS = 120.0, 120.0
MOST_PROBABILITIES = 1024
"""How many tokens llama.cpp tells the probabilities of; the others count as one."""


class LlamaRunner:
    """Use in a ``with`` block. Raises TinyForgeError when llama.cpp refuses the file, hangs or dies.

    ``threads`` 0 is half the cores: llama.cpp's threads wait for each other by spinning, and on a busy machine with as
    many of them as cores they would wait for most of the time.
    """

    def __init__(self, file: Path, context: int = 2048, lora: Path | None = None, threads: int = 0) -> None:
        from tinyforge.export.gguf_read import stop_tokens

        self.speed, self._file, self._key = Speed(), file, secrets.token_hex(16)
        self._stops = stop_tokens(file)
        options = {
            "model": str(file),
            "context": context,
            "lora": str(lora) if lora else "",
            "threads": threads or max(1, cores() // 2),
            "key": self._key,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tinyforge.export.llama_server", json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
        self._said: list[str] = []
        threading.Thread(target=self._listen, args=(self._process.stderr,), daemon=True).start()
        self._address = self._wait_for_address()

    def _listen(self, stream: IO[str]) -> None:
        for line in stream:
            self._said = [*self._said[-30:], line.strip()]

    def _wait_for_address(self) -> str:
        watchdog = threading.Timer(START_SECONDS, self._process.kill)
        watchdog.start()
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        watchdog.cancel()
        if not line:
            raise self._refused("did not load it")
        return str(json.loads(line)["address"])

    def _refused(self, what: str) -> TinyForgeError:
        self.close()
        errors = [line for line in self._said if " E " in line or "rror" in line]
        reason = "; ".join((errors or self._said)[-2:]) or f"exit code {self._process.returncode}"
        return TinyForgeError(f"{self._file}: llama.cpp {what}: {reason}")

    def _post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        import urllib3

        headers = {"Authorization": f"Bearer {self._key}"}
        method = "GET" if body is None else "POST"
        try:
            reply = urllib3.request(
                method,
                self._address + path,
                json=body,
                headers=headers,
                timeout=ANSWER_SECONDS,
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise self._refused(f"gave no answer ({type(error).__name__})") from error
        if reply.status != 200:
            raise TinyForgeError(f"{self._file}: llama.cpp refused {path}: {reply.data.decode(errors='replace')[:300]}")
        return reply.json()

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text; tokens spelled out in it count as such where ``special``."""
        body = {"content": text, "add_special": False, "parse_special": special}
        return [int(token) for token in self._post("/tokenize", body)["tokens"]]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        rows = [{"role": m.role, "content": m.content} for m in messages]
        return self.tokenize(self._post("/apply-template", {"messages": rows})["prompt"])

    def stops(self) -> set[int]:
        """The stop tokens that the file names."""
        return set(self._stops)

    def write(self, ids: Sequence[int], steps: int) -> list[Step]:
        body = {
            "prompt": list(ids),
            "n_predict": steps,
            "temperature": 0,
            "n_probs": MOST_PROBABILITIES,
            "cache_prompt": False,
            "return_tokens": True,
        }
        reply = self._post("/completion", body)
        written = _aligned(reply["tokens"], [_step(row) for row in reply.get("completion_probabilities", [])])
        self.speed.tokens += int(reply["timings"]["predicted_n"])
        self.speed.seconds += float(reply["timings"]["predicted_ms"]) / 1000
        with suppress(psutil.Error):
            memory = psutil.Process(self._process.pid).memory_info()
            self.speed.peak_bytes = max(self.speed.peak_bytes, memory.rss)
        return written

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

    def __enter__(self) -> LlamaRunner:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _aligned(tokens: Sequence[int], told: Sequence[Step]) -> list[Step]:
    """All written tokens, K = 0 where llama.cpp tells no probabilities: for a token that ends inside a character.

    It does not say which were left out. What it told is matched from the left and from the right, and counts where
    both agree.
    """
    found = [Step(int(token), np.empty(0, dtype=np.int64), np.empty(0)) for token in tokens]
    left = _places(tokens, [step.token for step in told])
    right = [len(tokens) - 1 - i for i in reversed(_places(tokens[::-1], [step.token for step in told][::-1]))]
    for one, other, step in zip(left, right, told, strict=False):
        if one == other:
            found[one] = step
    return found


def _places(tokens: Sequence[int], told: Sequence[int]) -> list[int]:
    """The first place for each of ``told``, in order."""
    places, at = list[int](), 0
    for token in told:
        while at < len(tokens) and tokens[at] != token:
            at += 1
        if at < len(tokens):
            places.append(at)
        at += 1
    return places


def _step(row: dict[str, Any]) -> Step:
    """A token far below all others may be told as minus the largest number; it then has no share."""
    told = row["top_logprobs"]
    ids_K = np.array([entry["id"] for entry in told], dtype=np.int64)
    logs_K = np.array([entry["logprob"] for entry in told], dtype=np.float64)
    return Step(int(row["id"]), ids_K, np.maximum(logs_K, -80.0))

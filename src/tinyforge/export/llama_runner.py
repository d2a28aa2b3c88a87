"""A GGUF file run by the real llama.cpp, in a process of its own that ends with this one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tinyforge.environment import cores
from tinyforge.export.runners import Speed, Step
from tinyforge.models.llama_process import LlamaProcess
from tinyforge.records import Message

MOST_PROBABILITIES = 1024
"""How many tokens llama.cpp tells the probabilities of; the others count as one."""


class LlamaRunner:
    """Use in a ``with`` block. Raises TinyForgeError when llama.cpp refuses the file, hangs or dies.

    ``threads`` 0 is half the cores: llama.cpp's threads wait for each other by spinning, and on a busy machine with as
    many of them as cores they would wait for most of the time. ``probabilities``: of how many tokens each step tells.
    """

    def __init__(
        self,
        file: Path,
        context: int = 2048,
        lora: Path | None = None,
        threads: int = 0,
        probabilities: int = MOST_PROBABILITIES,
    ) -> None:
        from tinyforge.export.gguf_read import stop_tokens

        self.speed, self._probabilities = Speed(), probabilities
        self._stops = stop_tokens(file)
        used, loras = threads or max(1, cores() // 2), [lora] if lora else []
        self._llama = LlamaProcess(file, context, used, loras=loras, exact=True)

    def tokenize(self, text: str, special: bool = True) -> list[int]:
        """The ids of a text; tokens spelled out in it count as such where ``special``."""
        body = {"content": text, "add_special": False, "parse_special": special}
        return [int(token) for token in self._llama.post("/tokenize", body)["tokens"]]

    def text(self, ids: Sequence[int]) -> str:
        """What these tokens say."""
        return str(self._llama.post("/detokenize", {"tokens": list(ids)})["content"])

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        rows = [{"role": m.role, "content": m.content} for m in messages]
        return self.tokenize(self._llama.post("/apply-template", {"messages": rows})["prompt"])

    def stops(self) -> set[int]:
        """The stop tokens that the file names."""
        return set(self._stops)

    def write(self, ids: Sequence[int], steps: int) -> list[Step]:
        body = {
            "prompt": list(ids),
            "n_predict": steps,
            "temperature": 0,
            "n_probs": self._probabilities,
            "cache_prompt": False,
            "return_tokens": True,
        }
        reply = self._llama.post("/completion", body)
        written = _aligned(reply["tokens"], [_step(row) for row in reply.get("completion_probabilities", [])])
        self.speed.tokens += int(reply["timings"]["predicted_n"])
        self.speed.seconds += float(reply["timings"]["predicted_ms"]) / 1000
        with suppress(psutil.Error):
            memory = psutil.Process(self._llama.pid).memory_info()
            self.speed.peak_bytes = max(self.speed.peak_bytes, memory.rss)
        return written

    def close(self) -> None:
        self._llama.close()

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

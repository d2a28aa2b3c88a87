"""An export that takes part in a comparison: a GGUF file by llama.cpp, an ONNX folder by onnxruntime.

A folder of safetensors needs nothing of this: it is a model like any base.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tinyforge.errors import InputError
from tinyforge.evaluate.metrics.base import Answer
from tinyforge.evaluate.metrics.grounding import declines
from tinyforge.pipeline.answering import Hits, Respond, by_predictor
from tinyforge.records import Example, Message

GRAPHS = ("model.onnx", "encoder_model.onnx")
BLOCK = 16  # questions: an export answers one after the other
MOST_CONTEXT = 4096  # tokens that llama.cpp sets memory aside for; questions that need more are marked
_NEEDS = {"gguf": ("gguf", "xllamacpp"), "onnx": ("onnxruntime",)}
_EXTRAS = {"gguf": "gguf,llamacpp", "onnx": "onnx"}


class Runner(Protocol):
    """What of export/llama_runner.py and export/onnx_run.py is needed here."""

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]: ...
    def stops(self) -> set[int]: ...
    def write(self, ids: Sequence[int], steps: int) -> Sequence[Any]: ...
    def text(self, ids: Sequence[int]) -> str: ...


def find_export(name: str) -> Path | None:
    """The GGUF file or the ONNX folder that ``name`` is, or a folder with one GGUF file; None for anything else.

    Raises InputError for a GGUF file that is not there, a folder with several, and where a package is missing.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"{name}: no such file.", "Name what `tinyforge export` made.")
        return _ready(path, "gguf")
    if any((path / graph).is_file() for graph in GRAPHS):
        return _ready(path, "onnx")
    files = sorted(path.glob("*.gguf")) if path.is_dir() and not (path / "config.json").is_file() else []
    if len(files) > 1:
        raise InputError(f"{name}: holds {len(files)} GGUF files.", f"Name one: {files[0]}")
    return _ready(files[0], "gguf") if files else None


def _ready(path: Path, kind: str) -> Path:
    missing = [name for name in _NEEDS[kind] if find_spec(name) is None]
    if missing:
        raise InputError(
            f"{path}: running it needs {', '.join(missing)}.", f'Run: pip install "tinyforgeai[{_EXTRAS[kind]}]"'
        )
    return path


@dataclass(frozen=True)
class Running:
    """A loaded export: ``respond`` answers with it, ``close`` ends it."""

    respond: Respond
    close: Callable[[], None] = lambda: None


def load_export(path: Path, max_new_tokens: int) -> Running:
    """Run the export at ``path``, as :func:`find_export` gave it. Raises InputError for one that cannot be run."""
    if path.suffix == ".gguf":
        from tinyforge.export.gguf_read import context_length
        from tinyforge.export.llama_runner import LlamaRunner

        context = min(MOST_CONTEXT, context_length(path))
        llama = LlamaRunner(path, context, probabilities=0)
        return Running(by_runner(llama, context - max_new_tokens, max_new_tokens), llama.close)
    from tinyforge.export.onnx_run import OnnxRunner, open_predictor
    from tinyforge.models.predict import kind_of

    if kind_of(path) != "sft":
        return Running(by_predictor(open_predictor(path)))
    graph = OnnxRunner(path)
    return Running(by_runner(graph, _context(path) - max_new_tokens, max_new_tokens), graph.close)


def _context(folder: Path) -> int:
    from transformers import AutoConfig

    return int(getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", 1 << 30))


def by_runner(runner: Runner, room: int, max_new_tokens: int) -> Respond:
    """Greedy, one question after the other; a prompt of more than ``room`` tokens is not answered, and says why."""
    stops = runner.stops()

    def one(example: Example) -> Answer:
        began = time.perf_counter()
        ids = runner.prompt_ids(example.messages if example.label else example.messages[:-1])
        if len(ids) > room:
            return Answer("", error=f"the question has {len(ids)} tokens; this export takes {room} before its answer.")
        written = [step.token for step in runner.write(ids, max_new_tokens) if step.token not in stops]
        text = runner.text(written).strip()
        seconds = time.perf_counter() - began
        return Answer(text, declined=declines(text), seconds=seconds, written=len(written))

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        return [one(example) for example in examples]

    return respond

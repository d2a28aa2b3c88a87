"""One name that is served, the engine behind it, and a Writer whose answers that engine writes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tinyforge.dataset.render import prompt_ids
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.generate import Answer, Writer
from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.records import Message
from tinyforge.serve.engines import Engine, Event, Request, StoppingError
from tinyforge.serve.grammar import Automaton, Follow, Vocabulary, token_bytes
from tinyforge.serve.load import Answerer
from tinyforge.serve.schema import Grammar

if TYPE_CHECKING:
    from tinyforge.models.predict import Predictor

ALONE = ":model"  # behind a run's name: its model without retrieval and checks
GRAMMARS = 32  # compiled schemas that are kept


class CancelledError(TinyForgeError):
    """Who asked is gone."""


class EngineWriter(Writer):
    """A Writer whose answers an engine writes, so that what asks a Writer shares the engine with all others."""

    def __init__(self, engine: Engine, adapter: str = "", sampling: Sampling = GREEDY) -> None:
        # The engine has the model: what a Writer does with one is overridden here.
        self.tokenizer, self.max_new_tokens = engine.tokenizer, sampling.max_new_tokens or 256
        self.engine, self.adapter, self.sampling = engine, adapter, sampling
        self.tokens = self.prompt_tokens = 0
        self.finish = ""  # why the last answer ended
        self._gone = threading.Event()

    @property
    def context(self) -> int:
        return self.engine.context

    def cancel(self) -> None:
        self._gone.set()

    def stream(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Iterator[str]:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        wanted = replace(sampling if sampling != GREEDY else self.sampling, logprobs=None)
        wanted = replace(wanted, max_new_tokens=wanted.max_new_tokens or self.max_new_tokens)
        ids = prompt_ids(messages, self.tokenizer)
        (ticket,) = self.engine.submit([Request(ids, events.put, wanted, self.adapter)])
        try:
            yield from self._until_end(events)
        finally:
            ticket.cancel()

    def _until_end(self, events: queue.SimpleQueue[Event]) -> Iterator[str]:
        while not self._gone.is_set():
            try:
                event = events.get(timeout=0.2)
            except queue.Empty:
                continue
            if event.text:
                yield event.text
            if event.finish:
                self.tokens += event.tokens
                self.prompt_tokens += event.prompt_tokens
                self.finish = event.finish
            if event.finish == "error":
                stopping = StoppingError()
                raise stopping if event.reason == stopping.message else TinyForgeError(event.reason)
            if event.finish:
                return
        raise CancelledError("the request was cancelled.")

    def write_all(
        self,
        prompts: Sequence[Sequence[Message]],
        on_done: Callable[[int], None] = lambda count: None,
        sampling: Sampling = GREEDY,
    ) -> list[Answer]:
        answers = []
        for messages in prompts:
            before = self.tokens
            text = "".join(self.stream(messages, sampling))
            answers.append(
                Answer(
                    text,
                    "stop" if self.finish == "stop" else "length",
                    self.prompt_length(messages),
                    self.tokens - before,
                )
            )
            on_done(1)
        return answers


@dataclass
class Base:
    """An engine and what belongs to its tokenizer."""

    name: str
    engine: Engine
    grammars: dict[str, Automaton] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pieces = token_bytes(self.engine.tokenizer)
        self.vocabulary = None if pieces is None else Vocabulary(pieces, sorted(self.engine.stops))

    def encode(self, messages: Sequence[Message]) -> list[int]:
        with self.lock:
            return prompt_ids(messages, self.engine.tokenizer)

    def follow(self, schema: Any) -> Follow:
        """A constraint to JSON of the schema (None: any object). Raises InputError for what cannot be kept."""
        if self.vocabulary is None:
            raise InputError(
                "response_format: this model's tokenizer is of a kind whose tokens' bytes are not known.",
                "Ask for JSON in words.",
            )
        key = repr(schema)
        if key not in self.grammars:
            grammar = Grammar.of_object() if schema is None else Grammar(schema)
            if len(self.grammars) >= GRAMMARS:
                self.grammars.clear()
            self.grammars[key] = Automaton(grammar.rules, grammar.start)
        return Follow(self.grammars[key], self.vocabulary)


@dataclass
class Served:
    """A model name. With ``answerer`` it answers out of documents; with ``predictor`` it is no chat model."""

    name: str
    base: Base | None = None
    adapter: str = ""
    answerer: Answerer | None = None
    predictor: Predictor | None = None
    labels: tuple[str, ...] = ()
    created: int = field(default_factory=lambda: int(time.time()))

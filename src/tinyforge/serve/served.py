"""What a server serves: from the runs, models and bases on its command line to names with an engine behind them.

Runs on the same base in the same arithmetic share one engine, with their adapters on it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.dataset.render import prompt_ids
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.generate import Answer, Writer
from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.records import Message
from tinyforge.run import Run, read_json
from tinyforge.serve.engines import Event, Request, StoppingError
from tinyforge.serve.engines.transformers import TransformersEngine
from tinyforge.serve.grammar import Automaton, Follow, Vocabulary, token_bytes
from tinyforge.serve.load import Answerer, base_of, open_predictor
from tinyforge.serve.schema import Grammar

if TYPE_CHECKING:
    from tinyforge.models.predict import Predictor

ALONE = ":model"  # behind a run's name: its model without retrieval and checks
GRAMMARS = 32  # compiled schemas that are kept


class CancelledError(TinyForgeError):
    """Who asked is gone."""


class EngineWriter(Writer):
    """A Writer whose answers an engine writes, so that what asks a Writer shares the engine with all others."""

    def __init__(self, engine: TransformersEngine, adapter: str = "", sampling: Sampling = GREEDY) -> None:
        super().__init__(engine.model, engine.tokenizer, sampling.max_new_tokens or 256)
        self.engine, self.adapter, self.sampling = engine, adapter, sampling
        self.tokens = self.prompt_tokens = 0
        self.finish = ""  # why the last answer ended
        self._gone = threading.Event()

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
            answers.append(Answer(text, self.finish, self.prompt_length(messages), self.tokens - before))
            on_done(1)
        return answers


@dataclass
class Base:
    """An engine and what belongs to its tokenizer."""

    name: str
    engine: TransformersEngine
    grammars: dict[str, Automaton] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

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


class Catalogue:
    """The names that are served. Thread-safe: adapters come and go while others answer."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._bases: dict[tuple[str, str, str], Base] = {}
        self._served: dict[str, Served] = {}
        self._lock = threading.Lock()

    def names(self) -> list[Served]:
        return list(self._served.values())

    def get(self, name: str) -> Served | None:
        return self._served.get(name)

    @property
    def engines(self) -> list[tuple[str, TransformersEngine]]:
        return [(base.name, base.engine) for base in self._bases.values()]

    def open(self, asked: str) -> None:
        """Serve ``NAME=PLACE`` or a place: a run, a model folder, or a base's name."""
        name, _, place = asked.rpartition("=") if not Path(asked).exists() else ("", "", asked)
        folder = Path(place).expanduser()
        name = name or folder.resolve().name if folder.is_dir() else name or place
        if not (folder / "run.json").is_file():
            self._add(Served(name, self._base_model(place)))
            return
        run = Run.open(folder)
        config = Config.model_validate(read_json(run.path("config.json")))
        if run.path("answering.json").is_file():
            self._open_build(name, run, config)
        else:
            self._open_trained(name, run, config)

    def _open_build(self, name: str, run: Run, config: Config) -> None:
        answerer = Answerer.open(run.folder, "quote")
        variant = read_json(run.path("answering.json"))["variant"]
        tuned = self._run_model(run, "tuned", config)
        which = tuned if variant.startswith("tuned") else (self._run_model(run, "base", config))
        writer = None if variant == "quote" else EngineWriter(which[0].engine, which[1])
        answerer = replace(answerer, variant=variant, writer=writer)
        answerer.ask("Is this ready?")  # what is loaded on first use is loaded now
        self._add(Served(name, which[0], which[1], answerer))
        self._add(Served(name + ALONE, *tuned))

    def _open_trained(self, name: str, run: Run, config: Config) -> None:
        from tinyforge.models.predict import Classifier
        from tinyforge.serve.load import Conversation

        if not (run.path("model").is_dir() or run.path("adapter").is_dir()):
            raise InputError(f"{run.folder}: the training has not finished.", "Run the same command again.")
        if _speaks(run):
            self._add(Served(name, *self._run_model(run, "tuned", config)))
            return
        predictor = open_predictor(run.folder)
        assert not isinstance(predictor, Conversation)
        labels = tuple(predictor.labels) if isinstance(predictor, Classifier) else ()
        self._add(Served(name, predictor=predictor, labels=labels))

    def _run_model(self, run: Run, which: str, config: Config) -> tuple[Base, str]:
        """The engine and the adapter of the base or the tuned model of a run."""
        from tinyforge.models.machine import settle_precision

        precision = settle_precision(run.folder, config.train.precision)
        if which == "tuned" and run.path("model").is_dir():
            return self._engine(str(run.path("model")), precision, "", config), ""
        found = base_of(run, config)
        quantize = read_json(run.path("base.json")).get("quantize", "") if which == "tuned" else ""
        base = self._engine(found.name, precision, quantize, config)
        if which == "base":
            return base, ""
        adapter = str(run.path("adapter").resolve())
        if adapter not in base.engine.adapters:
            base.engine.add_adapter(adapter, run.path("adapter"))
        return base, adapter

    def _base_model(self, place: str) -> Base:
        from tinyforge.models.machine import choose_precision

        return self._engine(place, choose_precision(self.config.train.precision), "", self.config)

    def _engine(self, place: str, precision: str, quantize: str, config: Config) -> Base:
        from tinyforge.models.machine import set_threads
        from tinyforge.models.resolve import load_model, load_tokenizer, resolve

        found = resolve(place)
        key = (found.hash, precision, quantize)
        if key not in self._bases:
            set_threads(self.config.train.threads)
            trusted = self.config.trust_remote_code
            model = load_model(found.folder, precision, trusted, quantize)
            serve = self.config.serve
            engine = TransformersEngine(model, load_tokenizer(found.folder, trusted), serve.slots, serve.waiting)
            self._bases[key] = Base(found.name, engine)
        return self._bases[key]

    def _add(self, served: Served) -> None:
        if served.name in self._served:
            raise InputError(f"two models are called {served.name!r}.", "Name one of them: NAME=PLACE")
        self._served[served.name] = served

    def add_adapter(self, name: str, base: str, folder: Path) -> None:
        """Serve the PEFT adapter in ``folder`` on the base of a model that is served, while that runs."""
        on = self.get(base)
        if on is None or on.base is None:
            raise InputError(f"no base {base!r} is served.")
        if (folder / "adapter" / "adapter_config.json").is_file():
            folder = folder / "adapter"
        if not (folder / "adapter_config.json").is_file():
            raise InputError(f"{folder}: holds no adapter (no adapter_config.json).", "Give a folder that PEFT saved.")
        with self._lock:
            if name in self._served:
                raise InputError(f"a model is called {name!r} already.", "Choose another name.")
            on.base.engine.add_adapter(name, folder)
            self._add(Served(name, on.base, name))

    def remove_adapter(self, name: str) -> None:
        with self._lock:
            served = self._served.get(name)
            if served is None or served.base is None or served.adapter != name:
                raise InputError(f"{name!r} is no adapter that was added while the server runs.")
            del self._served[name]
            served.base.engine.remove_adapter(name)

    def close(self, seconds: float) -> None:
        threads = [threading.Thread(target=engine.close, args=(seconds,)) for _, engine in self.engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _speaks(run: Run) -> bool:
    """Whether a trained run holds a causal language model."""
    from tinyforge.models.predict import kind_of

    if run.path("model").is_dir():
        return kind_of(run.path("model")) == "sft"
    summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
    return summary.get("objective", "sft") in ("sft", "dpo", "distill", "pretrain")

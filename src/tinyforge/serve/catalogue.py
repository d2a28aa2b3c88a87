"""What a server serves: from the runs, models and bases on its command line to names with an engine behind them.

Runs on the same base in the same arithmetic share one engine, with their adapters on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.sampling import Sampling
from tinyforge.recipe import config_of
from tinyforge.run import Run, read_json
from tinyforge.serve import gguf
from tinyforge.serve.engines import Engine
from tinyforge.serve.engines.transformers import TransformersEngine
from tinyforge.serve.load import Answerer, base_of, open_predictor
from tinyforge.serve.served import ALONE, Base, EngineWriter, Served


class Catalogue:
    """The names that are served. Thread-safe: adapters come and go while others answer."""

    def __init__(self, config: Config, say: Callable[[str], None] = lambda text: None) -> None:
        self.config, self._say = config, say
        self._bases: dict[tuple[str, ...], Base] = {}
        self._served: dict[str, Served] = {}
        self._lock = threading.Lock()

    def names(self) -> list[Served]:
        return list(self._served.values())

    def get(self, name: str) -> Served | None:
        return self._served.get(name)

    @property
    def engines(self) -> list[tuple[str, Engine]]:
        return [(base.name, base.engine) for base in self._bases.values()]

    def open(self, asked: str) -> None:
        """Serve ``NAME=PLACE`` or a place: a run, a model folder, or a base's name."""
        name, _, place = asked.rpartition("=") if not Path(asked).exists() else ("", "", asked)
        folder = Path(place).expanduser()
        name = name or folder.resolve().name if folder.is_dir() else name or place
        if gguf.is_export(folder):
            self.add(Served(name, self._llama(gguf.open_export(folder))))
            return
        if not (folder / "run.json").is_file():
            self.add(Served(name, self._base_model(place)))
            return
        run = Run.open(folder)
        config = config_of(run)
        if run.path("answering.json").is_file():
            self._open_build(name, run, config)
        else:
            self._open_trained(name, run, config)

    def _open_build(self, name: str, run: Run, config: Config) -> None:
        answerer = Answerer.open(run.folder, "quote")
        variant = read_json(run.path("answering.json"))["variant"]
        tuned = self._run_model(run, "tuned", config)
        which = tuned if variant.startswith(("tuned", "quote")) else self._run_model(run, "base", config)
        limit = Sampling(max_new_tokens=config.evaluate.max_new_tokens)
        writer = None if variant == "quote" else EngineWriter(which[0].engine, which[1], limit)
        answerer = replace(answerer, variant=variant, writer=writer)
        answerer.ask("Is this ready?")  # what is loaded on first use is loaded now
        self.add(Served(name, which[0], which[1], answerer))
        self.add(Served(name + ALONE, *tuned))

    def _open_trained(self, name: str, run: Run, config: Config) -> None:
        from tinyforge.models.predict import Classifier
        from tinyforge.serve.load import Conversation

        if not (run.path("model").is_dir() or run.path("adapter").is_dir()):
            raise InputError(f"{run.folder}: the training has not finished.", "Run the same command again.")
        if _speaks(run):
            self.add(Served(name, *self._run_model(run, "tuned", config)))
            return
        predictor = open_predictor(run.folder)
        assert not isinstance(predictor, Conversation)
        labels = tuple(predictor.labels) if isinstance(predictor, Classifier) else ()
        self.add(Served(name, predictor=predictor, labels=labels))

    def _run_model(self, run: Run, which: str, config: Config) -> tuple[Base, str]:
        """The engine and the adapter of the base or the tuned model of a run."""
        from tinyforge.models.machine import settle_precision

        if self.config.serve.engine != "transformers" and (made := self._run_llama(run, which, config)) is not None:
            return made
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

    def _run_llama(self, run: Run, which: str, config: Config) -> tuple[Base, str] | None:
        """The same on llama.cpp, where there is a GGUF file of it that may be served; else why not, or None.

        Raises InputError where llama.cpp was asked for.
        """
        try:
            gguf.require()
            if which == "base":
                raise InputError(
                    f"{run.folder} answers with its untrained base, of which runs keep no GGUF.",
                    "Use --engine transformers.",
                )
            found = gguf.of_run(run, config)
            for base in self._bases.values():
                if found.adapter is not None and base.weights == found.base_weights:
                    name = str(found.adapter.resolve())
                    if name not in base.engine.adapters:
                        base.engine.add_adapter(name, found.adapter)
                    self._say(f"{run.folder}: its adapter {found.adapter.name} on {base.name}, which is served already")
                    return base, name
            return self._llama(found.whole()), ""
        except InputError as error:
            if self.config.serve.engine == "llamacpp":
                raise
            if gguf.any_of(run):
                self._say(f"{run.folder}: served with transformers, for {error.message}")
            return None

    def _llama(self, found: gguf.Gguf) -> Base:
        from tinyforge.models.machine import llama_threads
        from tinyforge.models.resolve import load_tokenizer, saved_stop_ids
        from tinyforge.serve.engines.llamacpp import LlamaEngine

        if self.config.serve.engine == "transformers":
            raise InputError(
                f"{found.file}: only llama.cpp runs GGUF files.", "Use --engine llamacpp, or serve the run."
            )
        gguf.require()
        key = (str(found.file.resolve()),)
        if key not in self._bases:
            serve, trusted = self.config.serve, self.config.trust_remote_code
            tokenizer = load_tokenizer(found.folder, trusted)
            context = gguf.context_of(found.folder, serve.slots, trusted)
            threads = self.config.train.threads or llama_threads()
            stops = saved_stop_ids(found.folder, tokenizer)
            engine = LlamaEngine(
                found.file, tokenizer, stops, context, threads, serve.slots, serve.waiting, found.kind == "f32"
            )
            self._say(
                f"{found.file}: llama.cpp on {threads} threads, {serve.slots} answers of {context} tokens at a time"
            )
            self._bases[key] = Base(found.file.stem, engine, weights=found.weights)
        return self._bases[key]

    def _base_model(self, place: str) -> Base:
        from tinyforge.models.machine import choose_precision

        if self.config.serve.engine == "llamacpp":
            raise InputError(
                f"{place}: llama.cpp needs it as a GGUF file.",
                f"Run: tinyforge export {place} --to gguf --out DIR, and serve DIR.",
            )
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

    def add(self, served: Served) -> None:
        """Serve it under its name. Raises InputError where that is taken."""
        if served.name in self._served:
            raise InputError(f"two models are called {served.name!r}.", "Name one of them: NAME=PLACE")
        self._served[served.name] = served

    def add_adapter(self, name: str, base: str, folder: Path) -> None:
        """Serve the PEFT adapter in ``folder`` on the base of a model that is served, while that runs."""
        on = self.get(base)
        if on is None or on.base is None:
            raise InputError(f"no base {base!r} is served.")
        place = gguf.adapter_file(folder, on.base.weights) if on.base.weights else _peft_folder(folder)
        with self._lock:
            if name in self._served:
                raise InputError(f"a model is called {name!r} already.", "Choose another name.")
            on.base.engine.add_adapter(name, place)
            self.add(Served(name, on.base, name))

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


def _peft_folder(folder: Path) -> Path:
    if (folder / "adapter" / "adapter_config.json").is_file():
        folder = folder / "adapter"
    if not (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds no adapter (no adapter_config.json).", "Give a folder that PEFT saved.")
    return folder


def _speaks(run: Run) -> bool:
    """Whether a trained run holds a causal language model."""
    from tinyforge.models.predict import kind_of

    if run.path("model").is_dir():
        return kind_of(run.path("model")) == "sft"
    summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
    return summary.get("objective", "sft") in ("sft", "dpo", "distill", "pretrain")

"""From a name to what answers under it: a run's variants, a base, an adapter, an export, or an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.answering import (
    Contender,
    Prompts,
    Respond,
    by_completion,
    by_predictor,
    by_quoting,
    by_saying,
    by_writer,
    plain_prompts,
)
from tinyforge.pipeline.exported import BLOCK, Running, find_export, load_export
from tinyforge.pipeline.reading import by_reading
from tinyforge.recipe import config_of
from tinyforge.records import Example, Hit, Message
from tinyforge.run import Run, hash_file, hash_folder, hash_json, read_json, read_jsonl

if TYPE_CHECKING:
    from tinyforge.models.generate import Writer
    from tinyforge.retrieve.index import Index

GENERATIVE = ("sft", "dpo", "distill", "pretrain")
BUILD_VARIANTS = ("base", "few-shot", "base+retrieval", "tuned", "tuned+retrieval", "quote")
TRAIN_VARIANTS = ("base", "few-shot", "tuned")
CLASSIFY_VARIANTS = ("majority", "tuned")
ENDPOINT_BLOCK = 8  # questions: what an endpoint was paid for is kept soon


class Models:
    """The one model that is held: asking for another lets go of it, so that memory is that of the largest.

    Use in a ``with`` block, which lets go of the last one.
    """

    def __init__(self) -> None:
        self._key = ""
        self._model: Any = None

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        if key != self._key:
            self.release()
            self._key, self._model = key, load()
        return self._model

    def release(self) -> None:
        from tinyforge.models.machine import release_memory

        if isinstance(self._model, Running):
            self._model.close()
        self._key, self._model = "", None
        release_memory()

    def __enter__(self) -> Models:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass
class Opened:
    """A run with what its variants need; ``name`` is its folder as it was given."""

    name: str
    run: Run
    config: Config
    models: Models
    objective: str
    _train: list[Example] | None = field(default=None, repr=False)
    _index: Index | None = field(default=None, repr=False)

    @classmethod
    def open(cls, folder: str | Path, evaluate: Config, models: Models) -> Opened:
        """The run in ``folder`` with its own configuration, but for how it is evaluated.

        Raises InputError when its training has not finished.
        """
        run = Run.open(folder)
        if not (run.path("model").is_dir() or run.path("adapter").is_dir()):
            raise InputError(f"{folder}: holds no trained model.", "Finish it: run the command that began it again.")
        own = config_of(run)
        config = own.model_copy(update={"evaluate": evaluate.evaluate, "trust_remote_code": evaluate.trust_remote_code})
        summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
        return cls(str(folder), run, config, models, str(summary.get("objective", "sft")))

    @property
    def variants(self) -> tuple[str, ...]:
        """What of this run can be asked."""
        if self.objective == "classify":
            return CLASSIFY_VARIANTS
        if self.objective not in GENERATIVE or not self.run.path("base.json").is_file():
            return ("tuned",)
        return BUILD_VARIANTS if self.run.path("index", "meta.json").is_file() else TRAIN_VARIANTS

    def training(self) -> list[Example]:
        """The rows it was trained on; none where it keeps none."""
        if self._train is None:
            path = self.run.path("dataset", "train.jsonl")
            self._train = [Example.from_json(row) for row in read_jsonl(path)] if path.is_file() else []
        return self._train

    def held_out(self) -> dict[str, list[Example]]:
        """Its sets that were not trained on: a build's two tests, or the rows that a training kept for the dev loss."""
        names = ("wordings", "documents") if self.run.path("dataset", "wordings.jsonl").is_file() else ("dev",)
        paths = {name: self.run.path("dataset", f"{name}.jsonl") for name in names}
        sets = {n: [Example.from_json(row) for row in read_jsonl(p)] for n, p in paths.items() if p.is_file()}
        return {name: rows for name, rows in sets.items() if rows}

    def index(self) -> Index:
        """Opened once; it remembers the sentences that it has embedded, which many questions share."""
        if self._index is None:
            from tinyforge.retrieve.index import Index

            self._index = Index.open(self.run.path("index"))
            self._index.embedder.remember()
        return self._index

    def contender(self, variant: str, name: str = "") -> Contender:
        """Raises InputError when this run has no such variant."""
        if variant not in self.variants:
            raise InputError(f"{self.run.folder}: has no variant {variant!r}.", f"It has: {', '.join(self.variants)}.")
        reads = variant == "quote" or variant.endswith("+retrieval")
        made_of = [__version__, variant, self._identity(variant), self.config.evaluate.max_new_tokens]
        if reads:
            made_of += [read_json(self.run.path("index", "meta.json")), self.config.retrieve.passages, self._sentences]
        return Contender(
            name or variant, _key(variant, made_of), partial(self._load, variant), self.name if reads else ""
        )

    def _identity(self, variant: str) -> Any:
        if variant == "quote":
            return ""
        if variant == "majority":
            return self._majority()
        if not variant.startswith("tuned"):
            shots = [shot.id for shot in self._shots()] if variant == "few-shot" else []
            return [read_json(self.run.path("base.json"))["hash"], shots]
        folders = [self.run.path(name) for name in ("model", "adapter") if self.run.path(name).is_dir()]
        return [hash_folder(folder) for folder in folders]

    def _load(self, variant: str) -> Respond:
        from tinyforge.serve.load import load_writer, open_predictor

        if variant == "quote":
            return by_quoting(self.index().embedder)
        if variant == "majority":
            return by_saying(self._majority())
        if self.objective not in GENERATIVE or not self._writes():
            return by_predictor(self.models.get(f"{self.run.folder}", lambda: open_predictor(self.run.folder)))
        which = "tuned" if variant.startswith("tuned") else "base"
        writer: Writer = self.models.get(
            f"{self.run.folder}:{which}", lambda: load_writer(self.run, which, self.config)
        )
        respond = by_writer(writer, self._few_shot(writer) if variant == "few-shot" else plain_prompts(writer))
        reads = variant.endswith("+retrieval")
        return by_reading(respond, self.index().embedder, self._sentences) if reads else respond

    @property
    def _sentences(self) -> int:
        """How many sentences of its passages its model is given (0: the passages whole)."""
        kept = self.run.path("answering.json")
        return int(read_json(kept).get("sentences", 0)) if kept.is_file() else 0

    def _writes(self) -> bool:
        from tinyforge.models.predict import kind_of

        return not self.run.path("model").is_dir() or kind_of(self.run.path("model")) == "sft"

    def _majority(self) -> str:
        counts = Counter(example.label for example in self.training())
        return min(counts, key=lambda label: (-counts[label], label)) if counts else ""

    def _shots(self) -> list[Example]:
        from tinyforge.pipeline.variants import pick_shots

        return pick_shots(self.training(), self.config.evaluate.shots + 1, self.config.seed)

    def _few_shot(self, writer: Writer) -> Prompts:
        from tinyforge.pipeline.variants import shots_for

        shots, most = self._shots(), self.config.evaluate.shots

        def prompts(example: Example, hits: Sequence[Hit]) -> list[Message]:
            return writer.few_shot(example.question, shots_for(example, shots, most))[0]

        return prompts


def _key(variant: str, made_of: Any) -> str:
    """A file name: the variant for people, and a hash of all that its answers depend on."""
    return f"{variant}-{hash_json(made_of)[:16]}"


def is_run(name: str) -> bool:
    return (Path(name).expanduser() / "run.json").is_file()


def open_contender(name: str, config: Config, models: Models) -> tuple[Contender, Opened | None]:
    """What ``name`` stands for in a comparison, and its run where it is of one.

    ``RUN`` is the run's tuned model, ``RUN:variant`` another of its variants; an http(s) address an OpenAI-compatible
    endpoint (``URL#model``); a folder with adapter_config.json an adapter on the base that it names; a GGUF file or an
    ONNX folder an export; all else a base, which a folder of safetensors is. A file or folder inside of a run is of it.
    """
    from tinyforge.models.endpoint import is_address

    if is_address(name):
        return _endpoint(name, config), None
    folder, _, variant = name.rpartition(":")
    if is_run(name) or (folder and is_run(folder)):
        opened = Opened.open(*((name, config) if is_run(name) else (folder, config)), models)
        return opened.contender("tuned" if is_run(name) else variant, name), opened
    path = Path(name).expanduser()
    owner = _run_around(path)
    export = find_export(name)
    if (path / "adapter_config.json").is_file():
        contender = _adapter(name, path, config, models)
    else:
        contender = _export(name, export, config, models) if export else _base(name, config, models)
    return contender, Opened.open(owner, config, models) if owner else None


def _run_around(path: Path) -> Path | None:
    """The run that a model, an adapter or an export lies in, whose training rows it has seen."""
    around = path.resolve().parents[:3] if path.exists() else []
    return next((folder for folder in around if is_run(str(folder))), None)


def _endpoint(name: str, config: Config) -> Contender:
    from tinyforge.models.endpoint import Endpoint, Options, connect

    endpoint, options = connect(name), Options(max_tokens=config.evaluate.max_new_tokens)
    assert isinstance(endpoint, Endpoint)  # the name is an address
    key = _key("endpoint", [__version__, endpoint.identity, config.evaluate.max_new_tokens])
    respond = by_completion(lambda messages: endpoint.ask(messages, options))
    return Contender(name, key, lambda: respond, block=ENDPOINT_BLOCK)


def _export(name: str, path: Path, config: Config, models: Models) -> Contender:
    made_of = hash_folder(path) if path.is_dir() else hash_file(path)
    key = _key("export", [__version__, made_of, config.evaluate.max_new_tokens])

    def load() -> Respond:
        running: Running = models.get(key, lambda: load_export(path, config.evaluate.max_new_tokens))
        return running.respond

    return Contender(name, key, load, block=BLOCK)


def _base(name: str, config: Config, models: Models) -> Contender:
    from tinyforge.models.predict import kind_of, load_predictor
    from tinyforge.models.resolve import resolve

    base = resolve(name)
    key = _key("base", [__version__, base.hash, config.evaluate.max_new_tokens])

    def load() -> Respond:
        if kind_of(base.folder) != "sft":
            return by_predictor(models.get(key, lambda: load_predictor(base.folder)))
        writer = models.get(key, lambda: _writer(base.folder, config))
        return by_writer(writer, plain_prompts(writer))

    return Contender(name, key, load)


def _adapter(name: str, folder: Path, config: Config, models: Models) -> Contender:
    from tinyforge.models.resolve import resolve

    stands_on = read_json(folder / "adapter_config.json").get("base_model_name_or_path") or config.base
    base = resolve(str(stands_on))
    key = _key("adapter", [__version__, base.hash, hash_folder(folder), config.evaluate.max_new_tokens])

    def load() -> Respond:
        writer = models.get(key, lambda: _writer(base.folder, config, folder))
        return by_writer(writer, plain_prompts(writer))

    return Contender(name, key, load)


def _writer(folder: Path, config: Config, adapter: Path | None = None) -> Writer:
    from tinyforge import adapters
    from tinyforge.models.generate import Writer
    from tinyforge.models.machine import choose_precision, set_threads
    from tinyforge.models.resolve import load_model, load_tokenizer

    set_threads(config.train.threads)
    model: Any = load_model(folder, choose_precision(config.train.precision), config.trust_remote_code)
    if adapter is not None:
        model = adapters.load(model, adapter)
    return Writer(model, load_tokenizer(folder, config.trust_remote_code), config.evaluate.max_new_tokens)

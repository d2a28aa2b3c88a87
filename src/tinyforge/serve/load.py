"""From a run folder to something that answers: the model of a variant, the index, and the settings found best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.predict import Prediction, Predictor
from tinyforge.models.resolve import EMBEDDED, Base, load_model, load_tokenizer, resolve
from tinyforge.recipe import config_of, load_config
from tinyforge.records import Hit, Message
from tinyforge.retrieve.index import Index
from tinyforge.run import Run, read_json
from tinyforge.serve.answer import VARIANTS, Reply, model_of, respond


def load_writer(run: Run, which: str, config: Config) -> Writer:
    """The ``base`` or the ``tuned`` model of a run, ready to write.

    Raises InputError when the base that an adapter belongs to has changed or gone.
    """
    from tinyforge import adapters
    from tinyforge.models.machine import set_threads, settle_precision

    set_threads(config.train.threads)
    precision = settle_precision(run.folder, config.train.precision)
    if which == "tuned" and run.path("model").is_dir():
        folder = run.path("model")
        model: Any = load_model(folder, precision, config.trust_remote_code)
    else:
        folder = base_of(run, config).folder
        quantize = read_json(run.path("base.json")).get("quantize", "") if which == "tuned" else ""
        model = load_model(folder, precision, config.trust_remote_code, quantize)
        if which == "tuned":
            model = adapters.load(model, run.path("adapter"))
    tokenizer = load_tokenizer(folder, config.trust_remote_code)
    return Writer(model, tokenizer, config.evaluate.max_new_tokens)


class Conversation:
    """A causal language model that answers each text as the first message of a conversation."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        answers = self._writer.answer_all([self._writer.prompt(text, []) for text in texts])
        return [Prediction(answer.strip(), None) for answer in answers]


def open_predictor(folder: str | Path) -> Predictor:
    """The model that ``tinyforge train`` or ``build`` made in ``folder``, or a base by name, ready to answer texts.

    Raises InputError when the training has not finished, or when its base has changed or gone.
    """
    from tinyforge.models.machine import settle_precision
    from tinyforge.models.predict import kind_of, load_predictor

    if _is_base(str(folder)):
        return open_base(str(folder))
    run = Run.open(folder)
    if not (run.path("model").is_dir() or run.path("adapter").is_dir()):
        raise InputError(
            f"{folder}: the training has not finished.", "Run the same command again; it continues where it stopped."
        )
    config = config_of(run)
    summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
    objective = summary.get("objective", "sft")
    if run.path("model").is_dir() and kind_of(run.path("model")) != "sft":
        return load_predictor(run.path("model"), settle_precision(run.folder, config.train.precision))
    if run.path("model").is_dir() or objective in ("sft", "dpo", "distill", "pretrain"):
        return Conversation(load_writer(run, "tuned", config))
    return _adapted(run, objective, summary["labels"], config)


def _is_base(name: str) -> bool:
    """Whether this names an untrained base: the embedded one, a model's folder, or a hub id that is no folder here."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return not (folder / "run.json").is_file() and (folder / "config.json").is_file()
    return name in EMBEDDED or (name.count("/") == 1 and not name.startswith((".", "/", "~")))


def open_base(name: str) -> Predictor:
    """A base as it is, before any training of ours. Raises InputError when it cannot be found."""
    from tinyforge.models.machine import choose_precision
    from tinyforge.models.predict import kind_of, load_predictor

    base, config = resolve(name), load_config()
    precision = choose_precision(config.train.precision)
    if kind_of(base.folder) != "sft":
        return load_predictor(base.folder, precision)
    model = load_model(base.folder, precision)
    return Conversation(Writer(model, load_tokenizer(base.folder), config.evaluate.max_new_tokens))


def _adapted(run: Run, objective: str, labels: Sequence[str], config: Config) -> Predictor:
    """A base under the head of ``objective`` with the run's adapter."""
    from tinyforge import adapters
    from tinyforge.models.family import load_for
    from tinyforge.models.machine import settle_precision
    from tinyforge.models.predict import predictor

    base, folder = base_of(run, config), run.path("adapter")
    tokenizer = load_tokenizer(folder, config.trust_remote_code)
    model = load_for(
        objective,
        base.folder,
        settle_precision(run.folder, config.train.precision),
        labels,
        tokenizer.pad_token_id,
        config.seed,
        config.trust_remote_code,
        read_json(run.path("base.json"))["quantize"],
    )
    return predictor(objective, adapters.load(model, folder), tokenizer, folder)


def open_adapter(base: str, folder: Path, config: Config) -> Predictor:
    """The causal language model ``base`` under any PEFT adapter in ``folder``."""
    from tinyforge import adapters
    from tinyforge.models.machine import choose_precision

    if not (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds no adapter (no adapter_config.json).", "Give a folder that PEFT saved.")
    found = resolve(base)
    model = load_model(found.folder, choose_precision(config.train.precision), config.trust_remote_code)
    tokenizer = load_tokenizer(found.folder, config.trust_remote_code)
    return Conversation(Writer(adapters.load(model, folder), tokenizer, config.evaluate.max_new_tokens))


def base_of(run: Run, config: Config) -> Base:
    """The base that the run was built on. Raises InputError when its files have changed since."""
    base = resolve(config.base)
    recorded = read_json(run.path("base.json"))
    if base.hash != recorded["hash"]:
        raise InputError(
            f"the base {config.base!r} is not the one that {run.folder} was built on: its files have changed.",
            "Put the old files back, or run `tinyforge build` again.",
        )
    return base


@dataclass
class Answerer:
    """A finished run that answers questions with one variant; ``shots`` are the examples of its few-shot prompt."""

    run: Run
    variant: str
    threshold: float
    passages: int
    index: Index
    writer: Writer | None
    sentences: int = 0
    shots: tuple[tuple[str, str], ...] = ()

    @classmethod
    def open(cls, folder: str | Path, variant: str | None = None) -> Answerer:
        """Load what ``variant`` needs (none: the one that the evaluation found best).

        Raises InputError when the folder is no finished build, and for a variant that is unknown or was not prepared.
        """
        run = Run.open(folder)
        if not run.path("answering.json").is_file():
            raise InputError(
                f"{folder}: the build has not finished.", "Run the same `tinyforge build` command again; it continues."
            )
        settings = read_json(run.path("answering.json"))
        chosen = variant or settings["variant"]
        if chosen not in VARIANTS:
            raise InputError(f"unknown variant {chosen!r}.", f"Known: {', '.join(VARIANTS)}.")
        shots = tuple((asked, answer) for asked, answer in settings.get("shots", ()))
        if chosen == "few-shot" and not shots:
            raise InputError(f"{folder}: keeps no examples for a prompt.", "Build it with evaluate.shots above 0.")
        config = config_of(run)
        writer = None if chosen == "quote" else load_writer(run, model_of(chosen), config)
        index, sentences = Index.open(run.path("index")), settings.get("sentences", 0)
        return cls(run, chosen, settings["threshold"], settings["passages"], index, writer, sentences, shots)

    def _prompt(self, question: str, hits: Sequence[Hit]) -> list[Message]:
        assert self.writer is not None  # nothing else is asked with messages
        if self.variant == "few-shot":
            return self.writer.few_shot(question, self.shots)[0]
        return self.writer.prompt(question, hits)

    def ask(self, question: str, context: str = "", on_token: Callable[[str], None] | None = None) -> Reply:
        """Answer one question; ``context`` is an earlier question that this one leans on."""
        writer = self.writer
        return respond(
            question,
            variant=self.variant,
            index=self.index,
            complete=writer.stream if writer else None,
            prompt=self._prompt,
            threshold=self.threshold,
            k=self.passages,
            on_token=on_token,
            context=context,
            sentences=self.sentences,
        )

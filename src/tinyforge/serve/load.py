"""From a run folder to something that answers: the model of a variant, the index, and the settings found best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.resolve import Base, load_model, load_tokenizer, resolve
from tinyforge.retrieve.index import Index
from tinyforge.run import Run, read_json
from tinyforge.serve.answer import VARIANTS, Reply, respond


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
        folder = _base_of(run, config).folder
        model = load_model(folder, precision, config.trust_remote_code)
        if which == "tuned":
            model = adapters.load(model, run.path("adapter"))
    tokenizer = load_tokenizer(folder, config.trust_remote_code)
    return Writer(model, tokenizer, config.evaluate.max_new_tokens)


def _base_of(run: Run, config: Config) -> Base:
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
    """A finished run that answers questions with one variant."""

    run: Run
    variant: str
    threshold: float
    passages: int
    index: Index
    writer: Writer | None

    @classmethod
    def open(cls, folder: str | Path, variant: str | None = None) -> Answerer:
        """Load what ``variant`` needs (none: the one that the evaluation found best).

        Raises InputError when the folder is no finished build or the variant is unknown.
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
        config = Config.model_validate(read_json(run.path("config.json")))
        writer = None if chosen == "quote" else load_writer(run, chosen.split("+")[0], config)
        return cls(run, chosen, settings["threshold"], settings["passages"], Index.open(run.path("index")), writer)

    def ask(self, question: str, context: str = "", on_token: Callable[[str], None] | None = None) -> Reply:
        """Answer one question; ``context`` is an earlier question that this one leans on."""
        writer = self.writer
        return respond(
            question,
            variant=self.variant,
            index=self.index,
            complete=writer.stream if writer else None,
            prompt=writer.prompt if writer else lambda question, hits: [],
            threshold=self.threshold,
            k=self.passages,
            on_token=on_token,
            context=context,
        )

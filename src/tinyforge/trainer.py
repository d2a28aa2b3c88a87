"""Training from Python, in five lines: the same pipeline and the same run folder as ``tinyforge train``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.recipe import load_config

Data = str | Path | Sequence[Mapping[str, Any]]


@dataclass
class TrainingConfig:
    """What a training needs to know, in the names that tutorials use.

    ``model_name`` is ``tiny`` (embedded), a folder or a hub id. ``epochs`` is another name for ``num_epochs``; 0 passes
    as often as make a few hundred steps. ``batch_size`` counts rows, 0 packs them by tokens; ``learning_rate`` 0 takes
    the method's own. ``use_lora`` None decides by the size of the model. ``load_in_4bit`` is QLoRA.
    """

    model_name: str = "tiny"
    output_dir: str = "./my-model"
    num_epochs: float = 0.0
    epochs: float | None = None
    batch_size: int = 0
    learning_rate: float = 0.0
    use_lora: bool | None = None
    lora_r: int = 16
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    max_length: int = 1024
    gradient_accumulation_steps: int = 1
    validation_split: float = 0.1
    fp16: bool = False
    bf16: bool = False
    load_in_4bit: bool = False
    gradient_checkpointing: bool = False
    report_to: str = "none"
    objective: str = "auto"
    seed: int = 42

    def settings(self) -> Config:
        """The same as TinyForge's own configuration. Raises InputError for what cannot be, by its name here."""
        if self.fp16:
            raise InputError(
                "fp16=True: CPUs have no fast fp16 products, and its range needs loss scaling.", "Use bf16=True."
            )
        method = "auto" if self.use_lora is None else "lora" if self.use_lora else "full"
        if self.load_in_4bit:
            if self.use_lora is False:
                raise InputError("load_in_4bit=True with use_lora=False: 4-bit weights cannot be trained themselves.")
            method = "qlora"
        values = {
            "base": self.model_name,
            "seed": self.seed,
            "train.objective": self.objective,
            "train.method": method,
            "train.epochs": self.num_epochs if self.epochs is None else self.epochs,
            "train.batch_rows": self.batch_size,
            "train.learning_rate": self.learning_rate,
            "train.lora_rank": self.lora_r,
            "train.lora_alpha": self.lora_alpha,
            "train.lora_dropout": self.lora_dropout,
            "train.accumulation": self.gradient_accumulation_steps,
            "train.precision": "bf16" if self.bf16 else "auto",
            "train.gradient_checkpointing": self.gradient_checkpointing,
            "train.trackers": [] if self.report_to in ("none", "") else [self.report_to],
            "dataset.max_length": self.max_length,
            "dataset.validation_split": self.validation_split,
        }
        return load_config(None, [f"{key}={_yaml(value)}" for key, value in values.items()])


def _yaml(value: Any) -> str:
    import json

    return json.dumps(value)


class Trainer:
    """Trains on rows and answers with the result.

        trainer = Trainer(TrainingConfig(model_name="tiny", output_dir="./my-model"))
        trainer.train("my_data.jsonl")
        trainer.generate("What is fine-tuning?")

    A Trainer on a folder that already holds a finished run answers at once.
    """

    def __init__(self, config: TrainingConfig | None = None, **settings: Any) -> None:
        """``settings`` are fields of TrainingConfig, for those who want no second object."""
        if config is not None and settings:
            raise InputError("Trainer: give a TrainingConfig or its fields, not both.")
        unknown = sorted(settings.keys() - {field.name for field in fields(TrainingConfig)})
        if unknown:
            known = ", ".join(field.name for field in fields(TrainingConfig))
            raise InputError(f"Trainer: unknown setting {unknown[0]!r}.", f"Known: {known}.")
        self.config = config or TrainingConfig(**settings)
        self._answerer: Any = None

    @property
    def device(self) -> str:
        """Where training runs: a CUDA GPU when there is one, else the CPU."""
        from tinyforge.train.device import choose_device

        return choose_device(self.config.settings().train.device).type

    def train(self, data: Data, quiet: bool = False) -> dict[str, Any]:
        """Train on a file of rows, or on rows as mappings; returns the summary. Called again, it continues."""
        from tinyforge.cli.common import Screen
        from tinyforge.cli.train import LABELS
        from tinyforge.pipeline.train import train

        screen = Screen(LABELS, quiet=quiet)
        try:
            source = data if isinstance(data, (str, Path)) else self._write(data)
            summary = train(source, self.config.output_dir, self.config.settings(), screen.say, screen.on_status)
        finally:
            screen.close()
        self._answerer = None
        return summary

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        from tinyforge.run import write_jsonl

        out = Path(self.config.output_dir).absolute()
        path = out.with_name(f"{out.name}.rows.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(path, (dict(row) for row in rows))
        return path

    def predict(self, texts: Sequence[str]) -> list[Any]:
        """One ``models.predict.Prediction`` for each text: an answer, a class with its probability, or a span."""
        if self._answerer is None:
            from tinyforge.serve.load import open_predictor

            self._answerer = open_predictor(self.config.output_dir)
        return list(self._answerer.predict(texts))

    def generate(self, prompt: str) -> str:
        """What the trained model answers."""
        return str(self.predict([prompt])[0].text)

    def load_lora(self, folder: str | Path) -> None:
        """Answer from now on with the base under the adapter in ``folder``, whoever trained it."""
        from tinyforge.serve.load import open_adapter

        self._answerer = open_adapter(self.config.model_name, Path(folder), self.config.settings())

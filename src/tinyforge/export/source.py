"""What is exported: a run or a base, its weights exact in float32, its adapter in them or beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.resolve import Base, load_tokenizer, resolve
from tinyforge.recipe import config_of
from tinyforge.run import Run, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WRITERS = frozenset({"sft", "dpo", "distill", "pretrain"})
"""The objectives that leave a causal language model."""


@dataclass(frozen=True)
class Source:
    """A model to export. ``folder`` holds its configuration and tokenizer, and its weights unless ``adapter`` is set.

    With an adapter, ``folder`` is the base's, which was loaded as ``quantize`` says when the adapter was trained.
    """

    name: str
    folder: Path
    objective: str
    config: Config
    run: Run | None = None
    base: Base | None = None
    adapter: Path | None = None
    quantize: str = ""
    labels: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """A file name's stem: letters, digits, dots and dashes."""
        name = Path(self.name).resolve().name if self.run else self.name.rsplit("/", 1)[-1]
        return "".join(c if c.isalnum() or c in ".-_" else "-" for c in name) or "model"

    @property
    def writes(self) -> bool:
        """Whether this is a causal language model, which is asked with messages."""
        return self.objective in WRITERS

    def tokenizer(self) -> PreTrainedTokenizerBase:
        own = self.adapter is not None and not self.writes  # a head's adapter brings the tokenizer it was trained with
        return load_tokenizer(self.adapter if own and self.adapter else self.folder, self.config.trust_remote_code)

    def load(self) -> Any:
        """The model as it was trained, in float32, with its adapter beside the weights, ready for inference."""
        from tinyforge import adapters

        model = self._load_folder()
        return adapters.load(model, self.adapter).eval() if self.adapter else model.eval()

    def _load_folder(self) -> Any:
        from tinyforge.models.family import load_for
        from tinyforge.models.resolve import load_model

        if self.writes:
            return load_model(self.folder, "fp32", self.config.trust_remote_code, self.quantize)
        return load_for(
            self.objective,
            self.folder,
            "fp32",
            self.labels,
            self.tokenizer().pad_token_id,
            self.config.seed,
            self.config.trust_remote_code,
            self.quantize,
        )

    def merged(self) -> Any:
        """A plain transformers model in float32 that holds all that was learned; 4-bit weights are dequantized first.

        Its generation config names every stop token. Raises InputError when the adapter's method cannot be merged.
        """
        from tinyforge import adapters
        from tinyforge.adapters import four_bit
        from tinyforge.dataset.render import stop_ids
        from tinyforge.models import quantized

        model = self.load()
        plain = adapters.merge(model).eval() if self.adapter else model
        plain = four_bit.dequantize(plain) if four_bit.layers(plain) else plain
        plain = quantized.dequantize(plain) if quantized.quantized(plain) else plain
        if plain.can_generate() and self.writes:
            stops = sorted(stop_ids(plain, self.tokenizer()))
            plain.generation_config.eos_token_id = stops[0] if len(stops) == 1 else stops
        _untie_what_differs(plain)
        return plain


def _untie_what_differs(model: Any) -> None:
    """A configuration that ties output and input embeddings must not drop an output that was trained apart."""
    output = model.get_output_embeddings()
    config = model.config.get_text_config()
    if output is None or not getattr(config, "tie_word_embeddings", False):
        return
    if output.weight is not model.get_input_embeddings().weight:
        config.tie_word_embeddings = model.config.tie_word_embeddings = False


def open_source(name: str) -> Source:
    """A finished run's folder, or a base: an embedded one, a local model folder, or a hub id.

    Raises InputError when the training has not finished, or when the base of an adapter has changed or gone.
    """
    if (Path(name) / "run.json").is_file():
        return _of_run(name)
    base = resolve(name)
    objective, labels = _kind(base.folder)
    return Source(name, base.folder, objective, Config.model_validate({"base": name}), base=base, labels=labels)


def _of_run(name: str) -> Source:
    run = Run.open(name)
    config = config_of(run)
    if run.path("model").is_dir():
        objective, labels = _kind(run.path("model"))
        return Source(name, run.path("model"), objective, config, run, labels=labels)
    if not run.path("adapter").is_dir():
        raise InputError(
            f"{name}: the training has not finished.", "Run the same command again; it continues where it stopped."
        )
    from tinyforge.serve.load import base_of

    base = base_of(run, config)
    summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
    return Source(
        name,
        base.folder,
        summary.get("objective", "sft"),
        config,
        run,
        base,
        run.path("adapter"),
        read_json(run.path("base.json")).get("quantize", ""),
        tuple(summary.get("labels", ())),
    )


def _kind(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The objective that the model in ``folder`` answers by, and the names of its classes."""
    from transformers import AutoConfig

    from tinyforge.models.predict import kind_of

    kind = kind_of(folder)
    names = AutoConfig.from_pretrained(folder).id2label or {}
    return kind, tuple(names[i] for i in range(len(names))) if kind == "classify" else ()

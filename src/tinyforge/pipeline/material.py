"""What quantize, prune and distill start from: a decoder's weights, rows to calibrate on and rows to measure with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.export.source import Source, open_source
from tinyforge.recipe import load_config
from tinyforge.records import Example, Message, Tokens
from tinyforge.registry.facts import ORIGIN
from tinyforge.run import Run, hash_file, hash_json, read_json, read_jsonl, write_folder_atomic, write_json

if TYPE_CHECKING:
    from torch import Tensor

GENERAL_TEXT = "general text"
CALIBRATION_ROWS, CALIBRATION_TOKENS = 128, 512
FIDELITY_ROWS = 100
CARRIED = ("documents.jsonl", "answering.json", "precision.json", "dataset", "index")
"""What a run keeps of the one it was made of, so that it answers, is measured and is compressed again as that was."""


def settle_config(name: str, recipe: str | None, settings: list[str]) -> Config:
    """The configuration of the run ``name`` with what was set on the command line; of a base, the defaults with it."""
    own = Path(name) / "config.json"
    if recipe is None and (Path(name) / "run.json").is_file() and own.is_file():
        return load_config(own, settings, own=True)
    return load_config(recipe, [*settings, f"base={json.dumps(name)}"])


@dataclass
class Material:
    """``train`` is learned from and calibrated on, ``choice`` chooses, ``held`` measures; ``where`` says what it is."""

    source: Source
    config: Config
    hash: str
    train: list[Example]
    choice: list[Example]
    held: list[Example]
    where: str
    notes: list[str] = field(default_factory=list)

    @property
    def own_rows(self) -> bool:
        """Whether there were rows to work on, of the user's or the run's, rather than general text."""
        return self.where != GENERAL_TEXT

    @cached_property
    def tokenizer(self) -> Any:
        return self.source.tokenizer()

    @property
    def key(self) -> list[Any]:
        """What the rows and weights are and how they are measured, for the key of a stage."""
        rows = hash_json([[e.to_json() for e in side] for side in (self.train, self.choice, self.held)])
        return [self.hash, rows, self.config.dataset.max_length, self.config.evaluate.model_dump()]

    def calibration(self) -> list[list[int]]:
        """Up to CALIBRATION_ROWS training rows, evenly spread, cut at CALIBRATION_TOKENS tokens."""
        chosen = _spread(self.train, CALIBRATION_ROWS)
        return [row.ids[:CALIBRATION_TOKENS] for row in self.rendered(chosen) if len(row.ids) > 1]

    def rendered(self, examples: Sequence[Example]) -> list[Tokens]:
        from tinyforge.dataset.render import survey

        return survey(examples, self.tokenizer, self.config.dataset.max_length, set())[0]

    def compared(self, examples: Sequence[Example]) -> list[Tokens]:
        return self.rendered(_spread(examples, FIDELITY_ROWS))

    def questions(self) -> list[tuple[list[Message], Example]]:
        """The held-out conversations as (what is asked, example), at most evaluate.max_questions."""
        chats = [e for e in self.held if e.kind == "chat" and e.answer]
        found = []
        for example in _spread(chats, self.config.evaluate.max_questions):
            last = max(i for i, m in enumerate(example.messages) if m.role == "assistant")
            found.append((list(example.messages[:last]), example))
        return found


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    step = max(1, -(-len(items) // most))
    return list(items[::step])


def open_material(name: str, data: str | None, config: Config) -> Material:
    """A run or base that is a decoder of ordinary weights, with ``data`` or the run's own rows.

    Without either, general text that TinyForge ships. Raises InputError for anything else.
    """
    if config.train.processes > 1 or config.train.accelerate_config:
        raise InputError("quantize, prune and distill work in one process.", "Leave the other processes away.")
    source = open_source(name)
    if not source.writes:
        raise InputError(
            f"{name}: is a {source.objective} model; only decoders can be quantized, pruned and distilled.",
            "Use a run of `tinyforge build`, or one trained on conversations or text.",
        )
    if "quantization_config" in read_json(source.folder / "config.json"):
        raise InputError(
            f"{name}: is quantized already, and its codes cannot be worked on.", "Start from what it was made of."
        )
    rows = _rows(source, data, config)
    return Material(source, config, _hash(source), *rows)


def _hash(source: Source) -> str:
    from tinyforge.models.resolve import hash_weights

    return hash_weights(source.adapter or source.folder)


def _rows(
    source: Source, data: str | None, config: Config
) -> tuple[list[Example], list[Example], list[Example], str, list[str]]:
    if data is not None:
        return _given(data, config)
    folder = source.run.path("dataset") if source.run else None
    if folder is not None and (folder / "train.jsonl").is_file():
        train, dev = _read(folder / "train.jsonl"), _read(folder / "dev.jsonl")
        wordings = _read(folder / "wordings.jsonl")
        held, where = (wordings, "new wordings of what was taught") if wordings else (dev, "the dev rows")
        return train, dev or held or train, held or train, where if held else "the training rows", []
    from tinyforge.dataset.general import general_texts

    texts = [Example(f"general-{n}", (), text=text) for n, text in enumerate(general_texts())]
    note = "no rows of its own: calibrated on general text (give --data for yours)"
    return texts[::2], texts[1::2], texts[1::2], GENERAL_TEXT, [note]


def _given(data: str, config: Config) -> tuple[list[Example], list[Example], list[Example], str, list[str]]:
    from tinyforge.dataset.holdout import hold_out
    from tinyforge.dataset.rows import read_rows

    found = read_rows(data)
    if found.kind not in ("chat", "text"):
        raise InputError(f"{data}: holds {found.kind} rows.", "Give conversations or running text.")
    sides = hold_out(found.examples, config.dataset.validation_split, config.seed)
    dropped = [f"{count:,} rows left out: {reason}" for reason, count in found.reasons.items()]
    return sides.train, sides.dev or sides.train, sides.dev or sides.train, f"rows of {data}", [*dropped, sides.note]


def _read(path: Path) -> list[Example]:
    return [Example.from_json(row) for row in read_jsonl(path)] if path.is_file() else []


def plain_folder(material: Material, into: Path) -> Path:
    """The folder of the source's own weights; an adapter is merged, in ``into``."""
    if material.source.adapter is None:
        return material.source.folder
    save_model(material.source.merged(), material.tokenizer, into)
    return into


def stored_dtype(folder: Path) -> Any:
    """The dtype that a model's folder keeps its weights in."""
    import torch

    found = read_json(folder / "config.json")
    return getattr(torch, str(found.get("dtype") or found.get("torch_dtype") or "float32"))


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    def write(temporary: Path) -> None:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    write_folder_atomic(folder, write)


def copy_folder(old: Path, new: Path) -> None:
    def write(temporary: Path) -> None:
        shutil.copytree(old, temporary, dirs_exist_ok=True)

    write_folder_atomic(new, write)


def begin(material: Material, run: Run) -> None:
    """Bring what the source run knows besides its weights, and say where the new run comes from."""
    source = material.source
    if source.run is not None and source.run.folder.resolve() == run.folder.resolve():
        raise InputError(f"{run.folder}: is the source itself.", "Give --out a new folder.")
    for name in CARRIED if source.run else ():
        assert source.run is not None
        _carry(source.run.path(name), run.path(name))
    write_json(run.path("config.json"), material.config.model_dump())
    write_json(run.path(ORIGIN), {"name": source.name, "hash": material.hash})
    keep_base(material, run)


def keep_base(material: Material, run: Run) -> None:
    """base.json names what the source was tuned from: `base` then still means the model before any of it."""
    source = material.source
    if source.run is not None and source.run.path("base.json").is_file():
        found = read_json(source.run.path("base.json"))
    else:
        base = source.base
        found = {**asdict(base), "folder": str(base.folder)} if base else {"name": source.name, "hash": material.hash}
    write_json(run.path("base.json"), {**found, "quantize": ""})


def _carry(old: Path, new: Path) -> None:
    if old.is_dir():
        if not new.exists():
            copy_folder(old, new)
    elif old.is_file() and not (new.is_file() and hash_file(new) == hash_file(old)):
        shutil.copyfile(old, new)


@dataclass(frozen=True)
class Yardstick:
    """The source's log probabilities on the rows that every result is compared on."""

    rows: list[Tokens]
    logs_NV: Tensor


def yardstick(material: Material, model: Any, examples: Sequence[Example]) -> Yardstick:
    from tinyforge.compress.fidelity import answer_logs

    rows = material.compared(examples)
    return Yardstick(rows, answer_logs(model, rows))


def measure(material: Material, folder: Path, precision: str, against: Yardstick, name: str) -> dict[str, Any]:
    """One row of the table: the model in ``folder`` as it will be loaded by whoever uses it."""
    from tinyforge.compress.fidelity import answer_logs, decode_rate, fidelity
    from tinyforge.models.resolve import load_model, load_tokenizer

    model = load_model(folder, precision, material.config.trust_remote_code)
    found = fidelity(against.logs_NV, answer_logs(model, against.rows), against.rows)
    return {
        "name": name,
        "parameters": model_parameters(model),
        "model_bytes": sum(path.stat().st_size for path in folder.glob("*.safetensors")),
        "tokens_per_second": round(decode_rate(model), 1),
        **token_f1(material, model, load_tokenizer(folder, material.config.trust_remote_code)),
        "mean_kl": found.mean_kl,
        "max_kl": found.max_kl,
        "agreement": found.agreement,
        "loss": found.loss,
    }


def model_parameters(model: Any) -> int:
    """Weights, whatever the form they are held in; tied ones count once."""
    from tinyforge.models.quantized import dequantized_sizes

    codes = dequantized_sizes(model)
    plain = sum(p.numel() * (2 if type(p).__name__ == "Params4bit" else 1) for p in model.parameters())
    return codes + int(plain)


def token_f1(material: Material, model: Any, tokenizer: Any) -> dict[str, Any]:
    """Mean token F1 of greedy answers to the held-out questions; nothing where none has an answer."""
    from tinyforge.evaluate.metrics.squad import token_f1 as score
    from tinyforge.models.generate import Writer

    asked = material.questions()
    if not asked:
        return {"token_f1": None, "questions": 0}
    writer = Writer(model, tokenizer, material.config.evaluate.max_new_tokens)
    texts = writer.answer_all([messages for messages, _ in asked])
    scores = [score(text.strip(), example) for text, (_, example) in zip(texts, asked, strict=True)]
    return {"token_f1": sum(scores) / len(scores), "questions": len(scores)}

"""Which GGUF files may be served: those whose certificate passed, of the weights that they were made from.

Exports are found by what they leave in a folder, since serving knows nothing of exporting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.models.resolve import resolve, weights_of
from tinyforge.recipe import config_of
from tinyforge.run import Run, hash_file, read_json
from tinyforge.serve.load import base_of

CERTIFICATE = "certificate.json"
SHARE = 0.5  # of the free memory that the keys and values of all slots may take


@dataclass(frozen=True)
class Gguf:
    """A file, the ``kind`` of its weights, what they were made from, and the ``folder`` of the tokenizer."""

    file: Path
    kind: str
    weights: dict[str, str]
    folder: Path


@dataclass(frozen=True)
class OfRun:
    """What a run has: the model as a whole, and its adapter alone for a base that is served."""

    run: Run
    files: tuple[Gguf, ...]
    adapter: Path | None
    base_weights: dict[str, str]
    reasons: tuple[str, ...]

    def whole(self) -> Gguf:
        """The smallest file, which is the fastest. Raises InputError where there is none."""
        if self.files:
            return min(self.files, key=lambda one: one.file.stat().st_size)
        fix = f"Run: tinyforge export {self.run.folder} --to gguf"
        raise InputError("; ".join(self.reasons) or f"{self.run.folder} was not exported as GGUF.", fix)


def require() -> None:
    """Raise InputError unless llama.cpp is installed."""
    if find_spec("xllamacpp") is None:
        raise InputError(
            "llama.cpp needs xllamacpp, which is not installed.", 'Run: pip install "tinyforgeai[llamacpp]"'
        )


def any_of(run: Run) -> bool:
    """Whether the run was exported as GGUF at all."""
    return any(run.path("exports").glob("gguf-*"))


def is_export(folder: Path) -> bool:
    path = folder / CERTIFICATE
    return path.is_file() and read_json(path).get("format") == "gguf"


def of_run(run: Run, config: Config) -> OfRun:
    """The files of a run that may be served. Raises InputError when its base has changed or gone."""
    if run.path("model").is_dir():
        folder = run.path("model")
        weights = base = weights_of(folder)
    else:
        folder = base_of(run, config).folder
        weights = weights_of(folder, run.path("adapter"))
        base = {**weights, "adapter": ""}
    files, reasons = list[Gguf](), list[str]()
    for export in sorted(run.path("exports").glob("gguf-*")):
        try:
            files += _checked(export, weights, folder)
        except InputError as error:
            reasons.append(error.message)
    adapter: Path | None = None
    if weights["adapter"]:
        for export in sorted(run.path("exports").glob("adapter-gguf")):
            adapter = next((one.file for one in _passing(export, weights, folder)), None)
    return OfRun(run, tuple(files), adapter, base, tuple(reasons))


def _passing(export: Path, weights: dict[str, str], folder: Path) -> Iterator[Gguf]:
    try:
        yield from _checked(export, weights, folder)
    except InputError:
        return


def _checked(export: Path, weights: dict[str, str], folder: Path) -> list[Gguf]:
    """The file in the folder of an export. Raises InputError unless it is, by its certificate, a faithful copy."""
    path = export / CERTIFICATE
    found: dict[str, Any] = read_json(path) if path.is_file() else {}
    if not found.get("passed"):
        raise InputError(f"the certificate of {export} did not pass." if found else f"{export} has no certificate.")
    if found.get("weights") != weights:
        raise InputError(f"{export} was made from other weights.", "Export again.")
    files = {export / name: told for name, told in found["files"].items() if name.endswith(".gguf")}
    for file, told in files.items():
        if not file.is_file() or hash_file(file) != told:
            raise InputError(f"{file} is not the file that its certificate is for.", "Export again.")
    return [Gguf(file, found["type"], weights, folder) for file in files]


def open_export(folder: Path) -> Gguf:
    """What ``tinyforge export --to gguf`` made. Raises InputError unless it passed and its source is as it was."""
    name = str(read_json(folder / CERTIFICATE)["source"])
    places = (folder.resolve().parent.parent, Path(name).expanduser())
    run = next((Run.open(place) for place in places if (place / "run.json").is_file()), None)
    if run is None:
        source, adapter = resolve(name).folder, None
    elif run.path("model").is_dir():
        source, adapter = run.path("model"), None
    else:
        own = config_of(run)
        source, adapter = base_of(run, own).folder, run.path("adapter")
    return _checked(folder, weights_of(source, adapter), source)[0]


def adapter_file(folder: Path, base: dict[str, str]) -> Path:
    """The GGUF file of an adapter: the folder of an export, or a run that has one. Raises InputError for others."""
    export = folder / "exports" / "adapter-gguf" if (folder / "run.json").is_file() else folder
    path = export / CERTIFICATE
    told = read_json(path).get("weights", {}) if path.is_file() else {}
    if not told.get("adapter"):
        raise InputError(
            f"{folder}: llama.cpp takes adapters as GGUF files that were exported, and there is none.",
            "Run: tinyforge export RUN --to adapter --type gguf",
        )
    if told["base"] != base["base"] or base["adapter"]:
        raise InputError(f"{folder}: its adapter belongs to another base than the one that is served.")
    return _checked(export, told, folder)[0].file


def context_of(folder: Path, slots: int, trust_remote_code: bool = False) -> int:
    """Tokens of a prompt and its answer: the model's own limit, or fewer where memory for every slot would not do."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code).get_text_config()
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    bytes_ = 4 * config.num_hidden_layers * (getattr(config, "num_key_value_heads", None) or heads) * width
    room = int(SHARE * psutil.virtual_memory().available / (bytes_ * slots))
    longest = int(getattr(config, "max_position_embeddings", 1 << 30))
    return min(longest, max(256, room // 256 * 256))

"""From the name of a base to a folder of weights: the embedded one, a local folder, or the hub's cache."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.run import hash_file, hash_json, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED = {"tiny": Path(__file__).parent / "base" / "tiny"}


@dataclass(frozen=True)
class Base:
    """A resolved base: ``name`` as asked for, ``folder`` with its files, ``hash`` of its weights and tokenizer."""

    name: str
    folder: Path
    hash: str


def hash_weights(folder: Path) -> str:
    """SHA-256 over the names and contents of weights, configuration and tokenizer."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in (".safetensors", ".json", ".jinja"))
    return hash_json([[p.name, hash_file(p)] for p in files])


def weights_of(folder: Path, adapter: Path | None = None) -> dict[str, str]:
    """What tells one trained model from another: the hash of its weights, and of the adapter on them ("" for none)."""
    return {"base": hash_weights(folder), "adapter": hash_weights(adapter) if adapter is not None else ""}


def resolve(name: str) -> Base:
    """Find the base ``name``. Raises InputError, naming what is known, when there is none or it cannot be fetched."""
    if name in EMBEDDED:
        return Base(name, EMBEDDED[name], hash_weights(EMBEDDED[name]))
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(name, folder)
    if folder.is_file():
        raise InputError(
            f"{name}: is a file, not a model folder.",
            "A GGUF file is made for answering: give the folder or the hub id that it was made of."
            if folder.suffix == ".gguf"
            else "Give the folder that it lies in.",
        )
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise _unknown(name)
    return _from_hub(name)


def _unknown(name: str, why: str = "") -> InputError:
    known = ", ".join(EMBEDDED)
    return InputError(
        f"unknown base {name!r}{why}.", f"Use {known}, a folder with a model, or a hub id such as org/name."
    )


def _local(name: str, folder: Path) -> Base:
    if (folder / "model" / "config.json").is_file():  # a run: its model is what is meant
        folder = folder / "model"
    if (folder / "adapter").is_dir():
        raise InputError(
            f"{folder}: holds an adapter, not a whole model.",
            f"Merge it into one: tinyforge export {folder} --to safetensors",
        )
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: holds no model (no config.json).", "Give a transformers model folder.")
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: holds no .safetensors weights.", "TinyForge never loads pickled weights.")
    return Base(name, folder, hash_weights(folder))


def _from_hub(name: str) -> Base:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = ["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except RepositoryNotFoundError:
        raise InputError(f"unknown base {name!r}: the hub has no such model (or it is private).") from None
    except HFValidationError:
        raise _unknown(name) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        if "/" not in name:  # the hub's oldest models have no organisation, but most such names are mistakes
            raise _unknown(name, ": no such folder, not in the local cache, and the hub cannot be reached") from error
        raise InputError(
            f"base {name!r} is not in the local cache and the hub cannot be reached ({type(error).__name__}).",
            "Use --base tiny, which needs no network, or a local folder; or go online once to fetch it.",
        ) from error
    return _local(name, folder)


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a base, with a chat template (TinyForge's own when it brings none) and a padding token."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = _plain_template(tokenizer.eos_token or "")
    if tokenizer.pad_token_id is None:
        # Harmless here: rows are padded on the right, never learned, and the stop token's own place is labelled.
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _plain_template(end: str) -> str:
    # The prompt ends without a space: most vocabularies join a space with the word after it, here the answer's first.
    return (
        "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}" + end + "{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}Assistant:{% endif %}"
    )


def saved_stop_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """What ``dataset.render.stop_ids`` gives for the model in ``folder``, without loading its weights."""
    from types import SimpleNamespace

    from tinyforge.dataset.render import stop_ids

    for name in ("generation_config.json", "config.json"):
        path = folder / name
        found = read_json(path).get("eos_token_id") if path.is_file() else None
        if found is not None:
            return stop_ids(SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=found)), tokenizer)
    return stop_ids(None, tokenizer)


def count_parameters(folder: Path) -> int:
    """The number of weights in a model's safetensors files, from the shapes in their headers; nothing is loaded."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as handle:
            header = json.loads(handle.read(int.from_bytes(handle.read(8), "little")))
        total += sum(prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    return total


def load_model(folder: Path, precision: str, trust_remote_code: bool = False, quantize: str = "") -> PreTrainedModel:
    """The causal language model in ``folder`` with weights in ``precision`` (fp32 or bf16), or in 4 bits (nf4).

    In 4 bits it computes in ``precision``. Raises InputError when that needs a package that is not installed.
    """
    from transformers import AutoModelForCausalLM

    from tinyforge.adapters import four_bit
    from tinyforge.models import quantizer
    from tinyforge.models.machine import torch_dtype

    quantizer.register()
    dtype = torch_dtype(precision)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        **four_bit.loading(quantize, dtype),
    )
    four_bit.forbid_repacking(model)
    return model

"""``--to gguf``: one file, run by the real llama.cpp for its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export import gguf, gguf_model
from tinyforge.export.gguf_types import TYPES, check_type
from tinyforge.export.source import Source
from tinyforge.export.target import Target

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner

CONTEXT = 2048  # tokens, prompt and answer, that a certificate gives llama.cpp


def file_of(source: Source, folder: Path, kind: str) -> Path:
    return folder / f"{source.title}-{kind}.gguf"


def check(source: Source, kind: str) -> None:
    from transformers import AutoConfig

    from tinyforge.export.gguf_vocab import read_vocabulary

    gguf.require()
    check_type(kind)
    if not source.writes:
        raise InputError(
            f"{source.name}: llama.cpp runs models that write; this one was trained with {source.objective}.",
            "Use --to onnx or --to safetensors.",
        )
    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=source.config.trust_remote_code)
    gguf_model.architecture(config)
    gguf_model.metadata(config)
    read_vocabulary(source.tokenizer(), config.vocab_size)


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    from tinyforge.dataset.render import stop_ids

    model, tokenizer = source.merged(), source.tokenizer()
    file = file_of(source, folder, kind)
    about = f"Made with TinyForge from {source.name} (base {source.config.base})."
    written = gguf.write_model(file, model, tokenizer, kind, source.title, stop_ids(model, tokenizer), about)
    return {"file": file.name, "weights": dict(written.types), "kept_in_f16": written.too_narrow}


def open_file(source: Source, folder: Path, kind: str) -> Runner:
    from transformers import AutoConfig

    from tinyforge.export.llama_runner import LlamaRunner

    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=source.config.trust_remote_code)
    longest = int(getattr(config, "max_position_embeddings", CONTEXT))
    return LlamaRunner(file_of(source, folder, kind), min(CONTEXT, longest))


def has_gelu(source: Source) -> bool:
    """Whether llama.cpp computes this model with its table of GELUs."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.folder, trust_remote_code=source.config.trust_remote_code)
    names = (getattr(config, name, None) or "" for name in ("hidden_act", "hidden_activation", "activation_function"))
    return any("gelu" in name for name in names)


GGUF = Target(("q8_0", *(kind for kind in TYPES if kind != "q8_0")), check, write, open_file)

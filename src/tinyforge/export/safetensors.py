"""A plain transformers folder: merged weights, tokenizer, template and generation config; or the adapter alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export.source import Source
from tinyforge.export.target import Target
from tinyforge.run import read_json, write_json

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner
    from tinyforge.models.predict import Predictor

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
_STANDARD = ("adapter_", "model", "pytorch_model", "tokenizer", "special_tokens", "README", "training.", ".")


def write_folder(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    """All that ``AutoModel.from_pretrained`` needs, in the precision of ``kind``."""
    import torch

    model = source.merged()
    model.to(getattr(torch, DTYPES[kind]))
    model.save_pretrained(folder)
    source.tokenizer().save_pretrained(folder)
    copy_companions(source, folder)
    return {"parameters": sum(p.numel() for p in model.parameters())}


def copy_companions(source: Source, folder: Path) -> None:
    """What a training left beside the weights and answering needs: a temperature, stored responses, a licence."""
    origin = source.adapter if source.adapter and not source.writes else source.folder
    for path in sorted(p for p in origin.iterdir() if p.is_file()):
        if not path.name.startswith(_STANDARD) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def open_folder(source: Source, folder: Path, kind: str) -> Runner | Predictor:
    from tinyforge.export.runners import TransformersRunner
    from tinyforge.models.predict import load_predictor
    from tinyforge.models.resolve import load_model, load_tokenizer

    if not source.writes:
        return load_predictor(folder)
    model = load_model(folder, "fp32", source.config.trust_remote_code)
    return TransformersRunner(model.eval(), load_tokenizer(folder, source.config.trust_remote_code))


def check_nothing(source: Source, kind: str) -> None:
    """Every model can be exported so."""


def check_adapter(source: Source, kind: str) -> None:
    if source.adapter is None:
        raise InputError(
            f"{source.name}: has no adapter; all of its weights were trained.", "Use --to safetensors instead."
        )
    if kind == "gguf":
        from tinyforge.export import gguf, gguf_lora

        gguf.require()
        gguf_lora.check(source)


def write_adapter(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    """PEFT's files with the name and hash of the base they belong to; or one GGUF file for llama.cpp's ``--lora``."""
    assert source.adapter is not None and source.base is not None
    base = {"name": source.base.name, "hash": source.base.hash, "quantize": source.quantize}
    write_json(folder / "base.json", base)
    if kind == "gguf":
        from tinyforge.export.gguf_lora import write_lora

        return {"tensors": write_lora(source, folder / f"{source.title}-lora.gguf")}
    for path in sorted(p for p in source.adapter.iterdir() if p.is_file()):
        shutil.copyfile(path, folder / path.name)
    settings = read_json(folder / "adapter_config.json")
    if Path(str(settings.get("base_model_name_or_path") or "")).is_absolute():  # this machine's folders tell nobody
        write_json(folder / "adapter_config.json", settings | {"base_model_name_or_path": source.base.name})
    source.tokenizer().save_pretrained(folder)
    return {"files": len(list(folder.iterdir()))}


def open_adapter(source: Source, folder: Path, kind: str) -> Runner | Predictor:
    """The artifact's adapter on the base."""
    from dataclasses import replace

    from tinyforge.export.runners import TransformersRunner
    from tinyforge.models.predict import predictor
    from tinyforge.models.resolve import load_tokenizer

    if kind == "gguf":
        from tinyforge.export.gguf_lora import open_lora

        return open_lora(source, folder / f"{source.title}-lora.gguf")
    model, tokenizer = replace(source, adapter=folder).load(), load_tokenizer(folder)
    return (
        TransformersRunner(model, tokenizer) if source.writes else predictor(source.objective, model, tokenizer, folder)
    )


SAFETENSORS = Target(tuple(DTYPES), check_nothing, write_folder, open_folder)
ADAPTER = Target(("peft", "gguf"), check_adapter, write_adapter, open_adapter)

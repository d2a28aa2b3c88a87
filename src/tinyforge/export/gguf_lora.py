"""A LoRA adapter as a GGUF file, which llama.cpp adds to a base's GGUF while it runs (``--lora``)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export import gguf, gguf_model
from tinyforge.export.gguf_types import encode
from tinyforge.export.source import Source
from tinyforge.run import read_json

if TYPE_CHECKING:
    import torch

    from tinyforge.export.runners import Runner


def check(source: Source) -> None:
    """Raises InputError unless the adapter is a plain LoRA on the linear layers of a family that llama.cpp knows."""
    assert source.adapter is not None
    settings = read_json(source.adapter / "adapter_config.json")
    other = [name for name in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern") if settings.get(name)]
    if settings["peft_type"] != "LORA" or other or settings.get("bias", "none") != "none":
        kind = other[0] if other else settings["peft_type"].lower()
        raise InputError(
            f"llama.cpp takes plain LoRA adapters only, and this one is of another kind ({kind}).",
            "Use --to gguf, which merges the adapter into the weights.",
        )
    if source.quantize:
        raise InputError(
            "this adapter belongs to a base in 4 bits of another kind than llama.cpp's.",
            "Use --to gguf, which merges the adapter into the weights.",
        )
    if not source.writes:
        raise InputError("llama.cpp runs models that write; this adapter is for another kind.", "Use --type peft.")


def write_lora(source: Source, path: Path) -> int:
    """The adapter's matrices in float32 under llama.cpp's names; returns how many there are."""
    import gguf as library
    from transformers import AutoConfig

    assert source.adapter is not None
    config = AutoConfig.from_pretrained(source.folder)
    arch = gguf_model.architecture(config)
    writer = library.GGUFWriter(path, arch)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(read_json(source.adapter / "adapter_config.json")["lora_alpha"]))
    writer.add_name(f"{source.title} LoRA")
    count = 0
    for name, tensor in _matrices(source, config, arch):
        writer.add_tensor(name, encode(tensor, "f32"))
        count += 1
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    return count


def _matrices(source: Source, config: Any, arch: str) -> list[tuple[str, torch.Tensor]]:
    import gguf as library
    from safetensors.torch import load_file

    assert source.adapter is not None
    key = next(k for k, name in library.MODEL_ARCH_NAMES.items() if name == arch)
    names = library.get_tensor_name_map(key, config.num_hidden_layers)
    found = []
    for full, tensor in load_file(source.adapter / "adapter_model.safetensors").items():
        layer, _, part = full.removeprefix("base_model.model.").partition(".lora_")
        name = names.get_name(layer)
        if name is None or part not in ("A.weight", "B.weight"):
            raise InputError(f"GGUF: llama.cpp's {arch} has no place for the adapter's {full}.", "Use --to gguf.")
        found.append((f"{name}.weight.lora_{part[0].lower()}", _laid_out(config, layer, part[0], tensor)))
    return found


def _laid_out(config: Any, layer: str, part: str, tensor: torch.Tensor) -> torch.Tensor:
    """B's rows are the layer's outputs, so they move as the layer's do. GPT-2's A and B are not turned in PEFT."""
    if config.model_type in ("llama", "mistral") and part == "B":
        return gguf_model.reordered(config, f"{layer}.weight", tensor)
    return tensor


def open_lora(source: Source, path: Path) -> Runner:
    """llama.cpp with the base in float32, written beside for as long as it runs, and the adapter on it."""
    from dataclasses import replace

    from tinyforge.dataset.render import stop_ids
    from tinyforge.export.llama_runner import LlamaRunner

    with tempfile.TemporaryDirectory(prefix="tinyforge-") as folder:
        base, file = replace(source, adapter=None, quantize=""), Path(folder) / "base.gguf"
        model, tokenizer = base.merged(), base.tokenizer()
        gguf.write_model(file, model, tokenizer, "f32", "base", stop_ids(model, tokenizer))
        return LlamaRunner(file, lora=path)  # loaded once the address is known; the file is no longer needed

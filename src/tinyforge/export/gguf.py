"""Write a model as one GGUF file, which llama.cpp, Ollama, LM Studio and many others run.

The file format is the `gguf` package's, llama.cpp's own; what goes into the file is decided here and in `gguf_model`,
`gguf_types` and `gguf_vocab`. Tensors are written one at a time, so memory stays at the model's own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.export import gguf_model
from tinyforge.export.gguf_types import encode, type_of
from tinyforge.export.gguf_vocab import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass
class Written:
    """What was written: how many weights in each type, and the matrices whose width no block fits, kept in f16."""

    types: Counter[str] = field(default_factory=Counter)
    too_narrow: list[str] = field(default_factory=list)


def require() -> None:
    """Raise InputError unless the file can be written and run by the real llama.cpp."""
    for package, extra in (("gguf", "gguf"), ("xllamacpp", "llamacpp")):
        if find_spec(package) is None:
            raise InputError(
                f"GGUF needs {package}, which is not installed.", f'Run: pip install "tinyforgeai[{extra}]"'
            )


def write_model(
    path: Path, model: Any, tokenizer: PreTrainedTokenizerBase, kind: str, title: str, stops: set[int], about: str = ""
) -> Written:
    """The model in ``path``: weights as ``kind``, tokenizer, chat template, stop tokens and settings.

    Raises InputError for a family or a tokenizer that llama.cpp has no equal of.
    """
    import gguf

    arch = gguf_model.architecture(model.config)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    writer.add_name(title)
    if about:
        writer.add_description(about)
    writer.add_file_type(int(getattr(gguf.LlamaFileType, _file_type(kind))))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for key, value in gguf_model.metadata(model.config).items():
        _add(writer, f"{arch}.{key}", value)
    _add_tokenizer(writer, read_vocabulary(tokenizer, model.config.vocab_size), tokenizer, stops)
    written, plan = _plan(model, arch, kind)
    for name, shape, chosen in plan:
        _announce(writer, name, shape, chosen)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for (_, _, chosen), (_, tensor) in zip(plan, gguf_model.tensors(model, arch), strict=True):
            writer.write_tensor_data(encode(tensor, chosen))
    finally:
        writer.close()
    return written


def _file_type(kind: str) -> str:
    return {"f32": "ALL_F32"}.get(kind, f"MOSTLY_{kind.upper()}")


def _add(writer: Any, key: str, value: int | float | str | bool) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)


def _plan(model: Any, arch: str, kind: str) -> tuple[Written, list[tuple[str, tuple[int, ...], str]]]:
    """Name, shape and type of each tensor."""
    written, plan = Written(), []
    for name, tensor in gguf_model.tensors(model, arch):
        chosen = type_of(name, tensor, kind, model.config.num_hidden_layers)
        if tensor.dim() > 1 and chosen == "f16" != kind:
            written.too_narrow.append(name)
        written.types[chosen] += prod(tensor.shape)
        plan.append((name, tuple(tensor.shape), chosen))
    return written, plan


def _announce(writer: Any, name: str, shape: tuple[int, ...], kind: str) -> None:
    import gguf
    import numpy as np

    chosen = gguf.GGMLQuantizationType[kind.upper()]
    if kind in ("f32", "f16"):
        dtype = np.dtype(np.float32 if kind == "f32" else np.float16)
        writer.add_tensor_info(name, shape, dtype, prod(shape) * dtype.itemsize)
        return
    stored = gguf.quant_shape_to_byte_shape(shape, chosen)
    writer.add_tensor_info(name, stored, np.dtype(np.uint8), prod(stored), raw_dtype=chosen)


def _add_tokenizer(writer: Any, vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerBase, stops: set[int]) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.model == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.scores)
    writer.add_add_space_prefix(vocabulary.space_prefix)
    begins = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(len(begins) > 1 and begins[0] == tokenizer.bos_token_id)
    writer.add_add_eos_token(len(begins) > 1 and begins[-1] == tokenizer.eos_token_id)
    for name in ("bos", "pad", "unk"):
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    _add_stops(writer, tokenizer, stops)
    writer.add_chat_template(str(tokenizer.chat_template))


def _add_stops(writer: Any, tokenizer: PreTrainedTokenizerBase, stops: set[int]) -> None:
    """llama.cpp stops at three tokens that a file names: the end of a text, of a turn, and of a message."""
    end = tokenizer.eos_token_id
    ordered = sorted(stops, key=lambda token: (token != end, token))
    if len(ordered) > 3:
        names = tokenizer.convert_ids_to_tokens(ordered)
        raise InputError(f"GGUF names at most three stop tokens; this model has {len(ordered)}: {', '.join(names)}.")
    for place, token in zip(("eos", "eot", "eom"), ordered, strict=False):
        writer.add_uint32(f"tokenizer.ggml.{place}_token_id", token)

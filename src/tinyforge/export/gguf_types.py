"""In which type each weight of a GGUF file is kept, and its bytes.

The gguf package rounds to the plain block types. The K types, whose scales are themselves searched for and rounded,
are made by llama.cpp's own quantizer, which xllamacpp's library shows.
"""

from __future__ import annotations

import ctypes
import re
from functools import lru_cache
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError

if TYPE_CHECKING:
    import torch

FLOATS = ("f32", "f16", "bf16")
TYPES = (*FLOATS, "q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0")
"""What a whole file may be kept as."""

BLOCK, K_BLOCK = 32, 256  # weights that share a scale: in the plain types, and with finer ones inside in the K types
PLAIN = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}
"""The K types, and what llama.cpp takes instead where no K block fits a row."""

# Outputs and embeddings decide over every token: in a plain type they stay at 8 bits, in a K type at 6, as llama.cpp's
# own recipes have it.
LAST = ("token_embd.weight", "output.weight")
ALWAYS_F32 = ("position_embd.weight", "rope_freqs.weight")


def is_k(kind: str) -> bool:
    return kind.removesuffix("_m") in PLAIN


def check_type(kind: str) -> str:
    """``kind`` in lower case. Raises InputError, listing what is known, or where the quantizer for it is missing."""
    found = kind.lower()
    if found not in TYPES:
        raise InputError(f"unknown GGUF type {kind!r}.", f"Known: {', '.join(TYPES)}.")
    if is_k(found) and _quantizer() is None:
        raise InputError(
            f"--type {found}: this xllamacpp does not show llama.cpp's quantizer.",
            "Use --type q4_0 or q5_1; or export --type f16 and run llama.cpp's llama-quantize on it.",
        )
    return found


def type_of(name: str, tensor: torch.Tensor, kind: str, blocks: int) -> str:
    """The type of one tensor in a file of ``kind``: of a model of so many ``blocks``."""
    if tensor.dim() < 2 or name in ALWAYS_F32:
        return "f32"
    if kind in FLOATS:
        return kind
    width = tensor.shape[-1]
    if width % BLOCK:
        return "f16"
    if not is_k(kind):
        return "q8_0" if name in LAST else kind
    chosen = "q6_k" if name in LAST or (kind.endswith("_m") and _worth_more(name, blocks)) else kind.removesuffix("_m")
    return PLAIN[chosen] if width % K_BLOCK else chosen


def _worth_more(name: str, blocks: int) -> bool:
    """llama.cpp's M recipes: values and MLP outputs of the first and last eighth of the blocks, and of every third."""
    found = re.fullmatch(r"blk\.(\d+)\.(attn_v|ffn_down)\.weight", name)
    if found is None:
        return False
    number, eighth = int(found[1]), blocks // 8
    return number < eighth or number >= 7 * blocks // 8 or (number - eighth) % 3 == 2


def encode(tensor: torch.Tensor, kind: str) -> Any:
    """The numbers of a tensor as they stand in the file: an array of floats, or of bytes for the block types."""
    import gguf
    import numpy as np

    values = tensor.float().cpu().contiguous().numpy()
    if kind in ("f32", "f16"):
        return values.astype(np.float32 if kind == "f32" else np.float16, copy=False)
    chosen = gguf.GGMLQuantizationType[kind.upper()]
    return _by_llama_cpp(values, chosen) if kind in PLAIN else gguf.quantize(values, chosen)


@lru_cache(maxsize=1)
def _quantizer() -> Any:
    """llama.cpp's ``ggml_quantize_chunk``; None where the library does not show it."""
    found = find_spec("xllamacpp.xllamacpp")
    try:
        function = ctypes.CDLL(str(found.origin)).ggml_quantize_chunk if found else None
    except (OSError, AttributeError):
        return None
    if function is not None:
        # type, from, to, first weight, rows, weights of a row, importance of each input (none)
        size, floats = ctypes.c_int64, ctypes.POINTER(ctypes.c_float)
        function.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, size, size, size, floats]
        function.restype = ctypes.c_size_t
    return function


def _by_llama_cpp(values: Any, chosen: Any) -> Any:
    import gguf
    import numpy as np

    shape = gguf.quant_shape_to_byte_shape(values.shape, chosen)
    rows, made = prod(values.shape[:-1]), np.empty(shape, np.uint8)
    source = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    written = _quantizer()(int(chosen), source, made.ctypes.data, 0, rows, values.shape[-1], None)
    if written != made.nbytes:
        raise RuntimeError(f"llama.cpp wrote {written} bytes for {made.nbytes}")
    return made

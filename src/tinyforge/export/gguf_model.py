"""Each family as llama.cpp knows it: the architecture's name, its metadata, and how its weights are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError

if TYPE_CHECKING:
    import torch

    Tensors = Iterator[tuple[str, torch.Tensor]]

ARCHITECTURES = {
    "llama": "llama",  # Llama, SmolLM, TinyLlama
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "gpt2": "gpt2",
}
"""transformers' model types to llama.cpp's architectures."""


def architecture(config: Any) -> str:
    """llama.cpp's name for the model's architecture. Raises InputError for one that this writer does not know."""
    name = ARCHITECTURES.get(config.model_type)
    if name is None:
        raise InputError(
            f"GGUF: models of type {config.model_type!r} are not written yet.",
            f"Known: {', '.join(sorted(ARCHITECTURES))}. Export to safetensors or onnx instead.",
        )
    return name


def metadata(config: Any) -> dict[str, int | float | str | bool]:
    """The keys under ``<architecture>.`` without that prefix, for any of the known families.

    Raises InputError for a setting that llama.cpp would compute otherwise.
    """
    if config.model_type == "gpt2":
        return _gpt2(config)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    found: dict[str, int | float | str | bool] = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "vocab_size": config.vocab_size,
        "rope.dimension_count": width,
    }
    return found | _rope(config) | _windows(config) | _gemma(config, width)


def _gpt2(config: Any) -> dict[str, int | float | str | bool]:
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        raise InputError(f"GGUF: llama.cpp's GPT-2 has no activation {config.activation_function!r}.")
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": config.layer_norm_epsilon,
        "vocab_size": config.vocab_size,
    }


def rope_parameters(config: Any) -> dict[str, Any]:
    """The rotary settings of the layers that see everything (Gemma 3 has others for its windows)."""
    found = dict(config.rope_parameters or {})
    return dict(found["full_attention"]) if "full_attention" in found else found


def _rope(config: Any) -> dict[str, int | float | str | bool]:
    rope = rope_parameters(config)
    kind = rope.get("rope_type", "default")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError("GGUF: rotary embeddings on a part of each head are not written for this family.")
    found: dict[str, int | float | str | bool] = {"rope.freq_base": float(rope["rope_theta"])}
    if kind in ("default", "llama3"):  # Llama 3's factors go into a tensor: see rope_factors
        return found
    if kind == "linear":
        return found | {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    if kind == "yarn":
        return found | {
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": float(rope["factor"]),
            "rope.scaling.original_context_length": int(rope["original_max_position_embeddings"]),
        }
    raise InputError(f"GGUF: rotary embeddings of type {kind!r} are not written yet.", "Export to safetensors or onnx.")


def _windows(config: Any) -> dict[str, int | float | str | bool]:
    """A window that some or all layers look through, where the model has one that is shorter than its context."""
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return {}
    if config.model_type in ("gemma2", "gemma3_text", "phi3"):
        return {"attention.sliding_window": int(window)}
    if window >= config.max_position_embeddings:
        return {}
    # llama.cpp looks at everything in these families: up to the window's length that is the same.
    return {"context_length": int(window)}


def _gemma(config: Any, width: int) -> dict[str, int | float | str | bool]:
    if config.model_type not in ("gemma2", "gemma3_text"):
        return {}
    scale = getattr(config, "query_pre_attn_scalar", width)
    if scale not in (width, config.hidden_size // config.num_attention_heads):
        raise InputError(f"GGUF: llama.cpp does not scale queries by {scale}.", "Export to safetensors or onnx.")
    found: dict[str, int | float | str | bool] = {}
    if getattr(config, "attn_logit_softcapping", None):
        found["attn_logit_softcapping"] = float(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        found["final_logit_softcapping"] = float(config.final_logit_softcapping)
    if config.model_type == "gemma3_text":
        local = (config.rope_parameters or {}).get("sliding_attention", {})
        found["rope.freq_base_swa"] = float(local.get("rope_theta", 10_000.0))
    return found


def rope_factors(config: Any) -> torch.Tensor | None:
    """How much each rotary frequency is slowed down under Llama 3's scaling, ``(head width / 2,)``; None without it."""
    if config.model_type == "gpt2" or rope_parameters(config).get("rope_type", "default") != "llama3":
        return None
    import torch
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = rope_parameters(config)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    plain = 1.0 / float(rope["rope_theta"]) ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    factors: torch.Tensor = plain / scaled
    return factors


def tensors(model: Any, arch: str) -> Tensors:
    """llama.cpp's name and layout for each weight of a plain model, in order; tied outputs are left out.

    Raises InputError for a weight that has no name in that architecture.
    """
    import gguf

    config = model.config
    key = next(k for k, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    names = gguf.get_tensor_name_map(key, config.num_hidden_layers)
    factors = rope_factors(config)
    if factors is not None:
        yield "rope_freqs.weight", factors
    change = _CHANGES.get(config.model_type, _as_it_is)
    tied = getattr(config, "tie_word_embeddings", False)
    for name, tensor in model.state_dict().items():
        if (tied and name == "lm_head.weight") or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        found = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise InputError(f"GGUF: llama.cpp's {arch} has no place for the weight {name}.")
        yield found, change(config, name, tensor.detach())


def _as_it_is(config: Any, name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def reordered(config: Any, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Llama's queries and keys: llama.cpp rotates neighbours, transformers the two halves of a head."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return tensor
    shape = (count, 2, tensor.shape[0] // count // 2, *tensor.shape[1:])
    return tensor.reshape(shape).transpose(1, 2).reshape(tensor.shape)


def _one_more(config: Any, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Gemma multiplies by one plus a norm's weight."""
    return tensor + 1 if name.endswith("norm.weight") else tensor


def _turned(config: Any, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """GPT-2 keeps its projections as (in, out)."""
    projection = name.split(".")[-2] in ("c_attn", "c_proj", "c_fc") and name.endswith(".weight")
    return tensor.T.contiguous() if projection else tensor


_CHANGES: dict[str, Callable[[Any, str, torch.Tensor], torch.Tensor]] = {
    "llama": reordered,
    "mistral": reordered,
    "gemma": _one_more,
    "gemma2": _one_more,
    "gemma3_text": _one_more,
    "gpt2": _turned,
}

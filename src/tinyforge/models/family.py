"""What kind of transformer a base is, and its weights under the head that an objective needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tinyforge.errors import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Family = Literal["decoder", "encoder-decoder", "encoder"]

HEADS = {
    "classify": "AutoModelForSequenceClassification",
    "extract": "AutoModelForQuestionAnswering",
    "respond": "AutoModel",
}
BODIES = {"decoder": "AutoModelForCausalLM", "encoder-decoder": "AutoModelForSeq2SeqLM", "encoder": "AutoModel"}
NEEDS: dict[str, tuple[Family, ...]] = {
    "pretrain": ("decoder",),
    "sft": ("decoder",),
    "dpo": ("decoder",),
    "distill": ("decoder",),
    "seq2seq": ("encoder-decoder",),
    "extract": ("encoder",),
    "respond": ("encoder",),
    "classify": ("decoder", "encoder-decoder", "encoder"),
}
"""The families that each objective trains."""


def family(config: PretrainedConfig) -> Family:
    """Read from the configuration and the heads that transformers has for its architecture.

    An architecture with a masked-language head is an encoder, also where it has a causal one as well (BERT), unless
    its configuration says that it decodes. Raises InputError for what does not read and write text.
    """
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    remote = getattr(config, "auto_map", None) or {}
    masked = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES or "AutoModelForMaskedLM" in remote
    causal = kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "AutoModelForCausalLM" in remote
    if getattr(config, "is_encoder_decoder", False):
        both = kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES or "AutoModelForSeq2SeqLM" in remote
        if both and not _is_half(config, auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(kind)):
            return "encoder-decoder"
    elif causal and (not masked or getattr(config, "is_decoder", False)):
        return "decoder"
    elif masked or kind in auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        return "encoder"
    raise InputError(
        f"{config.name_or_path or kind}: {', '.join(config.architectures or [kind])} is no text model that can be "
        "trained here.",
        "Use a causal language model, an encoder such as BERT, or an encoder-decoder such as T5.",
    )


def _is_half(config: PretrainedConfig, encoder_alone: str | None) -> bool:
    return encoder_alone is not None and encoder_alone in (config.architectures or [])


def longest_input(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, wanted: int) -> int:
    """The most tokens of one sequence: what is wanted, or fewer where the model has fewer positions."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or wanted
    return int(min(wanted, positions, tokenizer.model_max_length))


def load_for(
    objective: str,
    folder: Path,
    precision: str,
    labels: Sequence[str] = (),
    padding: int | None = None,
    seed: int = 0,
    trust_remote_code: bool = False,
    quantize: str = "",
) -> Any:
    """The model in ``folder`` under the head that ``objective`` needs; a head it does not bring is drawn from ``seed``.

    ``labels`` names the classes in order and ``padding`` is the tokenizer's padding id; classify needs both. With
    ``quantize`` all linear layers but the head are held in 4 bits and compute in ``precision``. Raises
    InputError when the model's family cannot learn the objective, or when weights other than the head's are missing.
    """
    import torch
    import transformers

    from tinyforge.adapters import four_bit
    from tinyforge.models.machine import torch_dtype
    from tinyforge.models.quantized import METHOD

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    kind = family(config)
    if (getattr(config, "quantization_config", None) or {}).get("quant_method") == METHOD:
        raise InputError(
            f"{folder}: is quantized by TinyForge, and codes cannot be trained.", "Train what it was made of instead."
        )
    if kind not in NEEDS.get(objective, (kind,)):
        article = "a" if kind == "decoder" else "an"
        fitting = [name for name, families in NEEDS.items() if kind in families]
        raise InputError(
            f"{folder}: is {article} {kind} model, which cannot be trained with {objective}.",
            f"Use --set train.objective=auto, or one of {', '.join(fitting)}.",
        )
    if objective == "classify":
        config.id2label, config.label2id = dict(enumerate(labels)), {name: i for i, name in enumerate(labels)}
        config.get_text_config().pad_token_id = config.pad_token_id = padding  # its head reads before the padding
    torch.manual_seed(seed)
    model, info = getattr(transformers, HEADS.get(objective) or BODIES[kind]).from_pretrained(
        folder,
        config=config,
        dtype=torch_dtype(precision),
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        **four_bit.loading(quantize, torch_dtype(precision)),
        ignore_mismatched_sizes=objective in HEADS,  # the head of another task gives way to a fresh one
        output_loading_info=True,
    )
    _refuse_missing(folder, model, {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    _freeze_unused(model, objective)
    four_bit.forbid_repacking(model)
    return model


def _refuse_missing(folder: Path, model: Any, fresh: set[str]) -> None:
    """transformers draws missing weights at random and goes on; that is right for a new head and nothing else."""
    prefix = f"{model.base_model_prefix}."
    headed = hasattr(model, model.base_model_prefix)
    body = sorted(key for key in fresh if "pooler" not in key and (key.startswith(prefix) or not headed))
    if body:
        raise InputError(
            f"{folder}: {len(body)} of the weights that {type(model).__name__} needs are missing, first {body[0]}.",
            "The folder holds another kind of model, or only a part of one; fetch it again.",
        )


def _freeze_unused(model: Any, objective: str) -> None:
    """Mean pooling goes round BERT's own pooler, so that never gets a gradient, and optimizers have no state of it."""
    if objective == "respond":
        for name, parameter in model.named_parameters():
            if "pooler" in name:
                parameter.requires_grad_(False)

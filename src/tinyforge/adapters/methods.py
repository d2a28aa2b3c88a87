"""The adapter methods, and the PEFT configuration of each for a given model: read from the model, not from its name."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Sequence
from typing import Any

from tinyforge.config import TrainConfig
from tinyforge.errors import InputError

# Hu et al. 2021; Kalajdzievski 2023 (scale alpha / root of the rank); Liu et al. 2024; Dettmers et al. 2023.
LORA: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}, "qlora": {}}

UNFIT = {
    "adalora": "its ranks follow a schedule that a loop has to drive for it",
    "cpt": "it has a loss of its own, over tokens marked by their kind",
    "multitask_prompt_tuning": "its rows must name one of several tasks",
    "poly": "its rows must name one of several tasks",
    "shadow": "it has a forward pass and a loss of its own",
    "trainable_tokens": "it trains chosen tokens of the vocabulary, which no option names",
    "xlora": "it mixes adapters that were trained before",
}
"""What PEFT has and this loop cannot train, with the reason."""

NOT_IDENTITY = frozenset({"cartridge", "p_tuning", "prefix_tuning", "prompt_tuning", "vblora", "unilora"})
"""A fresh adapter of these already changes the model: virtual tokens are read, and shared banks start at random."""

OWN_RANK = frozenset({"osf", "oft", "pvera", "randlora", "tinylora", "unilora", "vblora", "vera"})
"""Their ``r`` is no rank of LoRA's kind (VeRA's is of frozen random matrices, OFT's counts blocks): PEFT's stays."""

FROM_ZERO: dict[str, dict[str, Any]] = {"c3a": {"init_weights": True}, "fourierft": {"init_weights": True}}
"""Methods that PEFT starts at random and that can as well start at no change."""

VIRTUAL_TOKENS = 20  # Lester et al. 2021: more gain little
ADAPTION_LENGTH = 10  # Zhang et al. 2023, LLaMA-Adapter


def peft() -> Any:
    """The library, without two warnings that are not for the person who trains.

    bitsandbytes, which it imports where installed, tells of an optional kernel; and it asks transformers for an
    attribute by its old name.
    """
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    import peft as library

    return library


def peft_methods() -> dict[str, Any]:
    """PEFT's configuration classes by the name of their method."""
    classes = peft().mapping.PEFT_TYPE_TO_CONFIG_MAPPING
    return {kind.value.lower(): made for kind, made in classes.items()}


def check(method: str) -> None:
    """Raise InputError unless ``method`` is ``full`` or an adapter method that can be trained here."""
    if method == "full" or method in LORA:
        return
    found = peft_methods()
    known = ["full", *LORA, *sorted(found.keys() - LORA.keys() - UNFIT.keys())]
    if method in UNFIT:
        raise InputError(f"train.method = {method} cannot be trained here: {UNFIT[method]}.", "Use lora or dora.")
    if method not in found:
        raise InputError(f"unknown train.method {method!r}.", f"Known: auto, {', '.join(known)}.")


def task_of(model: Any) -> str:
    """PEFT's name for what the model does: transformers names its classes after their heads."""
    name = type(model).__name__
    for part, task in (
        ("ForSequenceClassification", "SEQ_CLS"),
        ("ForTokenClassification", "TOKEN_CLS"),
        ("ForQuestionAnswering", "QUESTION_ANS"),
    ):
        if part in name:
            return task
    if not model.can_generate():
        return "FEATURE_EXTRACTION"
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def heads(model: Any) -> list[str]:
    """The modules of a classifier or a span finder that stand outside its backbone: they start fresh and must train."""
    if task_of(model) not in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"):
        return []
    outside = [(name, child) for name, child in model.named_children() if name != model.base_model_prefix]
    return [name for name, child in outside if any(True for _ in child.parameters())]


def linear_layers(model: Any) -> list[str]:
    """The names of all linear layers (plain, GPT-2's Conv1D, 4-bit) but the output and a task's head."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()
    fresh = set(heads(model))
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, Linear | Conv1D) and module is not output and name.split(".")[0] not in fresh
    ]


def shortened(model: Any, names: Sequence[str]) -> list[str]:
    """The last parts of the names, as PEFT matches them, where they mean the same modules; else the names."""
    last = {name.rpartition(".")[2] for name in names}
    matched = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in last]
    return sorted(last if sorted(matched) == sorted(names) else names)


def _norms(model: Any) -> list[str]:
    return [name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()]


def _projections_down(model: Any, names: Sequence[str]) -> list[str]:
    """The linear layers that lead from a wider layer back to the model's width."""
    width = model.config.get_text_config().hidden_size
    found = []
    for name in names:
        module = model.get_submodule(name)
        # Conv1D keeps its weight as (in, out) and names only the latter.
        inputs = getattr(module, "in_features", None) or module.weight.shape[0]
        outputs = getattr(module, "out_features", None) or module.weight.shape[1]
        if inputs > width and outputs == width:
            found.append(name)
    return found


def _targets(method: str, model: Any) -> dict[str, Any]:
    if method == "adaption_prompt":  # it wraps whole attention modules, and PEFT finds them
        return {}
    if method == "ln_tuning":
        return {"target_modules": shortened(model, _norms(model))}
    names = linear_layers(model)
    if method == "ia3":  # scales the inputs of the projections down and the outputs of the others (Liu et al. 2022)
        return {"target_modules": names, "feedforward_modules": _projections_down(model, names)}
    return {"target_modules": shortened(model, names)}


def peft_config(method: str, model: Any, config: TrainConfig) -> Any:
    """PEFT's configuration of ``method``: of the options below, those that it has a field for."""
    from transformers.pytorch_utils import Conv1D

    made = peft().LoraConfig if method in LORA else peft_methods()[method]
    alpha = config.lora_alpha
    alpha = int(alpha) if alpha.is_integer() else alpha  # as PEFT declares it, and as its own files have it
    options: dict[str, Any] = {
        **({} if method in OWN_RANK else {"r": config.lora_rank}),
        "lora_alpha": alpha,
        "alpha": alpha,
        "lora_dropout": config.lora_dropout,
        f"{method}_dropout": config.lora_dropout,
        "fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules()),
        "modules_to_save": heads(model) or None,
        "num_virtual_tokens": VIRTUAL_TOKENS,
        "adapter_len": ADAPTION_LENGTH,
        "adapter_layers": getattr(model.config.get_text_config(), "num_hidden_layers", None),
        **_targets(method, model),
        **LORA.get(method, {}),
        **FROM_ZERO.get(method, {}),
    }
    fields = {field.name for field in dataclasses.fields(made)}
    return made(task_type=task_of(model), **{name: value for name, value in options.items() if name in fields})

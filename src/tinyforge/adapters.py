"""Low-rank adapters in PEFT's file format: attach, save, load."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import TrainConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FULL_UP_TO = 100_000_000  # parameters; below this, training everything costs little more and learns facts better


def choose_method(wanted: str, model: PreTrainedModel) -> str:
    """``full`` or ``lora``: what was asked for, or by the model's size for ``auto``."""
    if wanted != "auto":
        return wanted
    return "full" if sum(p.numel() for p in model.parameters()) <= FULL_UP_TO else "lora"


def default_learning_rate(method: str, parameters: int) -> float:
    """A peak learning rate: 1e-3 for full training at 10M parameters, falling with the root of the size; LoRA's 2e-4.

    Tiny models are also given 1e-3 with LoRA: at their width 2e-4 hardly moves them.
    """
    full = 1e-3 * min(1.0, math.sqrt(1e7 / parameters))
    return full if method == "full" else max(2e-4, full)


def attach(model: PreTrainedModel, config: TrainConfig, seed: int) -> Any:
    """The model with fresh LoRA adapters (Hu et al. 2021) on every linear layer but the output; only they train.

    A fresh adapter changes nothing: its second matrix is zero.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    wrapped = get_peft_model(
        model,
        LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        autocast_adapter_dtype=False,
    )
    dtype = next(model.parameters()).dtype
    for parameter in wrapped.parameters():
        if parameter.requires_grad and dtype not in (parameter.dtype, torch.float32):
            parameter.data = parameter.data.to(dtype)  # one dtype throughout: mixed ones are slow on a CPU
    return wrapped


def load(model: PreTrainedModel, folder: Path) -> Any:
    """The model with the adapter saved in ``folder``, for inference."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, folder)

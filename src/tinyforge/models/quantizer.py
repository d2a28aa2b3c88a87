"""How transformers comes to load TinyForge's quantized folders: ``from_pretrained`` finds the layers by config.json.

A process that has not called :func:`register` cannot load them: transformers warns of an unknown quantization and then
stops, because the codes do not have the shape of weights.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.quantizers.auto import (
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from tinyforge.models.quantized import METHOD, hollow


class WeightOnlyConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """``quantization_config`` in config.json. ``rounding`` says how the codes were chosen; loading does not need it."""

    def __init__(self, bits: int = 8, group: int = 0, rounding: str = "", tied: bool = False, **rest: Any) -> None:
        self.quant_method = METHOD
        self.bits, self.group, self.rounding, self.tied = bits, group, rounding, tied


class WeightOnlyQuantizer(HfQuantizer):  # type: ignore[misc]
    requires_calibration = True  # codes are only ever read here

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        config = self.quantization_config
        with torch.device("meta"):
            hollow(model, config.bits, config.group, config.tied)
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def register() -> None:
    """Make the form known to transformers in this process; again does nothing."""
    if METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantizer(METHOD)(WeightOnlyQuantizer)
        register_quantization_config(METHOD)(WeightOnlyConfig)

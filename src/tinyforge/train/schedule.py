"""The learning rate over a run, as a factor of its peak."""

from __future__ import annotations

import math

from tinyforge.config import TrainConfig


def learning_rate_factor(config: TrainConfig, step: float, total: int) -> float:
    """Factor in [0, 1] for 0-based ``step`` of ``total``: a linear warm-up, then the configured shape.

    Under a time budget ``step`` may lie between two steps.

    wsd (warm-up, stable, decay; Hu et al. 2024) stays at the peak until the last ``decay_fraction`` of the steps.
    """
    warmup = max(1, round(config.warmup_fraction * total))
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    left = (total - step) / max(1, total - warmup)
    if config.schedule == "linear":
        return left
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (1 - left)))
    decay = max(1, round(config.decay_fraction * total))
    return min(1.0, (total - step) / decay)

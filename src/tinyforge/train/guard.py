"""How well a model reads general text: bits per byte, which can be compared across tokenizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from tinyforge.records import Tokens
from tinyforge.train.loss import next_token_loss

OPERATIONS = 5e11  # of one measurement: some five seconds on two CPU cores
LEAST_TOKENS = 500
ROW_TOKENS = 512


def affordable_tokens(parameters: int) -> int:
    """How much text is read: each token costs 2 operations for each parameter."""
    return max(LEAST_TOKENS, int(OPERATIONS / (2 * parameters)))


@torch.no_grad()
def bits_per_byte(model: Any, rows: Sequence[Tokens], size: int) -> float:
    """What the model needs to write down the rows, which are ``size`` bytes of text, every token from those before."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    nats = 0.0
    for row in rows:
        ids_BT = torch.tensor([row.ids], device=device)
        nats += float(next_token_loss(model, ids_BT, ids_BT)[0])
    model.train(training)
    return nats / math.log(2) / size

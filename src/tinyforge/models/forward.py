"""Batches for models that read whole sequences at once; training and answering share them.

Legend: B rows, T tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Ids and mask (1 for real tokens), both (B, T); rows are padded on the right to the longest."""
    width = max(len(row) for row in rows)
    ids_BT = torch.full((len(rows), width), padding, dtype=torch.long)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        ids_BT[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask_BT[index, : len(row)] = 1
    return ids_BT, mask_BT


def segments(model: Any, mask_BT: Tensor, borders: Sequence[int]) -> dict[str, Tensor]:
    """The argument that tells a question from its context, for the models that were pretrained with one.

    Tokens from the row's border on are segment 1; a border of 0 means a single sequence.
    """
    if getattr(model.config, "type_vocab_size", 0) < 2:
        return {}
    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    borders_B = torch.tensor([border or mask_BT.shape[1] for border in borders], device=mask_BT.device)
    return {"token_type_ids": (places_T[None] >= borders_B[:, None]).long() * mask_BT}


def span_logits(model: Any, ids_BT: Tensor, mask_BT: Tensor, borders: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Start and end logits in float32, (B, T) each; minus infinity on padding, so that none of it takes any share."""
    output = model(input_ids=ids_BT, attention_mask=mask_BT, **segments(model, mask_BT, borders))
    hidden = mask_BT == 0
    start_BT = output.start_logits.float().masked_fill(hidden, float("-inf"))
    return start_BT, output.end_logits.float().masked_fill(hidden, float("-inf"))


def embed(model: Any, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """One unit vector per row, (B, D) in float32: the mean over the row's real tokens (Reimers & Gurevych 2019)."""
    hidden_BTD = model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
    weights_BT1 = mask_BT[..., None].float()
    mean_BD = (hidden_BTD * weights_BT1).sum(1) / weights_BT1.sum(1)
    return torch.nn.functional.normalize(mean_BD, dim=-1)

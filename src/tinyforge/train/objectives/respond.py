"""Learn to find the stored response that answers an input: a dual encoder (Karpukhin et al. 2020, arXiv:2004.04906).

Legend: B rows, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tinyforge.config import TrainConfig
from tinyforge.dataset.pairs import input_text, output_text
from tinyforge.models.forward import embed
from tinyforge.records import Tokens
from tinyforge.train.loss import IGNORED
from tinyforge.train.objectives.seq2seq import PairBatch, pad_pairs

TEMPERATURE = 0.05  # of the cosine similarities, as in SimCSE (Gao et al. 2021)


class Respond:
    """A row is the input's tokens, then, from its border on, the response's; one encoder embeds both.

    The wrong responses to choose from are those of the other rows in the batch. So, unlike every other objective, the
    loss of a row depends on its batch by design: 1 x 8 is another (and easier) training than 8 rows at once.
    """

    compares_rows = True
    """Whether the rows of a micro-batch have to stay together, on one worker."""

    def __init__(self, padding: int, config: TrainConfig | None = None) -> None:
        self.padding, self.config = padding, config or TrainConfig.model_validate({})

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        """All of the response is labelled: it is what is learned."""
        asked = tokenizer(input_text(example), verbose=False)["input_ids"]
        response = tokenizer(output_text(example), verbose=False)["input_ids"]
        return Tokens([*asked, *response], [*[IGNORED] * len(asked), *response], len(asked))

    def collate(self, rows: Sequence[Tokens]) -> PairBatch:
        return pad_pairs(rows, self.padding)

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """InfoNCE in nats summed over the rows, their number, and how many find their own response.

        Another row with the same response is no wrong answer, and is not offered as one.
        """
        asked_BD = embed(model, batch.source_BS, batch.source_mask_BS)
        response_BD = embed(model, batch.ids_BT, (batch.labels_BT != IGNORED).long())
        own = torch.eye(len(asked_BD), dtype=torch.bool, device=asked_BD.device)
        same = (batch.labels_BT[:, None] == batch.labels_BT[None]).all(-1) & ~own
        logits_BB = (asked_BD @ response_BD.T / TEMPERATURE).masked_fill(same, float("-inf"))
        targets_B = torch.arange(len(logits_BB), device=logits_BB.device)
        total = torch.nn.functional.cross_entropy(logits_BB, targets_B, reduction="sum")
        return total, len(targets_B), {"accuracy": float((logits_BB.argmax(-1) == targets_B).sum())}

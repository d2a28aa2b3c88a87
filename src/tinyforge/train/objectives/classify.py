"""Learn which class a text belongs to.

Legend: B rows, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyforge.config import TrainConfig
from tinyforge.dataset.pairs import input_text, output_text
from tinyforge.errors import InputError
from tinyforge.models.forward import padded
from tinyforge.records import Tokens
from tinyforge.train.loss import IGNORED
from tinyforge.train.objectives.base import Batch


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """B rows of T tokens; ``labels_BT`` has one column with the class, ``mask_BT`` is 1 for real tokens."""

    mask_BT: Tensor


class Classify:
    """The class stands in the first label of a row. Any family: the head reads the first token, or the last real one.

    ``labels`` names the classes in the order of the model's configuration (see ``dataset.pairs.classes_of``).
    """

    def __init__(self, padding: int, config: TrainConfig | None = None, labels: Sequence[str] = ()) -> None:
        self.padding, self.config = padding, config or TrainConfig.model_validate({})
        self.labels = list(labels)

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        """Raises InputError, naming the known ones, for a class that is not among the labels."""
        name = output_text(example)
        if name not in self.labels:
            raise InputError(
                f"example {example.id}: has the label {name!r}, which no training row has.",
                f"Known: {', '.join(self.labels)}.",
            )
        ids = tokenizer(input_text(example), verbose=False)["input_ids"]
        return Tokens(ids, [self.labels.index(name), *[IGNORED] * (len(ids) - 1)])

    def collate(self, rows: Sequence[Tokens]) -> MaskedBatch:
        ids_BT, mask_BT = padded([row.ids for row in rows], self.padding)
        return MaskedBatch(ids_BT, torch.tensor([row.labels[:1] for row in rows]), mask_BT)

    def logits(self, model: Any, batch: Any) -> Tensor:
        """(B, C) in float32."""
        logits_BC: Tensor = model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT).logits.float()
        return logits_BC

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """Summed cross-entropy in nats, the number of rows, and how many of them are classified right."""
        logits_BC, classes_B = self.logits(model, batch), batch.labels_BT[:, 0]
        total = torch.nn.functional.cross_entropy(logits_BC, classes_B, reduction="sum")
        right = int((logits_BC.argmax(-1) == classes_B).sum())
        return total, len(classes_B), {"accuracy": float(right)}

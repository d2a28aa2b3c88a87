"""Learn every token of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tinyforge.config import TrainConfig
from tinyforge.records import Tokens
from tinyforge.train.loss import next_token_loss
from tinyforge.train.objectives.base import Batch, pack_rows, pad_rows


class Pretrain:
    packing = False

    def __init__(self, padding: int, config: TrainConfig | None = None) -> None:
        self.padding, self.config = padding, config or TrainConfig.model_validate({})

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        end = tokenizer.eos_token_id
        ids = [end, *tokenizer(example.text, add_special_tokens=False)["input_ids"], end]
        return Tokens(ids, ids)

    def collate(self, rows: Sequence[Tokens]) -> Batch:
        return pack_rows(rows) if self.packing else pad_rows(rows, self.padding)

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, int, dict[str, float]]:
        total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT, batch.packed)
        return total, count, {}

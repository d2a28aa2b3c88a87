"""Learn to write the output from the input with an encoder-decoder.

Legend: B rows, S tokens of a source, T tokens of a target, V vocabulary size.
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
class PairBatch(Batch):
    """``ids_BT`` and ``labels_BT`` are of the targets, ``source_BS`` with its mask of the sources."""

    source_BS: Tensor
    source_mask_BS: Tensor


def pad_pairs(rows: Sequence[Tokens], padding: int) -> PairBatch:
    """The two sides of each row, padded on the right each for itself; padding is never learned."""
    source_BS, source_mask_BS = padded([row.ids[: row.border] for row in rows], padding)
    ids_BT, mask_BT = padded([row.ids[row.border :] for row in rows], padding)
    return PairBatch(ids_BT, ids_BT.masked_fill(mask_BT == 0, IGNORED), source_BS, source_mask_BS)


class SequenceToSequence:
    """A row is the source's tokens, then, from its border on, the target's; only the target is learned."""

    def __init__(self, padding: int, config: TrainConfig | None = None) -> None:
        self.padding, self.config = padding, config or TrainConfig.model_validate({})

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        """The target always ends with the stop token, which is learned. Raises InputError when there is none."""
        if tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has no end token, so the model could not learn to stop.", "Use another base."
            )
        source = tokenizer(input_text(example), verbose=False)["input_ids"]
        target = tokenizer(text_target=output_text(example), verbose=False)["input_ids"]
        if target[-1:] != [tokenizer.eos_token_id]:
            target = [*target, tokenizer.eos_token_id]
        return Tokens([*source, *target], [*[IGNORED] * len(source), *target], len(source))

    def collate(self, rows: Sequence[Tokens]) -> PairBatch:
        return pad_pairs(rows, self.padding)

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """Summed cross-entropy in nats over the targets' tokens, and how many there are.

        The decoder reads the target shifted right behind the start token (Raffel et al. 2020), its padding behind the
        real tokens, where causal attention never looks.
        """
        start = torch.full_like(batch.ids_BT[:, :1], model.config.decoder_start_token_id)
        logits_BTV = model(
            input_ids=batch.source_BS,
            attention_mask=batch.source_mask_BS,
            decoder_input_ids=torch.cat([start, batch.ids_BT[:, :-1]], 1),
            use_cache=False,
        ).logits
        places = batch.labels_BT != IGNORED
        total = torch.nn.functional.cross_entropy(logits_BTV[places].float(), batch.labels_BT[places], reduction="sum")
        return total, int(places.sum()), {}

"""Learn where in its context a question is answered (Devlin et al. 2019, sections 4.2 and 4.3).

Legend: B rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyforge.config import TrainConfig
from tinyforge.dataset.pairs import input_text
from tinyforge.dataset.spans import WINDOW, answer_place, split_context, windows
from tinyforge.errors import InputError
from tinyforge.models.forward import padded, span_logits
from tinyforge.records import Tokens
from tinyforge.train.loss import IGNORED
from tinyforge.train.objectives.base import Batch


@dataclass(frozen=True)
class SpanBatch(Batch):
    """``labels_BT`` has two columns, the first and the last token of the answer; ``borders`` where contexts begin."""

    mask_BT: Tensor
    borders: tuple[int, ...]


class Extract:
    """A row is a question with a window of its context; its first two labels are the answer's first and last token.

    Both are 0, the place of the classification token, where the window does not hold the answer (or there is none).
    """

    def __init__(self, padding: int, config: TrainConfig | None = None) -> None:
        self.padding, self.config = padding, config or TrainConfig.model_validate({})

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        """The row of the first window that holds the answer, or of the first when none does."""
        rows = self.encode_windows(example, tokenizer, WINDOW)
        return next((row for row in rows if row.labels[1]), rows[0])

    def encode_windows(self, example: Any, tokenizer: Any, max_length: int) -> list[Tokens]:
        """A row for every window. Raises InputError when the answer is not in the context, or in no window whole."""
        place = answer_place(example)
        if place is None:
            raise InputError(f"example {example.id}: its answer is not a part of its input.", "Take the row out.")
        rows, held, longest = [], False, min(max_length, WINDOW)
        for window in windows(*split_context(input_text(example)), tokenizer, longest):
            first, last = (window.tokens_of(*place) if place != (0, 0) else None) or (0, 0)
            held = held or last > 0
            rows.append(Tokens(window.ids, [first, last, *[IGNORED] * (len(window.ids) - 2)], window.border))
        if place != (0, 0) and not held:
            raise InputError(
                f"example {example.id}: its answer is too long to lie in one window of {longest} tokens.",
                "Take the row out.",
            )
        return rows

    def collate(self, rows: Sequence[Tokens]) -> SpanBatch:
        ids_BT, mask_BT = padded([row.ids for row in rows], self.padding)
        places = torch.tensor([row.labels[:2] for row in rows])
        return SpanBatch(ids_BT, places, mask_BT, tuple(row.border for row in rows))

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, int, dict[str, float]]:
        """Cross-entropy in nats, the mean of start and end, summed over rows; their number; how many are exact."""
        start_BT, end_BT = span_logits(model, batch.ids_BT, batch.mask_BT, batch.borders)
        starts_B, ends_B = batch.labels_BT.unbind(1)
        cross_entropy = torch.nn.functional.cross_entropy
        both = cross_entropy(start_BT, starts_B, reduction="sum") + cross_entropy(end_BT, ends_B, reduction="sum")
        exact = (start_BT.argmax(-1) == starts_B) & (end_BT.argmax(-1) == ends_B)
        return both / 2, len(starts_B), {"exact": float(exact.sum())}

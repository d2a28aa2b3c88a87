"""What an objective is, and the batch that the text objectives share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tinyforge.models.attention import Packed
from tinyforge.records import Tokens
from tinyforge.train.loss import IGNORED


@dataclass(frozen=True)
class Batch:
    """B rows of T tokens, padded on the right; or, where ``packed`` says how, all rows end to end in one.

    ``labels`` is -100 where nothing is learned.
    """

    ids_BT: Tensor
    labels_BT: Tensor
    packed: Packed | None = field(default=None, kw_only=True)


class Objective(Protocol):
    """Three functions; adding a way to train means writing these."""

    def encode(self, example: Any, tokenizer: Any) -> Tokens: ...

    def collate(self, rows: Sequence[Tokens]) -> Batch: ...

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, int, dict[str, float]]:
        """The summed loss, the weight to divide it by, and what else is worth showing: sums over the same weight."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """An objective that needs the model as it was at the start: a reference, for example."""

    def prepare(self, model: Any) -> None:
        """Called once, before the first step and before anything is restored from a checkpoint."""
        ...


def pad_rows(rows: Sequence[Tokens], padding: int) -> Batch:
    """Rows padded on the right to the longest; padding is never learned."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), padding, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, : len(row.labels)] = torch.tensor(row.labels)
    return Batch(ids, labels)


@runtime_checkable
class Packs(Protocol):
    """An objective whose batches may be packed; ``packing`` is set while the model can take such batches."""

    packing: bool


def pack_rows(rows: Sequence[Tokens]) -> Batch:
    """Rows end to end without padding, each seeing only itself; nothing is learned across a border."""
    ids = torch.cat([torch.tensor(row.ids, dtype=torch.long) for row in rows])
    labels = torch.cat([torch.tensor([IGNORED, *row.labels[1:]], dtype=torch.long) for row in rows])
    return Batch(ids[None], labels[None], packed=Packed.of([len(row.ids) for row in rows]))

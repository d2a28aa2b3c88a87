"""Rows of different lengths that take one step together, and join and leave between the steps.

A row stands at the beginning of its slot, whatever the others' lengths are, and the mask hides what lies behind its
end. Two things keep what a row gets from depending on its company: the width that attention works on is a multiple of
WIDTH, and there are always at least as many rows as it takes for the matrix products to give a row the same bits in
any batch (:func:`least_rows` finds out how many).

Legend: B rows of a step, S slots, K key heads, W width, D width of a head, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

WIDTH = 64  # tokens; attention on CPUs gives a row the same bits at any multiple of 32 (measured)
GROWTH = 256  # tokens by which the slots become longer


class _Slots(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, each (S, K, W, D), and where this step's go."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.keys = layer.keys.new_zeros((0, *layer.keys.shape[1:2], 0, layer.keys.shape[3]))
        self.values = layer.values.new_zeros((0, *layer.values.shape[1:2], 0, layer.values.shape[3]))
        self.is_initialized = True
        self.rows_B, self.places_B = torch.empty(0), torch.empty(0)
        self.width = 0

    def update(self, keys_BK1D: Tensor, values_BK1D: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys[self.rows_B, :, self.places_B] = keys_BK1D[:, :, 0]
        self.values[self.rows_B, :, self.places_B] = values_BK1D[:, :, 0]
        rows = len(self.rows_B)
        return self.keys[:rows, :, : self.width], self.values[:rows, :, : self.width]

    def reserve(self, slots: int, width: int) -> None:
        self.keys, self.values = _larger(self.keys, slots, width), _larger(self.values, slots, width)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        raise AssertionError("the slots are there from the beginning")

    def get_seq_length(self) -> int:
        return self.width

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.width, 0

    def get_max_length(self) -> int:
        return -1


def _larger(old_SKWD: Tensor, slots: int, width: int) -> Tensor:
    new_SKWD = old_SKWD.new_zeros((slots, old_SKWD.shape[1], width, old_SKWD.shape[3]))
    new_SKWD[: old_SKWD.shape[0], :, : old_SKWD.shape[2]] = old_SKWD
    return new_SKWD


class Ragged:
    """Rows that take their steps in one forward pass. The caller keeps its own list of them in the same order."""

    def __init__(self, model: Any, least: int) -> None:
        self._model, self._least = model, least
        self._cache: Any = None
        self._slots = self._width = 0
        self.lengths: list[int] = []

    def join(self, cache: Any, length: int) -> None:
        """Add a row whose prompt was read alone into ``cache``."""
        if self._cache is None:
            self._cache = Cache(layers=[_Slots(layer) for layer in cache.layers])
        self.lengths.append(length)
        self._reserve(max(len(self.lengths), self._least), length + 1)
        for slots, layer in zip(self._cache.layers, cache.layers, strict=True):
            slots.keys[len(self.lengths) - 1, :, :length] = layer.keys[0]
            slots.values[len(self.lengths) - 1, :, :length] = layer.values[0]

    def leave(self, row: int) -> None:
        """Take a row out; the last one takes its place."""
        last = len(self.lengths) - 1
        for layer in self._cache.layers:
            layer.keys[row], layer.values[row] = layer.keys[last], layer.values[last]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Every row's token in, the scores of the next ones out: (B, V)."""
        spare = max(0, self._least - len(tokens))
        places = [*self.lengths, *[0] * spare]
        self._reserve(len(places), max(places) + 1)
        width = -(-(max(places) + 1) // WIDTH) * WIDTH
        device = self._model.device
        places_B = torch.tensor(places, device=device)
        for layer in self._cache.layers:
            layer.rows_B, layer.places_B, layer.width = torch.arange(len(places), device=device), places_B, width
        output = self._model(
            input_ids=torch.tensor([*tokens, *[0] * spare], device=device)[:, None],
            position_ids=places_B[:, None],
            attention_mask=self._mask(places_B, width),
            past_key_values=self._cache,
            use_cache=True,
        )
        self.lengths = [length + 1 for length in self.lengths]
        return output.logits[: len(tokens), -1]  # type: ignore[no-any-return]

    def _mask(self, places_B: Tensor, width: int) -> Tensor:
        seen_B11W = (torch.arange(width, device=places_B.device)[None] <= places_B[:, None])[:, None, None]
        if self._model.config._attn_implementation == "sdpa":
            return seen_B11W
        dtype = self._model.dtype
        return torch.zeros(seen_B11W.shape, dtype=dtype, device=places_B.device).masked_fill(
            ~seen_B11W, torch.finfo(dtype).min
        )

    def _reserve(self, slots: int, width: int) -> None:
        if slots <= self._slots and width <= self._width:
            return
        self._slots = max(self._slots, slots)
        self._width = max(self._width, -(-width // GROWTH) * GROWTH)
        for layer in self._cache.layers:
            layer.reserve(self._slots, self._width)


class Apart:
    """The same for models that keep more than keys and values of the past: each row takes its step by itself."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._caches: list[Any] = []
        self.lengths: list[int] = []

    def join(self, cache: Any, length: int) -> None:
        self._caches.append(cache)
        self.lengths.append(length)

    def leave(self, row: int) -> None:
        for kept in (self._caches, self.lengths):
            kept[row] = kept[-1]
            kept.pop()

    def step(self, tokens: Sequence[int]) -> Tensor:
        device, scores = self._model.device, []
        for row, token in enumerate(tokens):
            ids_11 = torch.tensor([[token]], device=device)
            output = self._model(input_ids=ids_11, past_key_values=self._caches[row], use_cache=True)
            scores.append(output.logits[0, -1])
            self.lengths[row] += 1
        return torch.stack(scores)


@torch.inference_mode()
def takes_ragged(model: Any) -> bool:
    """Whether :class:`Ragged` gives what the model's own cache gives. It is tried, because not every architecture
    keeps the past in keys and values alone, or takes positions and masks from outside."""
    ids_1T = torch.arange(1, 8, device=model.device)[None] % model.config.vocab_size
    read = model(input_ids=ids_1T[:, :-1], use_cache=True)
    if not all(type(layer) is DynamicLayer for layer in getattr(read.past_key_values, "layers", [None])):
        return False
    batch = Ragged(model, 2)
    batch.join(read.past_key_values, ids_1T.shape[1] - 1)
    try:
        ours_V = batch.step([int(ids_1T[0, -1])])[0].float()
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        return False
    theirs_V = model(input_ids=ids_1T[:, -1:], past_key_values=read.past_key_values, use_cache=True).logits[0, -1]
    return bool((ours_V - theirs_V.float()).abs().max() < 0.05 * theirs_V.float().std())


@torch.inference_mode()
def least_rows(model: nn.Module, most: int) -> int:
    """The fewest rows from which on each of the model's matrix products gives a row the same bits, up to ``most``.

    A product with one row is often another algorithm than one with eight, and adds up in another order.
    """
    layers = {
        (type(layer), layer.in_features, layer.out_features, layer.weight.dtype): layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear)
    }
    return max((_least(layer, most) for layer in layers.values()), default=1)


def _least(layer: nn.Linear, most: int) -> int:
    generator = torch.Generator().manual_seed(0)
    rows_S1I = torch.randn(most, 1, layer.in_features, generator=generator)
    dtype = layer.weight.dtype if layer.weight.dtype.is_floating_point else torch.float32
    rows_S1I = rows_S1I.to(layer.weight.device, dtype)
    whole = layer(rows_S1I)
    least = most
    while least > 1 and torch.equal(layer(rows_S1I[: least - 1]), whole[: least - 1]):
        least -= 1
    return least

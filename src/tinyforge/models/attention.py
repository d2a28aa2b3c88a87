"""Causal attention over rows of their own lengths, for training on a CPU.

Written as few large matrix products: torch's fused kernel for CPUs spends most of a short row's time packing, and most
of its backward pass in products too small for the machine's matrix units. Query heads that share a key head are stacked
into one product, a row is worked through in blocks that never look behind themselves, and the probabilities are formed
again in the backward pass instead of being kept (Dao et al. 2022, without its tiling inside the cache).

Legend: N tokens of all rows together, R rows, T tokens of a row, H query heads, K key heads, G = H / K, Z = R * K,
D width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tinyforge.adapters import virtual_tokens

NAME = "tinyforge"
WHOLE = 192  # tokens; a shorter row is one block
BLOCK = 128
SPREAD = 1.25  # rows are worked on together when the longest is at most this many times the shortest


@dataclass(frozen=True)
class Together:
    """R rows of similar lengths inside a packed batch.

    ``places_RT`` says which of the N tokens stands where; what lies behind a row's end repeats its last token.
    ``real_RT`` is false there.
    """

    places_RT: Tensor
    real_RT: Tensor


@dataclass(frozen=True)
class Packed:
    """Rows laid end to end in one: their lengths and, for attention, which go together."""

    lengths: tuple[int, ...]
    groups: tuple[Together, ...]

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Packed:
        starts = torch.tensor([0, *lengths], device=device).cumsum(0)[:-1]
        groups = []
        for members in _similar(lengths):
            sizes_R = torch.tensor([lengths[i] for i in members], device=device)
            offsets_T = torch.arange(int(sizes_R.max()), device=device)
            places_RT = starts[members][:, None] + torch.minimum(offsets_T[None], sizes_R[:, None] - 1)
            groups.append(Together(places_RT, offsets_T[None] < sizes_R[:, None]))
        return cls(tuple(lengths), tuple(groups))

    def arguments(self) -> dict[str, Any]:
        """What a model is called with besides the ids: positions that begin again with each row, and this.

        A mask of four dimensions is handed on as it is; without one transformers would see the positions and write
        out who sees whom among all N tokens. Any other attention gives no numbers with this one, rather than wrong
        ones.
        """
        device = self.groups[0].places_RT.device
        positions_1N = torch.cat([torch.arange(length, device=device) for length in self.lengths])[None]
        return {
            "position_ids": positions_1N,
            "attention_mask": torch.full((1, 1, 1, 1), math.nan, device=device),
            "packed": self,
        }


def _similar(lengths: Sequence[int]) -> list[list[int]]:
    """The rows by length, cut where the longest would outgrow the shortest by more than SPREAD."""
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if found and lengths[row] <= SPREAD * lengths[found[-1][0]]:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def _blocks(tokens: int) -> list[tuple[int, int]]:
    size = tokens if tokens <= WHOLE else BLOCK
    return [(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _probabilities(query_ZGTD: Tensor, key_ZTD: Tensor, start: int, end: int, window: int) -> tuple[Tensor, int]:
    """What the queries of a block give to each key up to its end: (Z, G * block, keys); and the first of those keys."""
    Z, G, _, D = query_ZGTD.shape
    size, first = end - start, max(0, start - window + 1)
    scores = torch.bmm(query_ZGTD[:, :, start:end].reshape(Z, G * size, D), key_ZTD[:, first:end].transpose(1, 2))
    by_head = scores.view(Z, G, size, end - first)
    hidden = torch.full((size, size), float("-inf"), dtype=scores.dtype, device=scores.device).triu_(1)
    by_head[..., start - first :] += hidden
    if end > window:
        behind = torch.full((size, end - first), float("-inf"), dtype=scores.dtype, device=scores.device)
        by_head += behind.tril_(start - first - window)
    return torch.softmax(scores, -1), first


def _forward(query_ZGTD: Tensor, key_ZTD: Tensor, value_ZTD: Tensor, window: int) -> Tensor:
    Z, G, T, _ = query_ZGTD.shape
    mixed_ZGTD = query_ZGTD.new_empty(Z, G, T, value_ZTD.shape[-1])
    for start, end in _blocks(T):
        shares, first = _probabilities(query_ZGTD, key_ZTD, start, end, window)
        mixed_ZGTD[:, :, start:end] = torch.bmm(shares, value_ZTD[:, first:end]).view(Z, G, end - start, -1)
    return mixed_ZGTD


def _backward(
    query_ZGTD: Tensor, key_ZTD: Tensor, value_ZTD: Tensor, upstream_ZGTD: Tensor, window: int
) -> tuple[Tensor, Tensor, Tensor]:
    Z, G, T, D = query_ZGTD.shape
    grad_query = torch.empty_like(query_ZGTD)
    blocks = _blocks(T)
    # One block needs no sum; several are summed in float32 at least.
    sums = torch.promote_types(key_ZTD.dtype, torch.float32) if len(blocks) > 1 else key_ZTD.dtype
    grad_key, grad_value = torch.zeros_like(key_ZTD, dtype=sums), torch.zeros_like(value_ZTD, dtype=sums)
    for start, end in blocks:
        rows = G * (end - start)
        shares, first = _probabilities(query_ZGTD, key_ZTD, start, end, window)
        upstream = upstream_ZGTD[:, :, start:end].reshape(Z, rows, -1)
        grad_shares = torch.bmm(upstream, value_ZTD[:, first:end].transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_shares, shares, -1, shares.dtype)
        grad_query[:, :, start:end] = torch.bmm(grad_scores, key_ZTD[:, first:end]).view(Z, G, end - start, D)
        queries = query_ZGTD[:, :, start:end].reshape(Z, rows, D)
        grad_key[:, first:end] += torch.bmm(grad_scores.transpose(1, 2), queries)
        grad_value[:, first:end] += torch.bmm(shares.transpose(1, 2), upstream)
    return grad_query, grad_key.to(key_ZTD.dtype), grad_value.to(value_ZTD.dtype)


def _take(heads_NHD: Tensor, group: Together, keys: int) -> Tensor:
    """The rows of a group: (Z, G, T, D)."""
    R, T = group.places_RT.shape
    taken = heads_NHD[group.places_RT.reshape(-1)]
    D = taken.shape[-1]
    return taken.view(R, T, keys, -1, D).permute(0, 2, 3, 1, 4).reshape(R * keys, -1, T, D)


def _put(into_NHD: Tensor, group: Together, rows_ZGTD: Tensor, keys: int) -> None:
    """The inverse of :func:`_take`; what stands behind the end of a row is dropped."""
    R, T = group.places_RT.shape
    _, G, _, D = rows_ZGTD.shape
    flat = rows_ZGTD.view(R, keys, G, T, D).permute(0, 3, 1, 2, 4).reshape(R * T, keys * G, D)
    real = group.real_RT.reshape(-1)
    into_NHD[group.places_RT.reshape(-1)[real]] = flat[real]


class _PackedAttention(torch.autograd.Function):
    """Attention inside each row of a packed batch; (N, H, D), (N, K, D) and (N, K, D) to (N, H, D)."""

    @staticmethod
    def forward(
        ctx: Any, query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, packed: Packed, scale: float, window: int
    ) -> Tensor:
        ctx.save_for_backward(query_NHD, key_NKD, value_NKD)
        ctx.packed, ctx.scale, ctx.window = packed, scale, window
        keys = key_NKD.shape[1]
        mixed_NHD = torch.empty_like(query_NHD, memory_format=torch.contiguous_format)
        for group in packed.groups:
            query, key, value = (_take(part, group, keys) for part in (query_NHD, key_NKD, value_NKD))
            _put(mixed_NHD, group, _forward(query.mul_(scale), key[:, 0], value[:, 0], window), keys)
        return mixed_NHD

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        parts = ctx.saved_tensors
        keys = parts[1].shape[1]
        grads = [torch.empty_like(part, memory_format=torch.contiguous_format) for part in parts]
        for group in ctx.packed.groups:
            query, key, value = (_take(part, group, keys) for part in parts)
            above = _take(upstream[0], group, keys)
            above.mul_(group.real_RT.repeat_interleave(keys, 0)[:, None, :, None])
            found = _backward(query.mul_(ctx.scale), key[:, 0], value[:, 0], above, ctx.window)
            _put(grads[0], group, found[0].mul_(ctx.scale), keys)
            for into, grad in zip(grads[1:], found[1:], strict=True):
                _put(into, group, grad[:, None], keys)
        return (*grads, None, None, None)  # type: ignore[return-value]


def attend(
    query_NHD: Tensor, key_NKD: Tensor, value_NKD: Tensor, packed: Packed, scale: float, window: int | None = None
) -> Tensor:
    """Causal softmax attention of each row with itself, (N, H, D); heads of queries are a multiple of those of keys.

    With a ``window`` a token sees only so many last ones, itself among them.
    """
    mixed: Tensor = _PackedAttention.apply(  # type: ignore[no-untyped-call]
        query_NHD, key_NKD, value_NKD, packed, scale, window or max(packed.lengths)
    )
    return mixed


@lru_cache(maxsize=8)
def _alike(rows: int, tokens: int) -> Packed:
    return Packed.of([tokens] * rows)


def _interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """The same as transformers' own function, which also does whatever this one cannot: masks, caches, dropout."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    packed: Packed | None = rest.pop("packed", None)
    square = query.shape[2] == key.shape[2] > 1
    other = rest.get("dropout") or rest.get("softcap") or rest.get("s_aux") is not None
    causal = rest.get("is_causal") is not False and getattr(module, "is_causal", True)
    able = square and causal and not other and query.device.type == "cpu"
    if packed is not None and not able:
        raise RuntimeError("packed rows would see each other")
    if not able or (packed is None and attention_mask is not None):
        mixed: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return mixed
    B, H, T, D = query.shape
    packed = packed or _alike(B, T)
    scale = rest.get("scaling") or D**-0.5
    flat = [part.transpose(1, 2).reshape(B * T, part.shape[1], part.shape[3]) for part in (query, key, value)]
    return attend(flat[0], flat[1], flat[2], packed, scale, rest.get("sliding_window")).view(B, T, H, -1), None


def _mask(*positional: Any, **rest: Any) -> Tensor | None:
    """No mask where rows are causal all through; transformers' own where some part of the past is hidden."""
    from transformers.masking_utils import sdpa_mask

    lengths = rest.get("q_length"), rest.get("kv_length")
    window = rest.get("local_size")
    hidden = rest.get("attention_mask") is not None or (window is not None and window < (lengths[1] or 0))
    if lengths[0] == lengths[1] and not hidden and rest.get("allow_is_causal_skip", True):
        return None
    mask: Tensor | None = sdpa_mask(*positional, **rest)
    return mask


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _interface)
    AttentionMaskInterface.register(NAME, _mask)


@contextmanager
def own_attention(model: Any) -> Iterator[bool]:
    """A decoder with this attention while the context is open; gives whether its rows may be laid end to end.

    Nothing is assumed of the architecture: two short rows, packed and alone, must give the hidden states that the
    model's own attention gives. A model that fails, or whose attention cannot be exchanged, is left as it is.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    config: Any = getattr(inner, "config", None)
    chunked = getattr(config, "attention_chunk_size", None)  # Llama 4's, which is not a window
    if not hasattr(inner, "get_decoder") or config.is_encoder_decoder or chunked or virtual_tokens(model):
        yield False
        return
    _register()
    before, training = inner.config._attn_implementation, model.training
    model.eval()
    same = _check(inner)
    model.train(training)
    if not same:
        inner.set_attn_implementation(before)
    try:
        yield same
    finally:
        inner.set_attn_implementation(before)


@torch.no_grad()
def _check(inner: Any) -> bool:
    """Switches the attention; whether packed rows then come out as they did alone."""
    decoder, device = inner.get_decoder(), next(inner.parameters()).device
    first = min(3, inner.config.vocab_size - 8)
    rows = [torch.arange(first, first + 7, device=device), torch.arange(first + 1, first + 6, device=device)]
    wanted = torch.cat([decoder(input_ids=row[None], use_cache=False).last_hidden_state[0] for row in rows]).float()
    inner.set_attn_implementation(NAME)
    packed = Packed.of([len(row) for row in rows], device)
    ids_1N = torch.cat(rows)[None]
    try:
        found = decoder(input_ids=ids_1N, use_cache=False, **packed.arguments()).last_hidden_state[0]
        with torch.random.fork_rng(devices=[]):
            inner.train()  # dropout of attention, which this one does not do, shows only now
            decoder(input_ids=ids_1N, use_cache=False, **packed.arguments())
    except (TypeError, ValueError, RuntimeError):
        return False
    half = found.dtype in (torch.bfloat16, torch.float16)
    return float((found.float() - wanted).abs().mean()) < (0.03 if half else 1e-4) * float(wanted.std())

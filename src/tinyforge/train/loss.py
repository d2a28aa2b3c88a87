"""The loss path: logits only where there is a label, in chunks, with the gradient formed in the same pass.

Legend: N labelled positions, D hidden size, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tinyforge.adapters import virtual_tokens
from tinyforge.models.attention import Packed

IGNORED = -100
CHUNK_ELEMENTS = 1 << 23  # N x V logits held at once (32 MB in fp32); twice as many were slower and took 70 MB more


def chunks(positions: int, vocabulary: int) -> Iterator[slice]:
    """The N positions in slices of which each makes at most CHUNK_ELEMENTS logits (at least one position)."""
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    for start in range(0, positions, rows):
        yield slice(start, min(start + rows, positions))


class _LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ weight.T``, whose forward also computes the gradients.

    Keeping the gradients (N x D and V x D) instead of the logits (N x V) is what saves the memory; the backward only
    scales them. The gradient of the logits is softmax minus one-hot.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        for part in chunks(hidden_ND.shape[0], weight_VD.shape[0]):
            chunk, targets = hidden_ND[part], targets_N[part]
            logits = (chunk @ weight_VD.T).float()
            log_sum = torch.logsumexp(logits, dim=-1, keepdim=True)
            total += (log_sum.squeeze(-1) - logits.gather(1, targets[:, None]).squeeze(-1)).sum()
            if not (needs_hidden or needs_weight):
                continue
            grad_logits = logits.sub_(log_sum).exp_()
            grad_logits[torch.arange(len(targets), device=targets.device), targets] -= 1
            grad_logits_cast = grad_logits.to(weight_VD.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = grad_logits_cast @ weight_VD
            if grad_weight is not None:
                grad_weight += grad_logits_cast.T @ chunk
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        (upstream,) = gradients
        return (
            None if grad_hidden is None else grad_hidden * upstream.to(grad_hidden.dtype),
            None if grad_weight is None else grad_weight * upstream.to(grad_weight.dtype),
            None,
        )


def linear_cross_entropy(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy in nats, summed over the N positions, of logits ``hidden_ND @ weight_VD.T``."""
    if not torch.is_grad_enabled():  # a Function is not told, and would form the head's gradient in vain
        weight_VD = weight_VD.detach()
    result: Tensor = _LinearCrossEntropy.apply(hidden_ND, weight_VD, targets_N)  # type: ignore[no-untyped-call]
    return result


class _TokenLosses(torch.autograd.Function):
    """Cross-entropy at each position, for losses that are not a plain sum.

    How much each position counts is known only in the backward, so that one forms the logits again, chunk by chunk:
    one more product with the head instead of N x V kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        losses_N = torch.empty(len(targets_N), dtype=torch.float32, device=hidden_ND.device)
        log_sums_N = torch.empty_like(losses_N)
        for part in chunks(len(targets_N), weight_VD.shape[0]):
            logits = (hidden_ND[part] @ weight_VD.T).float()
            log_sums_N[part] = torch.logsumexp(logits, dim=-1)
            losses_N[part] = log_sums_N[part] - logits.gather(1, targets_N[part, None]).squeeze(-1)
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, log_sums_N)
        return losses_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden_ND, weight_VD, targets_N, log_sums_N = ctx.saved_tensors
        (upstream_N,) = gradients
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        for part in chunks(len(targets_N), weight_VD.shape[0]):
            targets = targets_N[part]
            grad_logits = (hidden_ND[part] @ weight_VD.T).float().sub_(log_sums_N[part, None]).exp_()
            grad_logits[torch.arange(len(targets), device=targets.device), targets] -= 1
            cast = grad_logits.mul_(upstream_N[part, None]).to(weight_VD.dtype)
            if grad_hidden is not None:
                grad_hidden[part] = cast @ weight_VD
            if grad_weight is not None:
                grad_weight += cast.T @ hidden_ND[part]
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype), None


def token_losses(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy in nats at each of the N positions, of logits ``hidden_ND @ weight_VD.T``; float32."""
    result: Tensor = _TokenLosses.apply(hidden_ND, weight_VD, targets_N)  # type: ignore[no-untyped-call]
    return result


def _plain_head(model: Any) -> Tensor | None:
    """The output matrix, when the model's logits are nothing more than hidden states times it."""
    head = model.get_output_embeddings()
    config = model.config
    linear = type(head) is torch.nn.Linear
    altered = any(getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))
    if not linear or head.bias is not None or altered:
        return None
    weight: Tensor = head.weight
    return weight


def labelled_states(
    model: Any, ids_BT: Tensor, places: Tensor, packed: Packed | None = None
) -> tuple[Tensor, Tensor | None]:
    """What the logits at the N ``places`` (B x (T-1), true where the next token is learned) are made of.

    Hidden states (N x D) and the head's matrix (V x D); or the logits (N x V) and None, where a model does more than
    multiply the two: a bias, soft-capping, an adapter on the head or of virtual tokens.

    Rows are padded on the right, and no attention mask is passed: under causal attention no real token ever sees the
    padding behind it, so the fast causal kernel is exact. Packed rows are told apart by their positions and ``packed``.
    """
    apart = {} if packed is None else packed.arguments()
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    weight = None if virtual_tokens(model) else _plain_head(inner)
    if weight is None:
        logits_BTV = model(input_ids=ids_BT, use_cache=False, **apart).logits[:, -ids_BT.shape[1] :]
        return logits_BTV[:, :-1][places], None
    hidden_BTD = inner.get_decoder()(input_ids=ids_BT, use_cache=False, **apart).last_hidden_state
    return hidden_BTD[:, :-1][places], weight


def next_token_loss(model: Any, ids_BT: Tensor, labels_BT: Tensor, packed: Packed | None = None) -> tuple[Tensor, int]:
    """Summed next-token cross-entropy in nats over the labelled positions, and how many there are."""
    targets_BT = labels_BT[:, 1:]
    places = targets_BT != IGNORED
    states, weight = labelled_states(model, ids_BT, places, packed)
    if weight is None:
        total = torch.nn.functional.cross_entropy(states.float(), targets_BT[places], reduction="sum")
    else:
        total = linear_cross_entropy(states, weight, targets_BT[places])
    return total, int(places.sum())


def row_log_probs(model: Any, ids_BT: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """For each of the B rows the log-probability in nats of its labelled tokens, with gradient, and their number."""
    targets_BT = labels_BT[:, 1:]
    places = targets_BT != IGNORED
    states, weight = labelled_states(model, ids_BT, places)
    if weight is None:
        losses_N = torch.nn.functional.cross_entropy(states.float(), targets_BT[places], reduction="none")
    else:
        losses_N = token_losses(states, weight, targets_BT[places])
    losses_BT = torch.zeros(places.shape, device=losses_N.device).masked_scatter(places, losses_N)
    return -losses_BT.sum(dim=1), places.sum(dim=1)


@torch.no_grad()
def row_losses(model: Any, ids_BT: Tensor, labels_BT: Tensor) -> tuple[list[float], list[int]]:
    """Summed cross-entropy in nats and number of labelled positions, for each of the B rows."""
    losses, counts = [], []
    for ids_T, labels_T in zip(ids_BT, labels_BT, strict=True):
        width = int((labels_T != IGNORED).nonzero().max()) + 1
        total, count = next_token_loss(model, ids_T[None, :width], labels_T[None, :width])
        losses.append(float(total))
        counts.append(count)
    return losses, counts

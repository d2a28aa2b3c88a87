"""The loss path: logits only where there is a label, in chunks, with the gradient formed in the same pass.

Legend: N labelled positions, D hidden size, V vocabulary size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

IGNORED = -100
CHUNK_ELEMENTS = 1 << 24  # N x V logits held at once (64 MB in fp32)


class _LinearCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of ``hidden @ weight.T``, whose forward also computes the gradients.

    Keeping the gradients (N x D and V x D) instead of the logits (N x V) is what saves the memory; the backward only
    scales them. The gradient of the logits is softmax minus one-hot.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
        rows = max(1, CHUNK_ELEMENTS // weight_VD.shape[0])
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        for start in range(0, hidden_ND.shape[0], rows):
            chunk = hidden_ND[start : start + rows]
            targets = targets_N[start : start + rows]
            logits = (chunk @ weight_VD.T).float()
            log_sum = torch.logsumexp(logits, dim=-1, keepdim=True)
            total += (log_sum.squeeze(-1) - logits.gather(1, targets[:, None]).squeeze(-1)).sum()
            if not (needs_hidden or needs_weight):
                continue
            grad_logits = logits.sub_(log_sum).exp_()
            grad_logits[torch.arange(len(targets), device=targets.device), targets] -= 1
            grad_logits_cast = grad_logits.to(weight_VD.dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + rows] = grad_logits_cast @ weight_VD
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
    result: Tensor = _LinearCrossEntropy.apply(hidden_ND, weight_VD, targets_N)  # type: ignore[no-untyped-call]
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


def next_token_loss(model: Any, ids_BT: Tensor, labels_BT: Tensor) -> tuple[Tensor, int]:
    """Summed next-token cross-entropy in nats over the labelled positions, and how many there are.

    Rows are padded on the right, and no attention mask is passed: under causal attention no real token ever sees the
    padding behind it, so the fast causal kernel is exact.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    targets_BT = labels_BT[:, 1:]
    places = targets_BT != IGNORED
    count = int(places.sum())
    weight = _plain_head(inner)
    if weight is None:
        logits = model(input_ids=ids_BT, use_cache=False).logits[:, :-1][places].float()
        return torch.nn.functional.cross_entropy(logits, targets_BT[places], reduction="sum"), count
    hidden_BTD = inner.get_decoder()(input_ids=ids_BT, use_cache=False).last_hidden_state
    return linear_cross_entropy(hidden_BTD[:, :-1][places], weight, targets_BT[places]), count


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

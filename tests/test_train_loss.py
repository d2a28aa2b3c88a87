"""The losses over a vocabulary: torch's values and gradients, without keeping a tensor of its size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from objectives import compare_gradients, dpo, load, pairs
from tinyforge.train.divergence import Outputs, distillation_loss
from tinyforge.train.loss import linear_cross_entropy, row_log_probs, row_losses, token_losses


def test_token_losses_equal_torch_with_a_gradient_for_each_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyforge.train.loss.CHUNK_ELEMENTS", 64)  # several chunks, the last one short
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(11, 5), torch.randn(17, 5), torch.randint(0, 17, (11,))
    upstream = torch.randn(11)
    compare_gradients(
        lambda h, w: (token_losses(h, w, targets) * upstream).sum(),
        lambda h, w: (cross_entropy(h @ w.T, targets, reduction="none") * upstream).sum(),
        hidden,
        weight,
    )


def test_no_vocabulary_sized_tensor_is_kept() -> None:
    """What autograd holds for the backward is smaller than the logits; the plain way, the control, is not."""

    def kept(loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss(torch.randn(200, 4, requires_grad=True), torch.randn(300, 4, requires_grad=True)).sum()
        return max(sizes)

    targets, teacher = torch.zeros(200, dtype=torch.long), Outputs(torch.randn(200, 4), torch.randn(300, 4))
    assert kept(lambda h, w: token_losses(h, w, targets)) < 2000
    assert kept(lambda h, w: distillation_loss(Outputs(h, w), teacher, targets, 2.0, 0.5)[0]) < 2000
    assert kept(lambda h, w: cross_entropy(h @ w.T, targets)) == 200 * 300


def test_measuring_does_not_form_the_head_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, ...]] = []
    forward = torch.zeros_like
    monkeypatch.setattr(torch, "zeros_like", lambda *a, **k: seen.append(tuple(a[0].shape)) or forward(*a, **k))
    hidden, weight = torch.randn(4, 3), torch.randn(9, 3, requires_grad=True)
    with torch.no_grad():
        linear_cross_entropy(hidden, weight, torch.zeros(4, dtype=torch.long))
    assert (9, 3) not in seen
    linear_cross_entropy(hidden, weight, torch.zeros(4, dtype=torch.long))
    assert (9, 3) in seen, "the control: with gradient it is formed"


def test_row_log_probs_are_the_row_losses(base: Path, tokenizer: Any) -> None:
    objective = dpo()
    batch = objective.collate([objective.encode(pair, tokenizer) for pair in pairs(3)])
    model = load(base)
    log_probs, counts = row_log_probs(model, batch.ids_BT, batch.labels_BT)
    losses, numbers = row_losses(model, batch.ids_BT, batch.labels_BT)
    assert (-log_probs).tolist() == pytest.approx(losses, abs=1e-4) and counts.tolist() == numbers

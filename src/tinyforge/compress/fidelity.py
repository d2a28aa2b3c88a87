"""How far a model's answers have moved from those of the model it was made of.

Legend: N labelled positions, V vocabulary size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinyforge.records import Tokens
from tinyforge.train.loss import IGNORED

PROMPT, WRITTEN, ROUNDS = 48, 32, 6


@dataclass(frozen=True)
class Fidelity:
    """Over ``positions`` answer tokens: KL(source || result) in nats, the share of equal first choices, the result's
    own loss in nats per token."""

    mean_kl: float
    max_kl: float
    agreement: float
    loss: float
    positions: int


@torch.inference_mode()
def answer_logs(model: Any, rows: Sequence[Tokens]) -> Tensor:
    """Log probabilities at every labelled position of the rows, (N, V) float32."""
    model.eval()
    found = []
    for row in rows:
        logits_TV = model(input_ids=torch.tensor([row.ids], device=model.device), use_cache=False).logits[0, :-1]
        places = torch.tensor(row.labels[1:]) != IGNORED
        found.append(logits_TV[places.to(logits_TV.device)].float().log_softmax(-1))
    return torch.cat(found)


def fidelity(source_NV: Tensor, result_NV: Tensor, rows: Sequence[Tokens]) -> Fidelity:
    """What :func:`answer_logs` gave for both models on the same rows, compared."""
    kl_N = (source_NV.exp() * (source_NV - result_NV)).sum(-1).clamp(min=0)
    targets = torch.tensor([label for row in rows for label in row.labels[1:] if label != IGNORED])
    loss = -result_NV.gather(1, targets.to(result_NV.device)[:, None]).mean()
    same = (source_NV.argmax(-1) == result_NV.argmax(-1)).float().mean()
    return Fidelity(float(kl_N.mean()), float(kl_N.max()), float(same), float(loss), len(kl_N))


@torch.inference_mode()
def decode_rate(model: Any) -> float:
    """Tokens per second when one sequence is written with a cache, without the reading of its prompt.

    The sum of each step's best time over a few rounds: another program that takes the machine for an instant spoils
    one step of one round, not the figure.
    """
    model.eval()
    generator = torch.Generator().manual_seed(0)
    prompt_1T = torch.randint(5, model.config.vocab_size, (1, PROMPT), generator=generator).to(model.device)
    best = [float("inf")] * WRITTEN
    for _ in range(ROUNDS):
        output = model(input_ids=prompt_1T, use_cache=True, logits_to_keep=1)
        for step in range(WRITTEN):
            began = time.perf_counter()
            ids = output.logits[:, -1:].argmax(-1)
            output = model(input_ids=ids, past_key_values=output.past_key_values, use_cache=True)
            best[step] = min(best[step], time.perf_counter() - began)
    return WRITTEN / sum(best)

"""Learn to prefer the better of two answers: DPO, and IPO and KTO by ``train.preference_loss``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from tinyforge.config import TrainConfig
from tinyforge.dataset.render import render
from tinyforge.errors import InputError
from tinyforge.records import Example, Message, Tokens
from tinyforge.train.loss import IGNORED, row_log_probs
from tinyforge.train.objectives.base import Batch, pad_rows
from tinyforge.train.objectives.pretrain import Pretrain


def dpo_losses(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """-log sigmoid(beta (chosen - rejected)) of each pair's log-ratios (Rafailov et al. 2023, equation 7)."""
    return -logsigmoid(beta * (chosen_B - rejected_B))


def ipo_losses(chosen_B: Tensor, rejected_B: Tensor, beta: float) -> Tensor:
    """(chosen - rejected - 1 / (2 beta))^2 (Azar et al. 2023, equation 17, whose tau is beta).

    The log-ratios are means per token of the answer, as in TRL, whose authors confirmed it with the paper's: sums
    would make the squared loss grow with the length of the answers.
    """
    return (chosen_B - rejected_B - 1 / (2 * beta)) ** 2


def kto_losses(chosen_B: Tensor, rejected_B: Tensor, divergence: Tensor, beta: float) -> Tensor:
    """1 - sigmoid(beta (chosen - z)) and 1 - sigmoid(beta (z - rejected)) (Ethayarajh et al. 2024).

    z is ``divergence``; desirable and undesirable answers weigh the same, and each pair's loss is the mean of its two.
    """
    return 1 - (torch.sigmoid(beta * (chosen_B - divergence)) + torch.sigmoid(beta * (divergence - rejected_B))) / 2


@contextmanager
def _frozen(model: Any) -> Iterator[None]:
    """Without gradient and without dropout; the model's mode comes back afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _mismatched(batch: Batch, padding: int) -> Batch:
    """Each prompt with the answer of the pair before it (the first with the last one's), chosen and rejected apart."""
    prompts, answers = [], []
    for ids, labels in zip(batch.ids_BT.tolist(), batch.labels_BT.tolist(), strict=True):
        places = [place for place, label in enumerate(labels) if label != IGNORED]
        prompts.append(ids[: places[0]])
        answers.append(ids[places[0] : places[-1] + 1])
    pairs = len(prompts) // 2
    others = [pairs - 1, *range(pairs - 1), 2 * pairs - 1, *range(pairs, 2 * pairs - 1)]
    rows = [
        Tokens(prompt + answers[other], [IGNORED] * len(prompt) + answers[other])
        for prompt, other in zip(prompts, others, strict=True)
    ]
    made = pad_rows(rows, padding)
    return Batch(made.ids_BT.to(batch.ids_BT.device), made.labels_BT.to(batch.ids_BT.device))


class PreferenceOptimization(Pretrain):
    """A batch of B pairs is 2B rows, the better answers first. The loss is a sum over the pairs, the weight is B.

    A log-ratio is the log-probability of an answer under the model less that under the reference: the same weights
    with adapters off, or, when every weight is trained, a copy made at the start. Metrics are sums over the pairs;
    a reward is beta times a log-ratio, in nats.

    KTO's estimate z of the divergence from the reference is the mean log-ratio of mismatched answers in the
    micro-batch, at least zero and without gradient, as in TRL. So its loss depends on which pairs share a
    micro-batch, and accumulating differently changes it a little. One pair alone has no mismatched answer; z is 0.
    """

    def __init__(self, padding: int, config: TrainConfig | None = None) -> None:
        super().__init__(padding, config)
        self._copy: Any = None
        self.compares_rows = self.config.preference_loss == "kto"

    def encode(self, example: Example, tokenizer: Any) -> Tokens:
        """The better conversation, then the worse. Raises InputError when the example is not a pair."""
        place = f"example {example.id}"
        if not example.messages or example.messages[-1].role != "assistant":
            raise InputError(f"{place}: does not end with the better answer.", "Add an assistant message at its end.")
        if not example.rejected.strip() or example.rejected == example.answer:
            what = "the same as the better" if example.rejected.strip() else "missing"
            raise InputError(f"{place}: its rejected answer is {what}.", "Give each pair two different answers.")
        chosen = render(example.messages, tokenizer, last=True)
        rejected = render((*example.messages[:-1], Message("assistant", example.rejected)), tokenizer, last=True)
        if not (chosen.targets and rejected.targets):
            raise InputError(f"{place}: an answer has no token to learn.", "Give both answers some text.")
        return Tokens(chosen.ids + rejected.ids, chosen.labels + rejected.labels, len(chosen.ids))

    def collate(self, rows: Sequence[Tokens]) -> Batch:
        chosen = [Tokens(row.ids[: row.border], row.labels[: row.border]) for row in rows]
        rejected = [Tokens(row.ids[row.border :], row.labels[row.border :]) for row in rows]
        return pad_rows(chosen + rejected, self.padding)

    def prepare(self, model: Any) -> None:
        """Without adapters, the reference is a copy of the model as it is now."""
        if not hasattr(model, "disable_adapter"):
            self._copy = copy.deepcopy(model).requires_grad_(False)

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, int, dict[str, float]]:
        ratios, counts = self._log_ratios(model, batch)
        chosen, rejected = ratios.chunk(2)
        beta = self.config.preference_beta
        if self.config.preference_loss == "dpo":
            losses = dpo_losses(chosen, rejected, beta)
        elif self.config.preference_loss == "ipo":
            chosen_mean, rejected_mean = (ratios / counts).chunk(2)
            losses = ipo_losses(chosen_mean, rejected_mean, beta)
        else:
            losses = kto_losses(chosen, rejected, self._divergence(model, batch), beta)
        return losses.sum(), len(losses), _rewards(beta * chosen.detach(), beta * rejected.detach())

    def _log_ratios(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        expected = self._reference_log_probs(model, batch)
        log_probs, counts = row_log_probs(model, batch.ids_BT, batch.labels_BT)
        return log_probs - expected, counts

    def _reference_log_probs(self, model: Any, batch: Batch) -> Tensor:
        if hasattr(model, "disable_adapter"):
            with _frozen(model), model.disable_adapter():
                return row_log_probs(model, batch.ids_BT, batch.labels_BT)[0]
        if self._copy is None:
            raise RuntimeError("prepare(model) has to be called before the first loss")
        with _frozen(self._copy):
            return row_log_probs(self._copy, batch.ids_BT, batch.labels_BT)[0]

    def _divergence(self, model: Any, batch: Batch) -> Tensor:
        if len(batch.ids_BT) == 2:
            return torch.zeros((), device=batch.ids_BT.device)
        with _frozen(model):
            return self._log_ratios(model, _mismatched(batch, self.padding))[0].mean().clamp(min=0)


def _rewards(chosen: Tensor, rejected: Tensor) -> dict[str, float]:
    return {
        "margin": float((chosen - rejected).sum()),
        "accuracy": float((chosen > rejected).sum()),
        "chosen_reward": float(chosen.sum()),
        "rejected_reward": float(rejected.sum()),
    }

"""Learning from a teacher's distribution, in chunks, with the student's gradient formed in the same pass.

Legend: N labelled positions, D hidden size, V vocabulary size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tinyforge.errors import InputError
from tinyforge.train.loss import chunks


class Outputs(NamedTuple):
    """What a model's logits at the N positions are made of; ``weight_VD`` is None where ``states`` are the logits."""

    states: Tensor
    weight_VD: Tensor | None

    @property
    def vocabulary(self) -> int:
        return self.states.shape[1] if self.weight_VD is None else self.weight_VD.shape[0]

    def logits(self, part: slice) -> Tensor:
        states = self.states[part]
        return (states if self.weight_VD is None else states @ self.weight_VD.T).float()


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """KL(teacher || student) in nats, summed over the rows, and softmax(student) - softmax(teacher), as wide as the
    student's logits.

    Heads of one family are padded to different widths; what only one of them has is no token, and is left out.
    """
    width = min(student.shape[1], teacher.shape[1])
    student_log = torch.log_softmax(student[:, :width] / temperature, dim=-1)
    teacher_log = torch.log_softmax(teacher[:, :width] / temperature, dim=-1)
    probability = teacher_log.exp()
    total = (probability * (teacher_log - student_log)).sum()
    difference = student_log.exp_().sub_(probability)
    return total, torch.nn.functional.pad(difference, (0, student.shape[1] - width))


def _cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy in nats, summed over the rows, and its gradient in the logits."""
    logs = torch.log_softmax(logits, dim=-1)
    places = torch.arange(len(targets), device=targets.device)
    total = -logs[places, targets].sum()
    gradient = logs.exp_()
    gradient[places, targets] -= 1
    return total, gradient


class _Distillation(torch.autograd.Function):
    """The mixed loss, whose forward also computes the student's gradients; the backward only scales them.

    With student probabilities s and teacher probabilities t at temperature T, the gradient of T^2 KL(t || s) in the
    student's logits is T (s - t), because the logits enter divided by T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight_VD: Tensor | None,
        targets_N: Tensor,
        teacher: Outputs,
        temperature: float,
        share: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        student = Outputs(states, weight_VD)
        needs_states, needs_weight = ctx.needs_input_grad[:2]
        grad_states = torch.empty_like(states) if needs_states else None
        grad_weight = (
            torch.zeros_like(weight_VD, dtype=torch.float32) if needs_weight and weight_VD is not None else None
        )
        divergence = torch.zeros((), dtype=torch.float32, device=states.device)
        entropy = torch.zeros_like(divergence)
        for part in chunks(len(targets_N), student.vocabulary):
            logits = student.logits(part)
            more, difference = _divergence(logits, teacher.logits(part), temperature)
            divergence += more
            more, gradient = _cross_entropy(logits, targets_N[part])
            entropy += more
            gradient.mul_(1 - share).add_(difference, alpha=share * temperature)
            cast = gradient.to(states.dtype)
            if grad_states is not None:
                grad_states[part] = cast if weight_VD is None else cast @ weight_VD
            if grad_weight is not None:
                grad_weight += cast.T @ states[part]
        ctx.save_for_backward(grad_states, None if grad_weight is None else grad_weight.to(states.dtype))
        ctx.mark_non_differentiable(divergence, entropy)
        return share * temperature**2 * divergence + (1 - share) * entropy, divergence, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        grad_states, grad_weight = ctx.saved_tensors
        upstream = gradients[0]
        return (
            None if grad_states is None else grad_states * upstream.to(grad_states.dtype),
            None if grad_weight is None else grad_weight * upstream.to(grad_weight.dtype),
            *(None,) * 4,
        )


def distillation_loss(
    student: Outputs, teacher: Outputs, targets_N: Tensor, temperature: float, share: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``share * T^2 * KL + (1 - share) * CE`` over the N positions, and the sums KL and CE alone, without gradient.

    KL is that of the student's from the teacher's distribution, KL(teacher || student), both at temperature T; the
    factor T^2 keeps its gradient as large as that of the cross-entropy at any temperature (Hinton et al. 2015).
    All are sums in nats. Only one chunk of both models' logits exists at a time.
    """
    weight_VD = student.weight_VD
    if weight_VD is not None and not torch.is_grad_enabled():
        weight_VD = weight_VD.detach()  # a Function is not told, and would form the head's gradient in vain
    result: tuple[Tensor, Tensor, Tensor] = _Distillation.apply(  # type: ignore[no-untyped-call]
        student.states, weight_VD, targets_N, teacher, temperature, share
    )
    return result


def hidden_distance(student: Outputs, teacher: Outputs) -> Tensor:
    """The sum over the N positions of 1 - cos(student's, teacher's last hidden state), as in DistilBERT (Sanh et al.
    2019, arXiv:1910.01108). Raises InputError where one has no such states, or they are not equally wide.
    """
    if student.weight_VD is None or teacher.weight_VD is None or student.states.shape != teacher.states.shape:
        raise InputError(
            "train.distill_hidden: student and teacher have no hidden states of the same width.",
            "Set it to 0, or make the student of the teacher's own layers: --student layers:N",
        )
    cosine_N = torch.nn.functional.cosine_similarity(student.states.float(), teacher.states.float(), dim=-1)
    return (1 - cosine_N).sum()

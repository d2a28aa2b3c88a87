"""Learn what a teacher would say at each of the answer's tokens, mixed with the answer itself."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from tinyforge.errors import InputError
from tinyforge.models.attention import own_attention
from tinyforge.train.divergence import Outputs, distillation_loss, hidden_distance
from tinyforge.train.loss import IGNORED, labelled_states
from tinyforge.train.objectives.base import Batch
from tinyforge.train.objectives.sft import SupervisedFineTuning

FIX = (
    "Use a teacher of the same family, or learn what it writes: `tinyforge serve` it and name its address, "
    "train.teacher=URL#model."
)


class Distillation(SupervisedFineTuning):
    """Token-level distillation (Hinton et al. 2015): the teacher's distributions are compared to the student's.

    ``teacher`` is a causal language model with the student's tokenizer (see :func:`check_same_tokenizer`), on the
    student's device; whoever makes the objective sets it. It stays as it is: evaluation mode, no gradient.
    The metrics are ``divergence``, KL(teacher || student) at the temperature, and ``cross_entropy``, both in nats, and
    with ``train.distill_hidden`` ``hidden_distance``, one minus the cosine of the last hidden states.
    """

    teacher: Any = None
    _reading: ExitStack | None = None

    def prepare(self, model: Any) -> None:
        """Raises InputError when there is no teacher."""
        if self.teacher is None:
            raise InputError("distill: there is no teacher to learn from.", "Name one: --set train.teacher=FOLDER")
        self.teacher.requires_grad_(False)
        if self.packing:  # the teacher has to tell the rows apart as well; where it cannot, they are padded for both
            self._reading = ExitStack()
            self.packing = self._reading.enter_context(own_attention(self.teacher))

    def loss(self, model: Any, batch: Batch) -> tuple[Tensor, int, dict[str, float]]:
        targets_BT = batch.labels_BT[:, 1:]
        places = targets_BT != IGNORED
        with torch.no_grad():
            teacher = Outputs(*labelled_states(self.teacher.eval(), batch.ids_BT, places, batch.packed))
        student = Outputs(*labelled_states(model, batch.ids_BT, places, batch.packed))
        total, divergence, entropy = distillation_loss(
            student, teacher, targets_BT[places], self.config.distill_temperature, self.config.distill_share
        )
        metrics = {"divergence": float(divergence), "cross_entropy": float(entropy)}
        if self.config.distill_hidden:
            distance = hidden_distance(student, teacher)
            total = total + self.config.distill_hidden * distance
            metrics["hidden_distance"] = float(distance.detach())
        return total, int(places.sum()), metrics


def _by_id(tokenizer: Any) -> dict[int, str]:
    return {number: token for token, number in tokenizer.get_vocab().items()}


def check_same_tokenizer(student: Any, teacher: Any) -> None:
    """Raises InputError, naming the first difference, unless every id stands for the same token in both tokenizers.

    Which token ends a text, or pads, may differ, as it does between a base and its chat model: the teacher is only
    ever shown the student's ids. For the same reason the rules that cut a text into tokens are not compared.
    """
    ours, theirs = _by_id(student), _by_id(teacher)
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            sizes = f"{len(ours):,} tokens against the teacher's {len(theirs):,}"
            special = " (a special token)" if number in {*student.all_special_ids, *teacher.all_special_ids} else ""
            raise InputError(
                f"the student's and the teacher's tokenizers differ: {sizes}, and id {number} is "
                f"{ours.get(number)!r} against {theirs.get(number)!r}{special}.",
                FIX,
            )

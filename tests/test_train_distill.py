"""What is learned from a teacher: by hand, against torch, and the controls that break it."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_embedding_loss, cross_entropy, kl_div, log_softmax

from little import TEXT
from objectives import GOOD, compare_gradients, digest, distill, load, pairs, settings, training
from tinyforge.errors import InputError
from tinyforge.models.attention import own_attention
from tinyforge.models.tokenizer import train_tokenizer
from tinyforge.records import Example, Message
from tinyforge.synthesize.answers import write_answers
from tinyforge.train.divergence import Outputs, distillation_loss, hidden_distance
from tinyforge.train.objectives.base import Batch
from tinyforge.train.objectives.distill import Distillation, check_same_tokenizer
from tinyforge.train.objectives.sft import SupervisedFineTuning


def test_distillation_by_hand() -> None:
    # One position, two tokens: the student says 1/2, 1/2; the teacher 3/4, 1/4; the answer is token 1.
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    entropy = math.log(2)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    total, kl, ce = distillation_loss(Outputs(student, None), Outputs(teacher, None), torch.tensor([1]), 1.0, 0.5)
    assert float(kl) == pytest.approx(divergence, abs=1e-6) and float(ce) == pytest.approx(entropy, abs=1e-6)
    assert float(total.detach()) == pytest.approx((divergence + entropy) / 2, abs=1e-6)
    total.backward()
    assert student.grad is not None
    assert student.grad[0].tolist() == pytest.approx([(-0.25 + 0.5) / 2, (0.25 - 0.5) / 2], abs=1e-6)
    # At temperature 2 the teacher says sqrt(3) to 1, and the divergence counts four times.
    soft = math.sqrt(3) / (1 + math.sqrt(3))
    expected = soft * math.log(2 * soft) + (1 - soft) * math.log(2 * (1 - soft))
    total, kl, _ = distillation_loss(Outputs(student, None), Outputs(teacher, None), torch.tensor([1]), 2.0, 1.0)
    assert float(kl) == pytest.approx(expected, abs=1e-6)
    assert float(total.detach()) == pytest.approx(4 * expected, abs=1e-6)


@pytest.mark.parametrize("teacher_width", [17, 13, 20])
@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (2.0, 0.5), (3.0, 0.0)])
def test_distillation_equals_torch_with_gradients(
    monkeypatch: pytest.MonkeyPatch, temperature: float, share: float, teacher_width: int
) -> None:
    monkeypatch.setattr("tinyforge.train.loss.CHUNK_ELEMENTS", 64)
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(11, 5), torch.randn(17, 5), torch.randint(0, 13, (11,))
    teacher = Outputs(torch.randn(11, 7), torch.randn(teacher_width, 7))
    common = min(17, teacher_width)

    def reference(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        logits, wanted = h @ w.T, teacher.logits(slice(None))[:, :common]
        soft, target = log_softmax(logits[:, :common] / temperature, -1), log_softmax(wanted / temperature, -1)
        kl = kl_div(soft, target, log_target=True, reduction="sum")
        return share * temperature**2 * kl + (1 - share) * cross_entropy(logits, targets, reduction="sum")

    def ours(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return distillation_loss(Outputs(h, w), teacher, targets, temperature, share)[0]

    compare_gradients(ours, reference, hidden, weight)


def test_the_student_comes_close_to_its_teacher(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    rows = [SupervisedFineTuning(1).encode(pair, tokenizer) for pair in pairs(10)]
    teacher = load(base)
    training(teacher, SupervisedFineTuning(1), rows, tmp_path / "teacher", epochs=10.0, batch_tokens=2048).run()
    taught = digest(teacher)

    def divergence(model: Any) -> float:
        objective = distill(teacher)
        _, weight, metrics = objective.loss(model, objective.collate(rows))
        return metrics["divergence"] / weight

    found = {}
    for share in (1.0, 0.0):
        student, objective = load(base), distill(teacher, distill_share=share)
        before = divergence(student)
        training(student, objective, rows, tmp_path / str(share), epochs=40.0, batch_tokens=2048).run()
        found[share] = divergence(student)
    assert found[1.0] < 0.1 * before
    assert found[1.0] < 0.5 * found[0.0], "the control: the answers alone bring it less close"
    assert digest(teacher) == taught and not teacher.training


def test_distilling_from_itself_changes_nothing_but_the_answers_part(base: Path, tokenizer: Any) -> None:
    model = load(base)
    rows = [SupervisedFineTuning(1).encode(pair, tokenizer) for pair in pairs(3)]
    alone = SupervisedFineTuning(1)
    loss, weight, _ = alone.loss(model, alone.collate(rows))
    mixed, count, metrics = distill(copy.deepcopy(model)).loss(model, alone.collate(rows))
    assert weight == count and metrics["divergence"] == pytest.approx(0, abs=1e-4)
    assert float(mixed.detach()) == pytest.approx(0.5 * float(loss.detach()), rel=1e-5)


def test_rows_laid_end_to_end_are_taught_each_by_itself(base: Path, tokenizer: Any) -> None:
    rows = [SupervisedFineTuning(1).encode(pair, tokenizer) for pair in pairs(6)]
    student, teacher = load(base, noise=0.02), load(base, noise=0.05)

    def learned(objective: Distillation, batch: Batch) -> tuple[float, float, torch.Tensor]:
        student.zero_grad()
        total, weight, metrics = objective.loss(student, batch)
        total.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.flatten() / weight for p in student.parameters() if p.grad is not None]
        return float(total.detach()) / weight, metrics["divergence"] / weight, torch.cat(gradients)

    padded = distill(teacher)
    alone = learned(padded, padded.collate(rows))
    with own_attention(student):
        packed = Distillation(1, settings())
        packed.teacher, packed.packing = teacher, True
        packed.prepare(student)
        batch = packed.collate(rows)
        assert batch.packed is not None and len(batch.ids_BT) == 1
        together = learned(packed, batch)
        seen = learned(distill(teacher), Batch(batch.ids_BT, batch.labels_BT))  # the control: each sees all before it
    assert together[:2] == pytest.approx(alone[:2], rel=1e-4)
    assert float((together[2] - alone[2]).norm()) < 1e-4 * float(alone[2].norm())
    assert float((seen[2] - alone[2]).norm()) > 0.1 * float(alone[2].norm())


def test_a_teacher_that_cannot_tell_rows_apart_gets_them_padded() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    objective = Distillation(1, settings())
    objective.teacher = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2, attn_pdrop=0.1))
    objective.packing = True
    objective.prepare(None)
    assert not objective.packing


def test_hidden_states_by_hand_and_against_torch() -> None:
    """Equal directions are 0 apart, right angles 1, opposites 2."""
    head = torch.zeros(5, 2)
    student = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = hidden_distance(Outputs(student, head), Outputs(teacher, head))
    assert float(found.detach()) == pytest.approx(0 + 1 + 2)
    wanted = cosine_embedding_loss(student, teacher, torch.ones(3), reduction="sum")
    ours, theirs = (torch.autograd.grad(loss, student)[0] for loss in (found, wanted))
    torch.testing.assert_close(ours, theirs)
    for other in (Outputs(teacher, None), Outputs(torch.zeros(3, 4), torch.zeros(5, 4))):
        with pytest.raises(InputError, match="hidden states of the same width"):
            hidden_distance(Outputs(student, head), other)


def test_hidden_states_are_learned_where_that_is_asked(base: Path, tokenizer: Any) -> None:
    rows = [SupervisedFineTuning(1).encode(pair, tokenizer) for pair in pairs(4)]
    student, teacher = load(base, noise=0.02), load(base, noise=0.05)
    without, with_it = (distill(teacher, distill_hidden=weight) for weight in (0.0, 3.0))
    batch = without.collate(rows)
    plain, weighted = without.loss(student, batch), with_it.loss(student, batch)
    distance = weighted[2]["hidden_distance"]
    assert distance > 0 and "hidden_distance" not in plain[2]
    assert float(weighted[0].detach()) == pytest.approx(float(plain[0].detach()) + 3 * distance, rel=1e-5)


def test_distilling_needs_a_teacher(base: Path) -> None:
    with pytest.raises(InputError, match=r"no teacher.*--set train\.teacher"):
        Distillation(1).prepare(load(base))


def test_another_tokenizer_is_refused(tokenizer: Any) -> None:
    check_same_tokenizer(tokenizer, copy.deepcopy(tokenizer))
    chat = copy.deepcopy(tokenizer)
    chat.eos_token = "<|end|>"  # a chat model ends its turns with another token; the ids mean the same
    check_same_tokenizer(tokenizer, chat)
    smaller, size = train_tokenizer([TEXT * 4], 300, 64), len(tokenizer)
    said = (
        rf"{size} tokens against the teacher's 300, and id 300 is '\S+' against None\. Use a teacher of the same family"
    )
    with pytest.raises(InputError, match=said):
        check_same_tokenizer(tokenizer, smaller)
    other = train_tokenizer(["Completely different words for another purpose. " * 9 + TEXT], size, 64)
    with pytest.raises(InputError, match=r"id \d+ is '\S+' against '\S+'\. Use a teacher of the same family"):
        check_same_tokenizer(tokenizer, other)
    special = copy.deepcopy(tokenizer)
    special.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    with pytest.raises(InputError, match=rf"id {size} is None against '<\|tool\|>' \(a special token\)"):
        check_same_tokenizer(tokenizer, special)


def test_a_teacher_writes_the_answers() -> None:
    asked: list[list[Message]] = []

    def complete(messages: list[Message]) -> str:
        asked.append(messages)
        return "  " if "1" in messages[-1].content else f" An answer to {messages[-1].content} "

    examples = [*pairs(3), Example("text", (), text="Running text.")]
    written, dropped = write_answers(examples, complete, "teacher-7b")
    assert [e.answer for e in written] == [f"An answer to {e.question}" for e in (examples[0], examples[2])]
    assert dropped == {"empty answer": ["1"], "no question": ["text"]}
    assert all(e.metadata["answered_by"] == "teacher-7b" and not e.rejected for e in written)
    assert asked[0] == [examples[0].messages[0]], "the old answer is not shown"
    assert {e.id for e in written}.isdisjoint(e.id for e in examples)
    assert examples[0].answer == GOOD[0], "what was given stays as it was"

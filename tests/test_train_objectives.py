"""What is learned from preference pairs and from a teacher: by hand, against TRL, and the controls that break it."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from little import TEXT, make_base
from tinyforge import adapters
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.models.tokenizer import train_tokenizer
from tinyforge.records import Example, Message, Tokens
from tinyforge.synthesize.answers import write_answers
from tinyforge.train.divergence import Outputs, distillation_loss
from tinyforge.train.loop import EncodedRows, Training
from tinyforge.train.loss import linear_cross_entropy, row_log_probs, row_losses, token_losses
from tinyforge.train.objectives.distill import Distillation, check_same_tokenizer
from tinyforge.train.objectives.dpo import PreferenceOptimization, dpo_losses, ipo_losses, kto_losses
from tinyforge.train.objectives.sft import SupervisedFineTuning
from tinyforge.train.optimizer import MasterOptimizer

QUESTIONS = ("What is a loan?", "Who pays?", "Why is there a fee?", "May I bring a tool back after seven days?")
GOOD = ("An agreement.", "The members pay a yearly fee.", "Tools wear out.", "No.", "Yes, because tools wear out.")
BAD = ("Question: fees.", "Documents.", "A tool is a tool is a tool, the documents say.", "Within, within.", "Seven.")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(base)


def load(base: Path, noise: float = 0.0, seed: int = 5) -> Any:
    """The base, or the base a little way off."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return model


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 2.0, "batch_tokens": 256, "threads": 1, "checkpoint_seconds": 1e9, **changes})


def pairs(count: int = 8) -> list[Example]:
    made = []
    for number in range(count):
        question, good, bad = (texts[number % len(texts)] for texts in (QUESTIONS, GOOD, BAD))
        messages = (Message("user", f"{question} {number}"), Message("assistant", good))
        made.append(Example(str(number), messages, rejected=bad))
    return made


def dpo(base_model: Any = None, **changes: Any) -> PreferenceOptimization:
    objective = PreferenceOptimization(1, settings(**changes))
    if base_model is not None:
        objective.prepare(base_model)
    return objective


def distill(teacher: Any, **changes: Any) -> Distillation:
    objective = Distillation(1, settings(**changes))
    objective.teacher = teacher
    objective.prepare(None)
    return objective


def digest(model: Any) -> str:
    data = b"".join(p.detach().float().numpy().tobytes() for _, p in sorted(model.named_parameters()))
    return hashlib.sha256(data).hexdigest()


# --- the losses by hand -----------------------------------------------------------------------------------------------


def test_preference_losses_by_hand() -> None:
    chosen, rejected = torch.tensor([math.log(4.0)]), torch.tensor([math.log(0.5)])
    # The better answer became four times as likely, the worse half: beta 1 gives odds of 8 to 1.
    assert float(dpo_losses(chosen, rejected, 1.0)) == pytest.approx(math.log(9 / 8), abs=1e-6)
    assert float(dpo_losses(rejected, chosen, 1.0)) == pytest.approx(math.log(9), abs=1e-6)
    assert float(dpo_losses(chosen, chosen, 1.0)) == pytest.approx(math.log(2), abs=1e-6)
    # IPO wants the difference to be 1 / (2 beta): 0.5 at beta 1, so 3 - 1 = 2 misses by 1.5.
    assert float(ipo_losses(torch.tensor([3.0]), torch.tensor([1.0]), 1.0)) == pytest.approx(2.25)
    assert float(ipo_losses(torch.tensor([1.5]), torch.tensor([1.0]), 1.0)) == 0.0
    # KTO around z = ln 2: odds 2 to 1 for the better (1 - 2/3), 4 to 1 against the worse (1 - 4/5).
    z = torch.tensor(math.log(2.0))
    assert float(kto_losses(chosen, rejected, z, 1.0)) == pytest.approx((1 / 3 + 1 / 5) / 2, abs=1e-6)


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


def compare_gradients(
    ours: Callable[..., torch.Tensor], reference: Callable[..., torch.Tensor], *inputs: torch.Tensor
) -> None:
    """The same value and the same gradient in every input."""
    found = []
    for function in (ours, reference):
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        loss = function(*leaves)
        loss.backward()
        found.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


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


# --- preference pairs -------------------------------------------------------------------------------------------------


def test_a_pair_is_two_conversations_with_their_last_answers_learned(tokenizer: Any) -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Yes"), Message("user", "And?"), Message("assistant", "No 7"))
    tokens = dpo().encode(Example("a", turns, rejected="Fees."), tokenizer)
    start = "<|user|>Hi<|end|><|assistant|>Yes<|end|><|user|>And?<|end|><|assistant|>"
    sides = (slice(0, tokens.border), slice(tokens.border, None))
    texts = [tokenizer.decode(tokens.ids[side]) for side in sides]
    assert texts == [f"{start}No 7<|end|>", f"{start}Fees.<|end|>"]
    learned = [[label for label in tokens.labels[side] if label != -100] for side in sides]
    assert [tokenizer.decode(side) for side in learned] == ["No 7<|end|>", "Fees.<|end|>"]
    batch = dpo().collate([tokens, dpo().encode(pairs(1)[0], tokenizer)])
    assert tokenizer.decode(batch.ids_BT[2]).startswith(texts[1]) and len(batch.ids_BT) == 4


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (replace(pairs(1)[0], rejected=""), "example 0: its rejected answer is missing"),
        (replace(pairs(1)[0], rejected=GOOD[0]), "the same as the better"),
        (replace(pairs(1)[0], messages=(Message("user", "Hi"),)), "does not end with the better answer"),
    ],
)
def test_what_is_no_pair_is_refused(tokenizer: Any, example: Example, said: str) -> None:
    with pytest.raises(InputError, match=said):
        dpo().encode(example, tokenizer)


def test_row_log_probs_are_the_row_losses(base: Path, tokenizer: Any) -> None:
    objective = dpo()
    batch = objective.collate([objective.encode(pair, tokenizer) for pair in pairs(3)])
    model = load(base)
    log_probs, counts = row_log_probs(model, batch.ids_BT, batch.labels_BT)
    losses, numbers = row_losses(model, batch.ids_BT, batch.labels_BT)
    assert (-log_probs).tolist() == pytest.approx(losses, abs=1e-4) and counts.tolist() == numbers


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_reference_stays_where_the_model_started(base: Path, tokenizer: Any, tmp_path: Path, method: str) -> None:
    model = load(base)
    if method == "lora":
        model = adapters.attach(model, settings(lora_rank=4, lora_dropout=0.3), 0)
    objective = dpo()
    rows = [objective.encode(pair, tokenizer) for pair in pairs(4)]
    batch = objective.collate(rows)
    seen: list[Any] = []
    job = training(model, objective, rows, tmp_path, epochs=10.0)
    job.on_status = seen.append
    job.run()
    model.eval()
    expected, _ = row_log_probs(load(base), batch.ids_BT, batch.labels_BT)
    torch.testing.assert_close(objective._reference_log_probs(model, batch), expected.detach(), atol=1e-5, rtol=1e-5)
    loss, weight, metrics = objective.loss(model, batch)
    assert float(loss.detach()) / weight < 0.9 * math.log(2) and metrics["accuracy"] == weight == 4
    assert seen[-1].metrics["accuracy"] == 1 and seen[-1].metrics["margin"] > seen[0].metrics["margin"]
    moving = dpo(model) if method == "full" else dpo(model.merge_and_unload())  # the control: nothing to be held to
    now = moving.loss(model if method == "full" else moving._copy, batch)
    assert float(now[0].detach()) / weight == pytest.approx(math.log(2), abs=1e-4)


def test_dropout_touches_the_policy_alone(base: Path, tokenizer: Any) -> None:
    model = adapters.attach(load(base), settings(lora_rank=4, lora_dropout=0.5), 0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    objective = dpo()
    batch = objective.collate([objective.encode(pair, tokenizer) for pair in pairs(3)])
    model.train()
    first, again = (objective._reference_log_probs(model, batch) for _ in range(2))
    assert torch.equal(first, again) and model.training and not first.requires_grad
    loss, _, _ = objective.loss(model, batch)
    other, _, _ = objective.loss(model, batch)
    assert float(loss.detach()) != float(other.detach()), "the control: dropout is on"
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any("lora_" in n for n, p in model.named_parameters() if p.requires_grad)


def test_a_copy_is_needed_before_the_first_loss(base: Path, tokenizer: Any) -> None:
    objective = dpo()
    batch = objective.collate([objective.encode(pairs(1)[0], tokenizer)])
    with pytest.raises(RuntimeError, match="prepare"):
        objective.loss(load(base), batch)


def test_mismatched_answers_by_hand() -> None:
    from tinyforge.train.objectives.base import pad_rows
    from tinyforge.train.objectives.dpo import _mismatched

    def row(prompt: list[int], answer: list[int]) -> Tokens:
        return Tokens(prompt + answer, [-100] * len(prompt) + answer)

    rows = [row([10], [1, 2]), row([11, 11], [3]), row([10], [4]), row([11, 11], [5, 6])]
    made = _mismatched(pad_rows(rows, 0), 0)
    assert made.ids_BT.tolist() == [[10, 3, 0, 0], [11, 11, 1, 2], [10, 5, 6, 0], [11, 11, 4, 0]]
    assert made.labels_BT.tolist()[1] == [-100, -100, 1, 2]


# --- against TRL ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl")


def stock(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 8,
        "max_length": None,
        **changes,
    }


def conversation(example: Example, answer: str, key: str = "completion") -> dict[str, Any]:
    prompt = [{"role": m.role, "content": m.content} for m in example.messages[:-1]]
    return {"prompt": prompt, key: [{"role": "assistant", "content": answer}]}


def same_step(model: Any, ours: torch.Tensor, theirs: Callable[[], torch.Tensor]) -> None:
    """The loss to 1e-5, and every gradient."""
    model.zero_grad()
    ours.backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    reference = theirs()
    reference.backward()
    assert float(ours.detach()) == pytest.approx(float(reference.detach()), abs=1e-5)
    for gradient, parameter in zip(gradients, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["dpo", "ipo"])
def test_preference_loss_equals_trl(trl: Any, base: Path, tokenizer: Any, tmp_path: Path, kind: str) -> None:
    from datasets import Dataset

    examples = pairs(4)
    objective = dpo(load(base), preference_loss=kind, preference_beta=0.3)
    batch = objective.collate([objective.encode(pair, tokenizer) for pair in examples])
    rows = [conversation(e, e.answer, "chosen") | conversation(e, e.rejected, "rejected") for e in examples]
    config = trl.DPOConfig(**stock(tmp_path, beta=0.3, loss_type=["sigmoid" if kind == "dpo" else "ipo"]))
    model = load(base, noise=0.02)
    trainer = trl.DPOTrainer(
        model,
        ref_model=load(base),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    assert torch.equal(inputs["input_ids"] * inputs["attention_mask"], batch.ids_BT * inputs["attention_mask"])
    assert torch.equal(inputs["completion_mask"].bool(), batch.labels_BT != -100)
    loss, weight, metrics = objective.loss(model, batch)
    same_step(model, loss / weight, lambda: trainer.compute_loss(model, inputs))
    logged = trainer._metrics["eval"]  # the mode in which the model was loaded
    for name, key in (("margin", "margins"), ("accuracy", "accuracies"), ("chosen_reward", "chosen")):
        assert metrics[name] / weight == pytest.approx(logged[f"rewards/{key}"][-1], abs=1e-5)


def test_kto_loss_equals_trl(trl: Any, base: Path, tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    examples = pairs(4)
    objective = dpo(load(base), preference_loss="kto", preference_beta=0.3)
    batch = objective.collate([objective.encode(pair, tokenizer) for pair in examples])
    rows = [conversation(e, e.answer) | {"label": True} for e in examples]
    rows += [conversation(e, e.rejected) | {"label": False} for e in examples]
    model = load(base, noise=0.05, seed=3)
    trainer = trl.KTOTrainer(
        model,
        ref_model=load(base),
        args=trl.KTOConfig(**stock(tmp_path, beta=0.3, train_sampling_strategy="sequential")),
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(tokenizer),
    )
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    loss, weight, _ = objective.loss(model, batch)
    same_step(model, loss / weight, lambda: trainer.compute_loss(model, inputs))
    divergence = float(objective._divergence(model, batch))
    assert divergence == pytest.approx(trainer._metrics["eval"]["kl"][-1], abs=1e-4)
    assert divergence > 0, "the control: a clamped estimate would compare nothing"


def test_sft_loss_equals_trl(trl: Any, base: Path, tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset

    examples = pairs(4)
    objective = SupervisedFineTuning(1)
    batch = objective.collate([objective.encode(example, tokenizer) for example in examples])
    model = load(base, noise=0.02)
    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(**stock(tmp_path, completion_only_loss=True)),
        train_dataset=Dataset.from_list([conversation(e, e.answer) for e in examples]),
        processing_class=copy.deepcopy(tokenizer),
    )
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    assert torch.equal(inputs["labels"], batch.labels_BT)
    loss, weight, _ = objective.loss(model, batch)
    same_step(model, loss / weight, lambda: trainer.compute_loss(model, dict(inputs)))


# --- in the loop ------------------------------------------------------------------------------------------------------


def training(model: Any, objective: Any, rows: list[Tokens], folder: Path, **changes: Any) -> Training:
    return Training(
        model=model,
        objective=objective,
        rows=EncodedRows(rows),
        dev=EncodedRows(rows[:2]),
        config=settings(**{"patience": 99, **changes}),
        learning_rate=1e-2,
        folder=folder,
        key="k",
        seed=3,
    )


def step_gradients(model: Any, objective: Any, groups: list[list[Tokens]]) -> list[torch.Tensor]:
    """The gradient of one optimizer step over several micro-batches, as the loop forms it."""
    model.zero_grad()
    optimizer = MasterOptimizer(model, settings(), 0.0)
    weight = 0
    for group in groups:
        total, count, _ = objective.loss(model, objective.collate(group))
        total.backward()
        optimizer.gather()
        weight += count
    return [master.grad / weight for master in optimizer.masters.values()]


def apart(ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ones, others, strict=True))


@pytest.mark.parametrize("kind", ["dpo", "ipo", "distill"])
def test_accumulation_gives_the_same_step(base: Path, tokenizer: Any, kind: str) -> None:
    model = load(base, noise=0.02)
    objective = distill(load(base, 0.05)) if kind == "distill" else dpo(load(base), preference_loss=kind)
    rows = [objective.encode(pair, tokenizer) for pair in pairs(8)]
    assert len({len(row.ids) for row in rows}) > 3, "mixed lengths"
    whole = step_gradients(model, objective, [rows])
    scale = max(float(gradient.abs().max()) for gradient in whole)
    for size in (1, 2, 4):
        split = [rows[start : start + size] for start in range(0, 8, size)]
        assert apart(step_gradients(model, objective, split), whole) < 1e-5 * max(1.0, scale)
    uneven = step_gradients(model, objective, [rows[:7]])  # the control: one row less is seen
    assert apart(uneven, whole) > 1e-3 * scale


def test_kto_sees_its_neighbours(base: Path, tokenizer: Any) -> None:
    """Why KTO is not among the above: its estimate is the micro-batch's."""
    model, objective = load(base, noise=0.05, seed=3), dpo(load(base), preference_loss="kto")
    rows = [objective.encode(pair, tokenizer) for pair in pairs(4)]
    whole = step_gradients(model, objective, [rows])
    assert apart(step_gradients(model, objective, [[row] for row in rows]), whole) > 1e-5


@pytest.mark.parametrize("method", ["full", "lora"])
def test_resumed_dpo_equals_uninterrupted(base: Path, tokenizer: Any, tmp_path: Path, method: str) -> None:
    rows = [dpo().encode(pair, tokenizer) for pair in pairs(10)]

    def fresh() -> Any:
        made = load(base)
        return made if method == "full" else adapters.attach(made, settings(lora_rank=4, lora_dropout=0.1), 3)

    def interrupted(folder: Path) -> None:
        def stop(status: Any) -> None:
            if status.step == 3:
                raise KeyboardInterrupt

        job = training(fresh(), dpo(), rows, folder, batch_tokens=128, checkpoint_seconds=1e-9)
        job.on_status = stop
        with pytest.raises(KeyboardInterrupt):
            job.run()

    whole = fresh()
    result = training(whole, dpo(), rows, tmp_path / "whole", batch_tokens=128).run()
    assert result.steps > 4
    interrupted(tmp_path / "parts")
    resumed, notes = fresh(), list[str]()
    job = training(resumed, dpo(), rows, tmp_path / "parts", batch_tokens=128)
    job.on_note = notes.append
    job.run()
    assert notes[0].startswith("continuing at step") and digest(resumed) == digest(whole)
    if method == "full":  # the control: a reference taken from the weights that were restored
        interrupted(tmp_path / "late")
        other, objective = fresh(), dpo()
        job = training(other, objective, rows, tmp_path / "late", batch_tokens=128)
        prepare = objective.prepare
        objective.prepare = lambda model: None  # type: ignore[method-assign]
        restore = job._restore
        job._restore = lambda optimizer: (restore(optimizer), prepare(other))[0]  # type: ignore[func-returns-value]
        job.run()
        assert digest(other) != digest(whole)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "kto"])
def test_ten_pairs_are_learned(base: Path, tokenizer: Any, tmp_path: Path, kind: str) -> None:
    model, objective = load(base), dpo(preference_loss=kind)
    rows = [objective.encode(pair, tokenizer) for pair in pairs(10)]
    batch = objective.collate(rows)
    training(model, objective, rows, tmp_path, epochs=30.0, batch_tokens=2048).run()
    loss, weight, metrics = objective.loss(model, batch)
    started = dpo(model, preference_loss=kind).loss(model, batch)
    assert metrics["accuracy"] == weight == 10 and metrics["margin"] > 1
    assert float(loss.detach()) < 0.8 * float(started[0].detach())
    assert started[2]["accuracy"] == 0, "the control: against itself it prefers nothing"


# --- a teacher --------------------------------------------------------------------------------------------------------


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


def test_progress_and_events_show_the_metrics(base: Path, tokenizer: Any, tmp_path: Path) -> None:
    from tinyforge.cli.common import describe_status
    from tinyforge.pipeline.fit import _reporting
    from tinyforge.run import Run, read_jsonl

    objective = dpo()
    rows = [objective.encode(pair, tokenizer) for pair in pairs(3)]
    job = training(load(base), objective, rows, tmp_path / "checkpoints", epochs=1.0, batch_tokens=2048)
    run = Run.create(tmp_path / "run", "train")
    lines: list[str] = []
    job.on_status = _reporting(run, lambda status: None, lambda status: lines.append(describe_status(status, None)))
    job.run()
    assert "margin 0.00 · accuracy 0.00 · chosen reward 0.00" in lines[0]
    events = [row for row in read_jsonl(run.path("events.jsonl")) if "metrics" in row]
    assert events[0]["metrics"]["accuracy"] == 0.0 and set(events[0]["metrics"]) >= {"margin", "rejected_reward"}

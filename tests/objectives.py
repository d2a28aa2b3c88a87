"""Pairs, a small base and one training: what the tests of the objectives share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tinyforge.config import TrainConfig
from tinyforge.records import Example, Message, Tokens
from tinyforge.train.loop import Training
from tinyforge.train.objectives.distill import Distillation
from tinyforge.train.objectives.dpo import PreferenceOptimization
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.rows import EncodedRows

QUESTIONS = ("What is a loan?", "Who pays?", "Why is there a fee?", "May I bring a tool back after seven days?")
GOOD = ("An agreement.", "The members pay a yearly fee.", "Tools wear out.", "No.", "Yes, because tools wear out.")
BAD = ("Question: fees.", "Documents.", "A tool is a tool is a tool, the documents say.", "Within, within.", "Seven.")


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

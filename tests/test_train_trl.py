"""The losses of SFT, DPO, IPO and KTO, and every gradient, equal TRL's on the same batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives import dpo, load, pairs
from tinyforge.records import Example
from tinyforge.train.objectives.sft import SupervisedFineTuning


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

"""What is learned from preference pairs: by hand, in the loop, and the controls that break it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives import (
    GOOD,
    apart,
    digest,
    distill,
    dpo,
    load,
    pairs,
    settings,
    step_gradients,
    training,
)
from tinyforge import adapters
from tinyforge.errors import InputError
from tinyforge.records import Example, Message, Tokens
from tinyforge.train.keep import Keeper
from tinyforge.train.loss import row_log_probs
from tinyforge.train.objectives.dpo import dpo_losses, ipo_losses, kto_losses


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


# --- in the loop ------------------------------------------------------------------------------------------------------


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
def test_resumed_dpo_equals_uninterrupted(
    base: Path, tokenizer: Any, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        restore = Keeper.restore
        monkeypatch.setattr(Keeper, "restore", lambda *given: (restore(*given), prepare(other))[0])
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

"""The loop: invariances that must hold exactly or to rounding, each with a control that breaks it."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from little import make_base
from tinyforge import adapters
from tinyforge.config import TrainConfig
from tinyforge.errors import TrainingError
from tinyforge.records import Tokens
from tinyforge.run import hash_file, hash_json, read_json, write_json
from tinyforge.train.loop import Training, dev_loss
from tinyforge.train.loss import linear_cross_entropy, next_token_loss, row_losses
from tinyforge.train.objectives.base import pad_rows
from tinyforge.train.objectives.pretrain import Pretrain
from tinyforge.train.rows import EncodedRows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def model(base: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def some_rows(count: int = 12, seed: int = 1) -> list[Tokens]:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        length = int(torch.randint(4, 30, (1,), generator=generator))
        ids = torch.randint(6, 250, (length,), generator=generator).tolist()
        skip = length // 3
        rows.append(Tokens(ids, [-100] * skip + ids[skip:]))
    return rows


def settings(**changes: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 2.0, "batch_tokens": 64, "threads": 1, "checkpoint_seconds": 1e9, **changes})


def training(model: Any, folder: Path, rows: list[Tokens] | None = None, **changes: Any) -> Training:
    rows = rows or some_rows()
    return Training(
        model=model,
        objective=Pretrain(1),
        rows=EncodedRows(rows),
        dev=EncodedRows(rows[:4]),
        config=settings(**changes),
        learning_rate=1e-2,
        folder=folder,
        key="k",
        seed=3,
    )


def digest(model: Any) -> str:
    data = b"".join(p.detach().float().numpy().tobytes() for _, p in sorted(model.named_parameters()))
    return hashlib.sha256(data).hexdigest()


def test_linear_cross_entropy_by_hand() -> None:
    # Two positions over two tokens: logits (0, 0) and (ln 3, 0), targets 0 and 0 -> ln 2 and ln(4/3).
    hidden = torch.tensor([[0.0], [1.0986122886681098]])
    weight = torch.tensor([[1.0], [0.0]])
    loss = linear_cross_entropy(hidden, weight, torch.tensor([0, 0]))
    assert float(loss) == pytest.approx(0.6931471805599453 + 0.28768207245178085, abs=1e-6)


def test_linear_cross_entropy_equals_torch_with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinyforge.train.loss.CHUNK_ELEMENTS", 64)  # several chunks, the last one short
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(11, 5), torch.randn(17, 5), torch.randint(0, 17, (11,))
    pairs = []
    for ours in (True, False):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
        if ours:
            loss = linear_cross_entropy(h, w, targets)
        else:
            loss = torch.nn.functional.cross_entropy(h @ w.T, targets, reduction="sum")
        (loss * 0.5).backward()
        pairs.append((loss, h.grad, w.grad))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_loss_equals_transformers_and_ignores_padding(model: Any) -> None:
    rows = some_rows(3)
    batch = pad_rows(rows, 1)
    total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT)
    mask = torch.zeros_like(batch.ids_BT)
    for index, row in enumerate(rows):
        mask[index, : len(row.ids)] = 1
    reference = model(input_ids=batch.ids_BT, attention_mask=mask, labels=batch.labels_BT).loss
    assert float(total) / count == pytest.approx(float(reference), abs=1e-5)
    assert count == sum(row.targets for row in rows)
    other = pad_rows(rows, 7)  # what the padding holds must not matter
    assert float(next_token_loss(model, other.ids_BT, other.labels_BT)[0]) == pytest.approx(float(total), abs=1e-4)


def test_row_losses_sum_to_the_batch_loss(model: Any) -> None:
    batch = pad_rows(some_rows(5), 1)
    losses, counts = row_losses(model, batch.ids_BT, batch.labels_BT)
    total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT)
    assert sum(losses) == pytest.approx(float(total), abs=1e-3) and sum(counts) == count


def one_step_gradients(model: Any, groups: list[list[Tokens]], by_mean_of_means: bool = False) -> list[torch.Tensor]:
    """The gradient of one optimizer step over several micro-batches, as the loop forms it."""
    from tinyforge.train.optimizer import MasterOptimizer

    model = copy.deepcopy(model)
    optimizer = MasterOptimizer(model, settings(), 0.0)
    weight = 0
    for group in groups:
        batch = pad_rows(group, 1)
        total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT)
        (total / count if by_mean_of_means else total).backward()
        optimizer.gather()
        weight += 1 if by_mean_of_means else count
    return [master.grad / weight for master in optimizer.masters.values()]


def test_accumulation_is_weighted_by_tokens(model: Any) -> None:
    rows = some_rows(8)
    whole = one_step_gradients(model, [rows])
    for split in ([[r] for r in rows], [rows[:2], rows[2:4], rows[4:6], rows[6:]], [rows[:4], rows[4:]]):
        for ours, one in zip(one_step_gradients(model, split), whole, strict=True):
            torch.testing.assert_close(ours, one, atol=1e-6, rtol=1e-4)
    means = one_step_gradients(model, [[r] for r in rows], by_mean_of_means=True)
    assert any((a - b).abs().max() > 1e-4 for a, b in zip(means, whole, strict=True)), "the control must differ"


def test_overfits_ten_examples(model: Any, tmp_path: Path) -> None:
    rows = some_rows(10)
    before = dev_loss(model, Pretrain(1), EncodedRows(rows), 512)
    job = training(model, tmp_path, rows, epochs=60.0, batch_tokens=512, patience=99)
    job.run()
    after = dev_loss(model, Pretrain(1), EncodedRows(rows), 512)
    assert before > 5 and after < 0.3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_resumed_equals_uninterrupted(base: Path, tmp_path: Path, optimizer: str, method: str) -> None:
    def fresh() -> Any:
        made = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        if method == "full":
            return made
        return adapters.attach(made, settings(lora_rank=4, lora_dropout=0.1), 3)

    whole = fresh()
    training(whole, tmp_path / "whole", optimizer=optimizer).run()

    class StopError(Exception):
        pass

    def stop_at_five(status: Any) -> None:
        if status.step == 5:
            raise StopError

    job = training(fresh(), tmp_path / "parts", optimizer=optimizer, checkpoint_seconds=1e-9)
    job.on_status = stop_at_five
    with pytest.raises(StopError):
        job.run()
    resumed = fresh()
    notes: list[str] = []
    job = training(resumed, tmp_path / "parts", optimizer=optimizer)
    job.on_note = notes.append
    job.run()
    assert notes and notes[0].startswith("continuing at step")
    assert digest(resumed) == digest(whole)


@pytest.mark.parametrize("part", ["rng.torch", "master.", "adamw.exp_avg.", "adamw.step."])
def test_resume_needs_every_part_of_the_checkpoint(base: Path, tmp_path: Path, part: str) -> None:
    """The control of the test above: with one part of the state spoilt, the final weights differ."""

    def fresh() -> Any:
        made = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return adapters.attach(made, settings(lora_rank=4, lora_dropout=0.2), 3)

    whole = fresh()
    training(whole, tmp_path / "whole", evaluations=1).run()
    job = training(fresh(), tmp_path / "parts", evaluations=1, checkpoint_seconds=1e-9)

    def stop(status: Any) -> None:
        if status.step == 4:
            raise KeyboardInterrupt

    job.on_status = stop
    with pytest.raises(KeyboardInterrupt):
        job.run()
    newest = sorted((tmp_path / "parts").glob("step-*"))[-1]
    tensors = load_file(newest / "state.safetensors")
    for name, tensor in tensors.items():
        if name.startswith(part):
            tensors[name] = torch.Generator().manual_seed(99).get_state() if part == "rng.torch" else tensor * 0.5
    rewrite(newest, tensors)
    resumed = fresh()
    training(resumed, tmp_path / "parts", evaluations=1).run()
    assert digest(resumed) != digest(whole)


def rewrite(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Spoil a checkpoint so that it looks undamaged: with the hash and the seal made new."""
    save_file(tensors, folder / "state.safetensors")
    state = read_json(folder / "state.json")
    del state["seal"]
    state["sha256"] = hash_file(folder / "state.safetensors")
    write_json(folder / "state.json", {**state, "seal": hash_json(state)})


def test_a_damaged_checkpoint_gives_way_to_the_one_before(base: Path, tmp_path: Path) -> None:
    def fresh() -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)

    whole = fresh()
    training(whole, tmp_path / "whole").run()
    job = training(fresh(), tmp_path / "parts", checkpoint_seconds=1e-9)

    def stop(status: Any) -> None:
        if status.step == 6:
            raise KeyboardInterrupt

    job.on_status = stop
    with pytest.raises(KeyboardInterrupt):
        job.run()
    newest = sorted((tmp_path / "parts").glob("step-*"))[-1] / "state.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    resumed, notes = fresh(), list[str]()
    job = training(resumed, tmp_path / "parts")
    job.on_note = notes.append
    job.run()
    assert "damaged" in notes[0] and digest(resumed) == digest(whole)


def test_another_training_does_not_continue_this_one(base: Path, model: Any, tmp_path: Path) -> None:
    training(model, tmp_path, checkpoint_seconds=1e-9).run()
    other = training(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path)
    other.key = "other"
    notes: list[str] = []
    other.on_note = notes.append
    result = other.run()
    assert len(notes) == 1 and "not continued" in notes[0], "it starts from the first step, and says why"
    keys = {read_json(path / "state.json")["key"] for path in tmp_path.glob("step-*")}
    assert result.steps == result.total_steps and keys == {"other"}, "its own first checkpoint takes the place of all"


def test_a_loss_that_is_not_a_number_stops_the_run(model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="the loss became nan at step 1"):
        training(model, tmp_path).run()


def test_fresh_adapter_equals_base_and_plain_peft_loads_it(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    made = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.tensor([[5, 50, 60, 70]])
    before = made(ids).logits
    wrapped = adapters.attach(made, settings(lora_rank=4), 0)
    torch.testing.assert_close(wrapped(ids).logits, before, atol=0, rtol=0)
    training(wrapped, tmp_path / "checkpoints").run()
    wrapped.eval()
    trained = wrapped(ids).logits
    assert (trained - before).abs().max() > 1e-3, "training must have changed something"
    wrapped.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(tmp_path / "adapter")
    )
    torch.testing.assert_close(again(ids).logits, trained, atol=1e-6, rtol=1e-5)
    merged = again.merge_and_unload()
    torch.testing.assert_close(merged(ids).logits, trained, atol=1e-4, rtol=1e-4)


def test_best_weights_are_kept(base: Path, model: Any, tmp_path: Path) -> None:
    """A far too high learning rate: the dev loss of the result is the best that was measured, not the last."""
    measured: list[float] = []
    job = training(model, tmp_path, epochs=6.0, patience=99)
    job.learning_rate = 0.3
    job.on_status = lambda s: measured.append(s.dev_loss) if s.dev_loss is not None else None
    result = job.run()
    final = dev_loss(model, job.objective, job.dev, 256)
    assert min(measured) < measured[-1], "the control: the last is not the best"
    assert final == pytest.approx(min(measured), rel=1e-4) and result.best_loss == min(measured)


def test_early_stop(model: Any, tmp_path: Path) -> None:
    job = training(model, tmp_path, epochs=40.0, evaluations=40, patience=2, divergence_steps=0)
    job.learning_rate = 1.0
    result = job.run()
    assert result.stopped_by == "patience" and result.steps < result.total_steps


def test_tokenizer_has_distinct_end_turn_and_padding(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.convert_tokens_to_ids("<|end|>")}
    assert len(ids) == 3 and None not in ids
    assert tokenizer.tokenize("2026") == ["2", "0", "2", "6"]
    text = "Grüße, 世界! 🙂\n\ttabs  and spaces"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text

"""The watch over a training: planted failures always stop it with good weights kept, ordinary trainings never do.

And what else ends a training: time, steps, patience.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from little import make_base
from test_train_loop import digest, settings, some_rows
from tinyforge import adapters
from tinyforge.config import TrainConfig
from tinyforge.errors import TrainingError
from tinyforge.records import Tokens
from tinyforge.run import hash_json
from tinyforge.train import checkpoint
from tinyforge.train.budget import Budget
from tinyforge.train.checkpoint import Progress
from tinyforge.train.loop import Training
from tinyforge.train.objectives.dpo import PreferenceOptimization
from tinyforge.train.objectives.pretrain import Pretrain
from tinyforge.train.rows import EncodedRows
from tinyforge.train.status import Status
from tinyforge.train.watch import MARKER, Watch, spread


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def base(untrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has learned something, which is what a divergence destroys."""
    folder = tmp_path_factory.mktemp("base")
    model = fresh(untrained)
    training(model, folder / "checkpoints", counting_rows(seed=1), rate=1e-2, epochs=10.0).run()
    model.save_pretrained(folder)
    return folder


def fresh(base: Path, method: str = "full", **changes: Any) -> Any:
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return model if method == "full" else adapters.attach(model, settings(**changes), 3)


def counting_rows(count: int = 64, seed: int = 5) -> list[Tokens]:
    """Sequences that count upwards from anywhere: there is something to learn in them, and noise in how much."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        start, length = (int(torch.randint(low, high, (1,), generator=generator)) for low, high in ((6, 200), (6, 40)))
        ids = list(range(start, start + length))
        rows.append(Tokens(ids, [-100] * 2 + ids[2:]))
    return rows


def training(model: Any, folder: Path, rows: Sequence[Tokens] | None = None, **changes: Any) -> Training:
    rows = list(rows or counting_rows())
    rate = changes.pop("rate", 3e-3)
    return Training(
        model=model,
        objective=changes.pop("objective", None) or Pretrain(1),
        rows=EncodedRows(rows[8:]),
        dev=EncodedRows(rows[:8]),
        config=settings(**{"epochs": 4.0, "batch_tokens": 128, "evaluations": 4, **changes}),
        learning_rate=rate,
        folder=folder,
        key="k",
        seed=3,
    )


class Poisoned(Pretrain):
    """Labels that have nothing to do with the rows, from the n-th training batch on."""

    def __init__(self, after: int) -> None:
        super().__init__(1)
        self.left = after

    def loss(self, model: Any, batch: Any) -> Any:
        if model.training:
            self.left -= 1
            if self.left < 0:
                noise = torch.randint(6, 360, batch.labels_BT.shape, generator=torch.Generator().manual_seed(self.left))
                batch = type(batch)(batch.ids_BT, torch.where(batch.labels_BT < 0, batch.labels_BT, noise))
        return super().loss(model, batch)


def test_spread_and_limits_by_hand() -> None:
    # Median 3, deviations 2 1 0 1 7, of which the median is 1.
    assert spread([1, 2, 3, 4, 10]) == pytest.approx(1.4826)
    watch = Watch(TrainConfig(divergence_deviations=8.0), 100)
    watch.losses.start = [1.0, 2.0, 3.0, 4.0, 10.0]
    assert watch.limits() == {"that of the untrained weights": pytest.approx(10 + 8 * 1.4826)}
    watch.losses.start = [8.0] * 8  # no noise at all: a quarter of the loss at the start
    watch.losses.recent = [1.0] * 20
    assert list(watch.limits().values()) == [10.0, 3.0]
    watch.losses.start = [0.1] * 8  # already learned: at least one nat
    assert watch.limits()["that of the untrained weights"] == pytest.approx(1.1)


def test_single_spikes_pass_and_a_lasting_one_does_not() -> None:
    watch = Watch(TrainConfig(divergence_steps=8), 1000)
    watch.losses.start = [4.0] * 8
    assert not any(watch.diverged(step, 9.0 if step % 3 == 0 else 3.0) for step in range(1, 399))
    found = [watch.diverged(step, 9.0) for step in range(400, 409)]
    first = next(i for i, seen in enumerate(found) if seen)
    assert first == 7 and "since step 400" in found[first] and "9" in found[first]
    watch = Watch(TrainConfig(divergence_steps=0), 1000)
    watch.losses.start = [4.0] * 8
    assert not any(watch.diverged(step, 99.0) for step in range(100)) and not watch.suspicious


def test_two_kinds_of_batches_that_take_turns_are_no_divergence() -> None:
    """As in a mixture with running text: most batches are easy, two in five are not, in no order."""
    generator = torch.Generator().manual_seed(2)
    hard = (torch.rand(2000, generator=generator) < 0.4).tolist()
    noise = torch.randn(2000, generator=generator).tolist()
    losses = [4.3 + 0.3 * n if h else 0.5 + 0.05 * n for h, n in zip(hard, noise, strict=True)]
    watch = Watch(TrainConfig(), 2000)
    watch.losses.start = losses[:8]
    assert not any(watch.diverged(step, loss) for step, loss in enumerate(losses))
    assert any(watch.diverged(step, 9.0) for step in range(8)), "the control"


def test_a_small_loss_that_only_memorises_is_never_high() -> None:
    watch = Watch(TrainConfig(), 1000)
    watch.losses.start = [0.7] * 8
    falling = [0.7 * 0.9**step for step in range(200)]
    assert not any(watch.diverged(step, loss + 0.3 * (step % 2)) for step, loss in enumerate(falling))


PLANTED: dict[str, dict[str, Any]] = {
    "learning rate x 100": {"rate": 0.3},
    "learning rate x 100, lora": {"rate": 1.0, "epochs": 6.0, "method": "lora", "lora_rank": 8},
    "learning rate x 100, muon": {"rate": 0.3, "optimizer": "muon", "muon_learning_rate": 2.0},
    "learning rate x 100, accumulation": {"rate": 0.3, "accumulation": 2, "epochs": 6.0},
    "poisoned labels": {"objective": Poisoned(45), "rate": 1e-2, "epochs": 8.0},
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_divergence_stops_the_training(base: Path, tmp_path: Path, name: str) -> None:
    changes = dict(PLANTED[name])
    method = str(changes.pop("method", "full"))
    job = training(fresh(base, method, **changes_of(changes)), tmp_path, checkpoint_seconds=1e-9, **changes)
    seen: list[Status] = []
    job.on_status = seen.append
    with pytest.raises(TrainingError, match="diverged at step") as caught:
        job.run()
    assert caught.value.exit_code == 1 and "train.learning_rate=" in caught.value.fix
    assert seen[-1].step < job.total, "it does not wait for the end"
    for path in checkpoint.found(tmp_path):
        state = json.loads((path / "state.json").read_text())["progress"]
        assert state["losses"]["high"] == 0, "no state of a high step was kept"
        last = path
    assert str(last) in caught.value.fix


def changes_of(changes: dict[str, Any]) -> dict[str, Any]:
    return {"lora_rank": changes["lora_rank"]} if "lora_rank" in changes else {}


ORDINARY: dict[str, dict[str, Any]] = {
    "sft full": {},
    "sft, a high rate that still learns": {"rate": 1e-2},
    "one row at a time": {"batch_rows": 1, "epochs": 2.0},
    "lora": {"method": "lora", "lora_rank": 8, "rate": 1e-2},
    "muon": {"optimizer": "muon"},
    "wsd, long warm-up": {"schedule": "wsd", "warmup_fraction": 0.3, "rate": 1e-2},
    "noise that cannot be learned": {"rows": some_rows(60)},
    "from scratch, at a high rate": {"untrained": True, "rate": 3e-2},
    "from scratch": {"untrained": True},
    "by heart": {"rows": some_rows(12), "epochs": 40.0, "rate": 1e-2},
    "accumulation": {"accumulation": 3},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_training_is_never_stopped(base: Path, untrained: Path, tmp_path: Path, name: str) -> None:
    changes = dict(ORDINARY[name])
    base = untrained if changes.pop("untrained", False) else base
    method = str(changes.pop("method", "full"))
    job = training(fresh(base, method, **changes_of(changes)), tmp_path, patience=99, **changes)
    high: list[float] = []
    job.on_status = lambda status: high.append(job._watch.losses.high)
    assert job.run().stopped_by == "epochs"
    assert max(high) <= 1, "not even close"


def pairs() -> list[Tokens]:
    """The better row counts up, the worse counts down."""
    rows = []
    for row in counting_rows(48):
        down = row.ids[:2] + row.ids[:1:-1]
        rows.append(Tokens(row.ids + down, row.labels + [-100] * 2 + down[2:], len(row.ids)))
    return rows


def test_preferences_in_order_and_out_of_it(base: Path, tmp_path: Path) -> None:
    config = settings()
    good = training(
        fresh(base), tmp_path / "good", pairs(), objective=PreferenceOptimization(1, config), rate=1e-3, patience=99
    )
    assert good.run().stopped_by == "epochs"
    bad = training(
        fresh(base), tmp_path / "bad", pairs(), objective=PreferenceOptimization(1, config), rate=30.0, epochs=12.0,
        patience=99,
    )  # fmt: skip
    with pytest.raises(TrainingError):
        bad.run()


def test_a_nan_in_a_weight_is_named(base: Path, tmp_path: Path) -> None:
    model = fresh(base)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    with pytest.raises(
        TrainingError, match=r"the loss became nan at step 1, for model\.layers\.1\.mlp\.up_proj\.weight"
    ):
        training(model, tmp_path).run()
    assert not checkpoint.found(tmp_path) and not list(tmp_path.glob("*best*"))


def test_a_nan_where_nothing_reads_it_is_never_saved(base: Path, tmp_path: Path) -> None:
    """The loss is finite, for no row has this token, but the weights are not fit to be kept."""
    model = fresh(base)
    with torch.no_grad():
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # untied, so that it is only read
        model.model.embed_tokens.weight[360] = float("inf")
    with pytest.raises(TrainingError, match=r"embed_tokens\.weight holds what is no number"):
        training(model, tmp_path).run()
    assert not checkpoint.found(tmp_path) and not list(tmp_path.glob("*best*"))


def test_a_gradient_that_is_not_finite_changes_no_weight(base: Path, tmp_path: Path) -> None:
    class Infinite(Pretrain):
        def loss(self, model: Any, batch: Any) -> Any:
            total, count, extra = super().loss(model, batch)
            if model.training:
                weight = model.model.norm.weight
                total = total + (weight - weight.detach()).abs().sqrt().sum()  # its value is 0, its slope infinite
            return total, count, extra

    model = fresh(base)
    before = digest(model)
    with pytest.raises(TrainingError, match="the norm of the gradient became nan at step 1"):
        training(model, tmp_path, objective=Infinite(1)).run()
    assert digest(model) == before


def diverging(base: Path, folder: Path, **changes: Any) -> Training:
    """Learns for forty batches, then is given noise."""
    job = training(
        fresh(base), folder, objective=Poisoned(45), rate=1e-2, epochs=8.0, checkpoint_seconds=1e-9, patience=99,
        **changes,
    )  # fmt: skip
    return job


def test_the_same_command_says_so_at_once_and_going_on_is_possible(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as first:
        diverging(base, tmp_path).run()
    assert (tmp_path / MARKER).exists()
    best = next(iter(tmp_path.glob("best-*.safetensors")))
    assert str(best) in first.value.fix and all(t.isfinite().all() for t in load_file(best).values())
    steps: list[int] = []
    again = diverging(base, tmp_path)
    again.on_status = lambda status: steps.append(status.step)
    with pytest.raises(TrainingError, match="stopped before, and would again: training diverged"):
        again.run()
    assert steps == []
    unwatched = diverging(base, tmp_path, divergence_steps=0)
    unwatched.on_status = lambda status: steps.append(status.step)
    unwatched.run()
    assert steps[0] > 20 and not (tmp_path / MARKER).exists(), "it went on from the last good checkpoint"


def test_another_training_is_not_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        diverging(base, tmp_path).run()
    other = training(fresh(base), tmp_path)
    other.key = "other"
    assert other.run().stopped_by == "epochs" and not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("stop", [12, 48])
def test_a_resumed_training_is_judged_as_an_uninterrupted_one(base: Path, tmp_path: Path, stop: int) -> None:
    """Stopped before the noise begins, or while it is already suspected: the same step, the same words."""
    with pytest.raises(TrainingError) as whole:
        diverging(base, tmp_path / "whole").run()
    job = diverging(base, tmp_path / "parts")

    def leave(status: Status) -> None:
        if status.step == stop:
            raise KeyboardInterrupt

    job.on_status = leave
    with pytest.raises(KeyboardInterrupt):
        job.run()
    done = json.loads((checkpoint.found(tmp_path / "parts")[-1] / "state.json").read_text())["progress"]
    job = diverging(base, tmp_path / "parts")
    job.objective = Poisoned(45 - done["step"])
    with pytest.raises(TrainingError) as parts:
        job.run()
    assert parts.value.message == whole.value.message


def test_the_statistics_are_needed_to_judge_alike(base: Path, tmp_path: Path) -> None:
    """The control: a checkpoint without them gives another verdict."""
    with pytest.raises(TrainingError) as whole:
        diverging(base, tmp_path).run()
    (tmp_path / MARKER).unlink()
    newest = checkpoint.found(tmp_path)[-1] / "state.json"
    state = json.loads(newest.read_text())
    step, state["progress"]["losses"] = state["progress"]["step"], {}
    state.pop("seal")
    newest.write_text(json.dumps({**state, "seal": hash_json(state)}))
    job = diverging(base, tmp_path)
    job.objective = Poisoned(45 - step)
    try:
        job.run()
        message = ""
    except TrainingError as error:
        message = error.message
    assert message != whole.value.message


def test_a_time_budget_ends_the_run_and_the_schedule_with_it(base: Path, tmp_path: Path) -> None:
    seen: list[Status] = []
    notes: list[str] = []
    job = training(fresh(base), tmp_path, epochs=5000.0, max_minutes=0.03, evaluations=6, patience=99)
    job.on_status, job.on_note = seen.append, notes.append
    result = job.run()
    assert result.stopped_by == "max_minutes" and result.steps < result.total_steps
    assert "bit-identical" in notes[0] and "max_minutes" in notes[-1]
    rates = [s.learning_rate for s in seen]
    assert max(rates) > 2.5e-3 and rates[-1] < 0.2 * max(rates), "the learning rate fell to its end"
    assert 4 <= sum(s.dev_loss is not None for s in seen) <= 7 and seen[-1].dev_loss is not None


def test_the_time_of_earlier_sessions_counts() -> None:
    budget = Budget.of(100, settings(max_minutes=2.0))
    assert budget.position(Progress(step=10, seconds=0)) == 10
    assert budget.position(Progress(step=10, seconds=60)) == 50
    assert not budget.ended(Progress(step=10, seconds=119)) and budget.ended(Progress(step=10, seconds=120))
    assert budget.eta(Progress(step=10, seconds=60), 0.1) == pytest.approx(9)
    assert budget.eta(Progress(step=10, seconds=60), 5.0) == pytest.approx(60)


def test_without_a_time_the_dev_loss_is_due_at_fixed_steps() -> None:
    budget = Budget.of(10, settings(evaluations=3))
    due = [step for step in range(1, 11) if budget.measures(step - 1, Progress(step=step, seconds=1e9))]
    assert due == [4, 8, 10]


def test_what_ended_the_training_is_said(base: Path, tmp_path: Path) -> None:
    assert training(fresh(base), tmp_path / "a").run().stopped_by == "epochs"
    job = training(fresh(base), tmp_path / "b", max_steps=5)
    notes: list[str] = []
    job.on_note = notes.append
    result = job.run()
    assert (result.stopped_by, result.steps) == ("max_steps", 5) and "train.max_steps" in notes[-1]

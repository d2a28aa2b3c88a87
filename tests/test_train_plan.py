"""The plan: it changes nothing, rests on the longest batch, and refuses with settings that really fit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from little import make_base
from tinyforge import adapters
from tinyforge.cli import main
from tinyforge.config import TrainConfig
from tinyforge.dataset.batches import BatchPlan
from tinyforge.models.machine import PeakMemory, resident
from tinyforge.pipeline import fits
from tinyforge.pipeline.fits import Around, as_settings, lighter_methods, refusal, smaller_batches
from tinyforge.records import Tokens
from tinyforge.train import probe
from tinyforge.train.cost import Work
from tinyforge.train.loop import Training
from tinyforge.train.objectives.dpo import PreferenceOptimization
from tinyforge.train.objectives.pretrain import Pretrain
from tinyforge.train.plan import MB, Room, estimate
from tinyforge.train.probe import Probe, Sizes
from tinyforge.train.rows import EncodedRows

ROOM = Room(memory=1 << 40, disk=1 << 40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def some_rows(lengths: list[int]) -> list[Tokens]:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(6, 250, (length,), generator=generator).tolist() for length in lengths]
    return [Tokens(row, [-100, *row[1:]]) for row in ids]


def training(model: Any, folder: Path, lengths: list[int], objective: Any = None, **changes: Any) -> Training:
    settings = {"epochs": 2.0, "batch_tokens": 64, "threads": 1, "checkpoint_seconds": 1e9, **changes}
    rows = EncodedRows(some_rows(lengths))
    dev = EncodedRows(some_rows(lengths[:4]))
    config = TrainConfig(**settings)
    return Training(model, objective or Pretrain(1), rows, dev, config, 1e-2, folder, "k", 3)


def digest(model: Any) -> str:
    data = b"".join(t.detach().float().numpy().tobytes() for _, t in sorted(model.state_dict().items()))
    return hashlib.sha256(data).hexdigest()


LENGTHS = [4, 28, 9, 17, 30, 6, 21, 12, 25, 8, 14, 19]


@pytest.mark.parametrize(
    ("method", "precision", "changes"),
    [
        ("full", torch.float32, {"optimizer": "muon"}),
        ("full", torch.bfloat16, {"accumulation": 2}),
        ("lora", torch.float32, {"lora_dropout": 0.3}),
        ("lora", torch.float32, {"gradient_checkpointing": True, "lora_dropout": 0.3}),
    ],
)
def test_a_planned_training_ends_with_the_same_weights(
    base: Path, tmp_path: Path, method: str, precision: Any, changes: dict[str, Any]
) -> None:
    torch.set_num_threads(1)
    ends = []
    for name in ("alone", "planned"):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=precision)
        if method != "full":
            model = adapters.attach(model, TrainConfig(method=method, **changes), 0)
        job = training(model, tmp_path / name, LENGTHS, **changes)
        before = digest(model)
        if name == "planned":
            found = estimate(job, tmp_path / "plan", ROOM)
            assert found.measured >= 2 and digest(model) == before
            assert not (tmp_path / "plan").exists()
        job.run()
        assert digest(model) != before
        ends.append(digest(model))
    assert ends[0] == ends[1]


def test_preferences_keep_their_reference(base: Path, tmp_path: Path) -> None:
    """DPO's frozen copy is taken once; one taken after the measured steps would be another reference."""
    torch.set_num_threads(1)
    ends = []
    for planned in (False, True):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        pairs = [
            Tokens(a.ids + b.ids, a.labels + b.labels, len(a.ids))
            for a, b in zip(some_rows(LENGTHS)[::2], some_rows(LENGTHS)[1::2], strict=True)
        ]
        config = TrainConfig(epochs=2.0, batch_tokens=128, threads=1, checkpoint_seconds=1e9)
        objective = PreferenceOptimization(1, config)
        job = Training(model, objective, EncodedRows(pairs), None, config, 1e-3, tmp_path / str(planned), "k", 3)
        if planned:
            estimate(job, tmp_path / "plan", ROOM)
        job.run()
        ends.append(digest(model))
    assert ends[0] == ends[1]


def test_undoing_is_what_keeps_the_weights(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: with steps that are not undone, the same comparison fails."""
    from contextlib import contextmanager

    @contextmanager
    def not_undone(*_: Any) -> Any:
        (tmp_path / "plan" / "start.safetensors").touch()
        yield

    monkeypatch.setattr(probe, "undone", not_undone)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    job = training(model, tmp_path / "run", LENGTHS)
    before = digest(model)
    estimate(job, tmp_path / "plan", ROOM)
    assert digest(model) != before


def test_typical_batches_stand_for_all() -> None:
    # Costs 1..9 in thirds: the middles 2, 5 and 8 stand for 6, 15 and 24 of cost, which is 3 batches each.
    rows = np.arange(1, 10)
    sizes = Sizes(rows, np.ones(9, dtype=np.int64), rows.astype(float))
    assert sizes.typical(3) == [(1, 3.0), (4, 3.0), (7, 3.0)]
    skewed = Sizes(rows, np.ones(9, dtype=np.int64), np.array([1.0, 1, 1, 2, 2, 2, 3, 6, 9]))
    assert skewed.typical(3)[-1] == (7, 3.0) and skewed.typical(1) == [(4, 13.5)]
    assert sizes.typical(99) == [(n, 1.0) for n in range(9)]


def test_the_largest_batches_are_by_tokens_and_by_pairs(base: Path) -> None:
    # Budget 64: eight rows of 8 (64 tokens, 512 pairs) in one batch, the row of 40 (1,600 pairs) in another.
    lengths = np.array([8] * 8 + [40])
    model = AutoModelForCausalLM.from_pretrained(base)
    plan = BatchPlan(lengths, 64, 0, 1)
    sizes = Sizes.of(plan, lengths, len(plan), Work.of(model))
    shapes = {(int(sizes.rows_N[n]), int(sizes.widths_N[n])) for n in sizes.largest()}
    assert shapes == {(8, 8), (1, 40)}


def wide_model() -> Any:
    """Few weights and many bytes for each token, so that a long batch stands out from everything else."""
    shape = {"vocab_size": 256, "hidden_size": 64, "intermediate_size": 2048, "num_hidden_layers": 4}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 16384}
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape, **heads))


LONG = [40] * 30 + [3072]


def test_the_peak_is_that_of_the_longest_batch(tmp_path: Path) -> None:
    """Within 15% of what the run takes; the control plans on the shortest batch and is far below."""
    torch.set_num_threads(1)
    job = training(wide_model(), tmp_path / "a", LONG, batch_tokens=256, epochs=1.0, evaluations=1)
    job.dev = None
    shortest = int(np.argmin(Probe(job, ROOM.memory).sizes.tokens))
    low = estimate(job, tmp_path / "plan", ROOM, longest=[shortest]).memory.peak
    start = resident() / MB
    planned = estimate(job, tmp_path / "plan", ROOM)
    with PeakMemory() as held:
        job.run()
    real = held.value() / MB
    assert planned.longest == (1, 3072)
    assert real - start > 100, "the longest batch must stand out for this test to mean anything"
    assert planned.memory.peak == pytest.approx(real, rel=0.15)
    assert low - start < 0.5 * (real - start)


def test_parts_of_the_memory_by_hand(base: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    count = sum(p.numel() for p in model.parameters())
    job = training(model, tmp_path / "run", LENGTHS)
    memory = estimate(job, tmp_path / "plan", ROOM).memory
    assert memory.weights * MB == 2 * count and memory.masters * MB == memory.gradients * MB == 4 * count
    assert memory.optimizer * MB == pytest.approx(8 * count, rel=0.01)  # and AdamW's step counters
    assert memory.peak >= resident() / MB - 64
    loaded = estimate(job, tmp_path / "plan", ROOM, loading=1 << 40).memory
    assert loaded.peak == loaded.loading == (1 << 40) / MB


def test_time_is_added_up_from_its_parts(base: Path, tmp_path: Path) -> None:
    """What the plan takes from measurements, put in by hand: 6 steps of 2 s and 0.5 s, 3 dev losses of 4 s."""
    from tinyforge.train import plan
    from tinyforge.train.probe import Measured

    model = AutoModelForCausalLM.from_pretrained(base)
    job = training(model, tmp_path / "run", [60] * 6, epochs=1.0, evaluations=3, divergence_steps=0)
    found = Measured(steps_seconds=12.0, update_seconds=0.5, dev_seconds=4.0, rate_seconds=0.0)
    found.checkpoint_seconds, found.checkpoint_bytes, found.best_bytes = 0.3, 300, 100
    duration = plan._duration(job, found, 7.0)
    assert (duration.steps, duration.dev, duration.after) == (15.0, 12.0, 7.0)
    # Each dev loss may be the best: 0.3 s for a checkpoint and 0.1 s for the weights; then the result, 1 ms a byte.
    size = sum(p.nbytes for p in model.parameters())
    assert duration.checkpoints == pytest.approx(3 * 0.4 + size * 1e-3)
    limited = replace(job, config=job.config.model_copy(update={"max_minutes": 0.25}))
    assert plan._duration(limited, found, 0.0).steps == pytest.approx(15 - 12)


def test_what_does_not_fit_is_refused_with_what_does(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    job = training(wide_model(), tmp_path / "a", [128] * 32, batch_tokens=4096, epochs=1.0)
    full = estimate(job, tmp_path / "plan", ROOM)
    room = Room(int((full.memory.peak - 0.5 * full.memory.activations) * MB), ROOM.disk)
    found = estimate(job, tmp_path / "plan", room)
    assert not found.fits and "of memory at its peak" in found.shortage()
    offered = fits.fitting_changes(job, found, room, Around())
    changes, fitting = next(offered)
    assert fitting.fits and fitting.memory.peak < found.memory.peak
    assert changes["batch_tokens"] * changes["accumulation"] == 4096
    # The suggestion, estimated anew and run, stays below the limit.
    again = replace(job, config=job.config.model_copy(update=changes))
    assert estimate(again, tmp_path / "plan", room).fits
    with PeakMemory() as held:
        again.run()
    assert held.value() < room.memory


def test_nothing_is_run_where_the_weights_alone_are_too_much(tmp_path: Path) -> None:
    job = training(wide_model(), tmp_path / "a", [64] * 8)
    found = estimate(job, tmp_path / "plan", Room(resident(), ROOM.disk))
    assert found.measured == 0 and found.duration is None and not found.fits
    assert estimate(job, tmp_path / "plan", Room(ROOM.memory, 1000)).shortage().endswith("1 MB are free")
    error = refusal(job, found, Room(resident(), ROOM.disk), Around())
    assert error.exit_code == 2 and "smaller base" in str(error)


def test_candidates_by_hand() -> None:
    config = TrainConfig(batch_tokens=1024, accumulation=2)
    assert smaller_batches(config) == [
        {"batch_tokens": 512, "accumulation": 4},
        {"batch_tokens": 256, "accumulation": 8},
    ]
    assert smaller_batches(TrainConfig(batch_tokens=300)) == []
    assert lighter_methods("full")[0] == "lora" and "full" not in lighter_methods("lora")
    assert lighter_methods("qlora") == lighter_methods("ia3") == []
    changes = {"gradient_checkpointing": True, "batch_tokens": 256}
    assert as_settings(changes) == "--set train.gradient_checkpointing=true --set train.batch_tokens=256"


# The command.

QUESTIONS = [f"What does tool number {n} cost in the library?" for n in range(24)]
SMALL = [
    *("train.epochs=2", "train.threads=1", "train.precision=fp32", "train.evaluations=1", "train.guard=false"),
    *("train.batch_tokens=512", "dataset.max_length=512"),
]


def arguments(*settings: str) -> list[str]:
    return [part for setting in (*SMALL, *settings) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"input": q, "output": f"It costs {n} tokens."} for n, q in enumerate(QUESTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_plan_command(base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    given = ["plan", str(data), "--base", str(base), "--out", str(out), "--price", "3.6", *arguments()]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objective"] == "sft" and found["method"] == "full" and found["fits"]
    parts = ("weights", "masters", "gradients", "optimizer", "activations", "rest")
    assert set(found["memory_mb"]) == {"peak", *parts, "loading", "available"}
    assert set(found["seconds"]) == {"steps", "dev", "checkpoints", "after", "total"}
    assert set(found["disk_mb"]) == {"peak", "kept", "checkpoint", "available"}
    assert found["cost"] == pytest.approx(found["seconds"]["total"] * 3.6 / 3600, abs=1e-3)
    assert list(tmp_path.iterdir()) == [], "a plan leaves nothing behind"
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "at 3.6 per hour" in shown and f"--out {out}" in shown.splitlines()[-1]


def test_plan_refuses_like_training(base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["plan", str(data)], ["train", str(data), "--out", str(tmp_path / "run")]):
        assert main([*command, "--base", str(base), *arguments("train.memory_gb=0.001")]) == 2
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyforge: ")]
        assert len(error) == 1 and "of memory at its peak, and 1 MB can be had" in error[0]
    assert main(["plan", str(tmp_path / "none.jsonl"), "--base", str(base)]) == 2
    assert main(["plan", str(data), "--base", str(base), "--price=-1"]) == 2
    assert "price" in capsys.readouterr().err


def test_training_says_its_plan_first_and_repeats_it_when_it_continues(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["train", str(data), "--base", str(base), "--out", str(tmp_path / "run"), *arguments()]
    assert main(run) == 0
    shown = capsys.readouterr().err.splitlines()
    planned = [number for number, line in enumerate(shown) if line.startswith("  plan: ")]
    stepped = [number for number, line in enumerate(shown) if line.startswith("  step ")]
    assert len(planned) == 2 and max(planned) < min(stepped)
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds.index("plan") < kinds.index("step")


def test_auto_picks_settings_that_can_be_repeated(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [setting for setting in SMALL if "precision" not in setting]
    given = [part for setting in settings for part in ("--set", setting)]
    run = ["train", str(data), "--base", str(base), "--out", str(tmp_path / "run"), "--auto", *given]
    assert main(run) == 0
    shown = capsys.readouterr().err
    assert "auto: method full: the base has at most 100 million weights" in shown
    repeated = next(line for line in shown.splitlines() if "auto: the same again: " in line)
    config = json.loads((tmp_path / "run" / "auto.json").read_text())["changes"]
    assert config["batch_tokens"] * config["accumulation"] == 512
    words = repeated.split(": ", 2)[2].split()
    assert main(["train", str(data), "--base", str(base), "--out", str(tmp_path / "again"), *given, *words]) == 0
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("run", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    capsys.readouterr()
    assert main(run) == 0
    assert repeated in capsys.readouterr().err, "what was picked stays for the run"

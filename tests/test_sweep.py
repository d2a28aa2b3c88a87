"""`tinyforge sweep`: the same trials for the same seed, stopped ones go on, bad ones end early, the best is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from tinyforge.cli import main
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline import search
from tinyforge.pipeline.search import Choice, Range, Trial
from tinyforge.recipe import load_config
from tinyforge.run import Run, read_json

pytest.importorskip("optuna")

FAST = [
    *("train.threads=1", "train.precision=fp32", "train.guard=false", "train.max_steps=6", "train.evaluations=3"),
    *("dataset.validation_split=0.2", "dataset.max_length=64", "train.warmup_fraction=0"),
]
OVER = ["--over", "train.learning_rate=1e-4..1e-1:log", "--over", "train.weight_decay=0,0.1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), hidden=16, layers=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = [{"input": f"What does tool {i} cost?", "output": f"It costs {i % 7} tokens."} for i in range(24)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def command(rows: Path, out: Path, base: Path, trials: int, *more: str) -> list[str]:
    given = [part for setting in FAST for part in ("--set", setting)]
    return ["sweep", *map(str, (rows, "--out", out, "--base", base, "--trials", trials)), *given, *more]


def tried(out: Path) -> list[dict[str, Any]]:
    """The trials without what differs from one time to the next."""
    kept = [read_json(path) for path in sorted((out / "trials").glob("*.json"))]
    return [{name: value for name, value in trial.items() if name != "seconds"} for trial in kept]


def weights(out: Path) -> list[str]:
    return [p.parent.name for p in sorted((out / "trials").glob("*/*")) if p.name in ("model", "adapter")]


@pytest.fixture(scope="module")
def swept(rows: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("swept") / "sweep"
    assert main(command(rows, out, base, 4, *OVER)) == 0
    return out


def test_the_best_is_kept_and_its_recipe_trains_it_again(swept: Path, rows: Path, base: Path, tmp_path: Path) -> None:
    found = read_json(swept / "sweep.json")
    losses = {t["number"]: t["dev_loss"] for t in found["trials"] if t["dev_loss"] is not None}
    best = found["best"]["number"]
    assert losses[best] == min(losses.values()) < losses[0], "better than the settings as they were"
    assert weights(swept) == [f"{best:03d}"] and Path(found["run"]) == swept / "trials" / f"{best:03d}"
    config = load_config(swept / "best.yaml")
    assert config.train.learning_rate == found["best"]["values"]["train.learning_rate"]
    assert config.base == str(base) and config.train.max_steps == 6 and config.dataset.validation_split == 0.2
    assert main(["train", str(rows), "--out", str(tmp_path / "again"), "--config", str(swept / "best.yaml")]) == 0
    assert read_json(tmp_path / "again" / "train.json")["dev_loss"] == losses[best]


def test_a_second_call_trains_nothing_and_more_trials_continue(
    swept: Path, rows: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, steps = tried(swept), [Run(p).events("step") for p in sorted((swept / "trials").glob("*/"))]
    assert main(command(rows, swept, base, 4, *OVER, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["best"] == read_json(swept / "sweep.json")["best"]
    assert [Run(p).events("step") for p in sorted((swept / "trials").glob("*/"))] == steps
    assert main(command(rows, swept, base, 5, *OVER)) == 0
    shown = capsys.readouterr().out
    assert tried(swept)[:4] == before and len(tried(swept)) == 5
    assert "<- best" in shown and f"--config {swept}/best.yaml" in shown and "tinyforge predict" in shown


def test_a_killed_sweep_goes_on_as_if_it_had_not_been(swept: Path, rows: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    given = [sys.executable, "-m", "tinyforge", *command(rows, out, base, 3, *OVER)]
    process = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(6000):
        if (out / "trials" / "001").is_dir() and Run(out / "trials" / "001").events("step"):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert tried(out)[1]["state"] == "running" and not (out / "sweep.json").exists()
    assert main(command(rows, out, base, 3, *OVER)) == 0
    assert tried(out) == tried(swept)[:3]


def test_a_trial_that_is_refused_has_failed_and_the_sweep_goes_on(rows: Path, base: Path, tmp_path: Path) -> None:
    # No fourier coefficients fit into matrices this small: only attaching them shows it.
    assert main(command(rows, tmp_path / "sweep", base, 3, "--over", "train.method=full,fourierft")) == 0
    states = [trial["state"] for trial in tried(tmp_path / "sweep")]
    assert states[0] == "finished" and "failed" in states and (tmp_path / "sweep" / "best.yaml").is_file()


def test_another_seed_tries_other_values(swept: Path, rows: Path, base: Path, tmp_path: Path) -> None:
    """The control of the test above."""
    out = tmp_path / "other"
    assert main(command(rows, out, base, 2, *OVER, "--set", "seed=7")) == 0
    assert tried(out)[1]["values"] != tried(swept)[1]["values"]


def test_what_is_worse_than_the_median_ends_early(
    rows: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "PRUNE_AFTER", 1)
    over = ["--over", "train.learning_rate=1e-7,2e-7,4e-7", "--set", "train.epochs=2", "--keep"]
    assert main(command(rows, tmp_path / "sweep", base, 3, *over)) == 0
    trials = tried(tmp_path / "sweep")
    assert [t["state"] for t in trials] == ["finished", "pruned", "pruned"], (
        "against the default rate they learn nothing"
    )
    assert all(t["steps"] < 6 and t["dev_loss"] is None for t in trials[1:])
    assert weights(tmp_path / "sweep") == ["000"]
    assert "pruned after" in capsys.readouterr().out


def test_minutes_stop_it_and_more_continue(rows: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    assert main(command(rows, out, base, 2, *OVER, "--minutes", "1e-9")) == 1
    assert main(command(rows, out, base, 2, *OVER, "--minutes", "60")) == 0
    assert len(tried(out)) == 2


def test_wrong_input_is_named(
    swept: Path, rows: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text('{"input": "a?", "output": "b"}\n' * 3)
    cases = [
        (rows, tmp_path / "a", ["--set", "dataset.validation_split=0"], "validation_split = 0"),
        (few, tmp_path / "b", [], "no rows are held out"),
        (rows, swept, ["--set", "train.patience=2"], "holds a sweep with other train options"),
        (rows, tmp_path / "c", ["--over", "train.objective=sft,dpo"], "changes what the dev loss measures"),
        (rows, tmp_path / "c", ["--over", "train.method=full,loraa"], "unknown train.method 'loraa'"),
        (rows, tmp_path / "c", ["--over", "train.trackers=wandb"], "does not change what is learned"),
        (rows, tmp_path / "c", ["--over", "train.lora_rank=0,8"], "--over train.lora_rank=0"),
        (rows, tmp_path / "c", ["--over", "train.learning_rate=1..0.1"], "LOW must be below HIGH"),
        (rows, tmp_path / "c", ["--over", "dataset.max_length=64,128"], "expected train.OPTION=VALUES"),
        (tmp_path / "none", tmp_path / "c", [], "no such file"),
    ]
    for data, out, more, said in cases:
        capsys.readouterr()
        assert main(command(data, out, base, 2, *more)) == 2, said
        assert said in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tinyforgeai\[sweep\]"):
        search.library()


def test_what_is_searched() -> None:
    config = Config()  # type: ignore[call-arg]
    assert search.parse("train.learning_rate=1e-5..1e-3:log", config) == Range(
        "train.learning_rate", 1e-5, 1e-3, log=True
    )
    assert search.parse("train.lora_rank=4..64:log", config) == Range("train.lora_rank", 4, 64, True, whole=True)
    assert search.parse("train.schedule=linear,cosine", config) == Choice("train.schedule", ("linear", "cosine"))
    summary = {"learning_rate": 2e-4, "epochs": 3.0, "method": "lora"}
    assert search.around(config, summary) == [
        Range("train.learning_rate", 4e-5, 1e-3, log=True),
        Choice("train.lora_rank", (4, 8, 16, 32, 64)),
        Choice("train.epochs", (1.5, 3.0, 6.0)),
    ]
    fixed = load_config(settings=["train.epochs=3", "train.learning_rate=1e-3"])
    assert [option.key for option in search.around(fixed, {**summary, "method": "full"})] == []
    changed = search.with_values(config, {"train.lora_rank": 4})
    assert changed.train.lora_alpha == 8, "the scale, alpha / rank, stays 2"


SPACE = [Range("train.learning_rate", 1e-5, 1e-3, log=True), Choice("train.lora_rank", (4, 8))]


def finished(number: int, rate: float, loss: float, rank: int = 4, **measured: float) -> Trial:
    values = {"train.learning_rate": rate, "train.lora_rank": rank}
    return Trial(number, values, "finished", loss, {int(place[1:]): found for place, found in measured.items()})


def test_proposals_depend_on_nothing_but_the_trials_and_the_seed() -> None:
    trials = [finished(n, 10.0 ** (-5 + n / 4), abs(n - 4)) for n in range(8)]
    first = search.propose(SPACE, trials, 1, 8)
    assert first is not None and first == search.propose(SPACE, trials, 1, 8)
    assert first != search.propose(SPACE, trials, 2, 8)
    assert 1e-5 <= first["train.learning_rate"] <= 1e-3 and first["train.learning_rate"] == float(
        f"{first['train.learning_rate']:.3g}"
    )
    only = [Choice("train.lora_rank", (4, 8))]
    assert search.propose(only, [Trial(0, {"train.lora_rank": 4})], 1, 1) == {"train.lora_rank": 8}
    assert search.propose(only, [Trial(n, {"train.lora_rank": 4 * (n + 1)}) for n in range(2)], 1, 2) is None


def test_hopeless_by_hand() -> None:
    # After six of twelve evaluations the finished trials stood at 1, 2, 3 and 4: the median is 2.5.
    trials = [finished(n, 1e-4, 1.0, n6=float(n + 1), n2=float(n + 1)) for n in range(4)]
    assert search.hopeless(trials, {6: 2.6}, 12) and not search.hopeless(trials, {6: 2.4}, 12)
    assert not search.hopeless(trials, {5: 2.4, 6: 9.0}, 12), "its best so far counts"
    assert not search.hopeless(trials, {2: 9.0}, 12), "too early to tell"
    assert not search.hopeless(trials[:3], {6: 9.0}, 12), "too few to compare with"

"""Trackers: what is on the disk is what was trained, without network or prompt, and they are closed however it ends."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from tinyforge.cli import main
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.run import Run
from tinyforge.train.status import Status
from tinyforge.train.trackers import tracking

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket leaves the machine."""

    def refuse(self: Any, address: Any) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "localhost", "::1"):
            raise AssertionError(f"network used: {address}")
        return connect(self, address)

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


def status(step: int, loss: float, dev_loss: float | None = None) -> Status:
    return Status(step, 10, loss, dev_loss, 1e-3, 0.5, 100.0, 1.0, 50.0, 0.1, {"accuracy": step / 10})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of the one run in the folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    (place,) = [p for p in folder.iterdir() if p.is_dir()]
    read = accumulator(str(place), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def writers() -> list[str]:
    """TensorBoard's writers that are not closed: each has a thread."""
    return [type(t).__name__ for t in threading.enumerate() if type(t).__name__ == "_AsyncWriterThread"]


def test_tensorboard_has_the_values_and_is_closed_after_an_early_stop(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with tracking(["tensorboard"], tmp_path / "trackers", KEY, {"epochs": 2.0, "base": {"name": "x"}}) as report:
        report(status(1, 3.0))
        report(status(2, 2.5, dev_loss=2.75))
        assert writers(), "the control: it is open while it runs"
    assert not writers(), "two of ten planned steps: closed all the same"
    found = scalars(tmp_path / "trackers")
    assert found["loss"] == [(1, 3.0), (2, 2.5)] and found["dev_loss"] == [(2, 2.75)]
    assert [step for step, _ in found["accuracy"]] == [1, 2]


def test_it_is_closed_after_an_exception_and_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = tmp_path / "trackers"
    with pytest.raises(KeyboardInterrupt), tracking(["tensorboard"], folder, KEY, {}) as report:
        for step in (1, 2, 3):
            report(status(step, 4.0 - step))
        raise KeyboardInterrupt
    assert not writers()
    # The kill lost step 3; it is made again, and TensorBoard shows it once.
    with tracking(["tensorboard"], folder, KEY, {}) as report:
        for step in (3, 4):
            report(status(step, 40.0 - step))
    assert scalars(folder)["loss"] == [(1, 3.0), (2, 2.0), (3, 37.0), (4, 36.0)]


def test_unknown_and_missing_trackers_are_named_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"'nonsense'.*Known: tensorboard"), tracking(["nonsense"], tmp_path, KEY, {}):
        pass
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install mlflow"), tracking(["mlflow"], tmp_path, KEY, {}):
        pass
    assert not list(tmp_path.iterdir())


def test_wandb_offline_never_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    for steps in ((1, 2), (3,)):
        with tracking(["wandb"], tmp_path / "trackers", KEY, {"epochs": 2.0}) as report:
            for step in steps:
                report(status(step, 4.0 - step))
    kept = sorted((tmp_path / "trackers" / "wandb").glob("offline-run-*"))
    assert len(kept) == 2 and all(p.name.endswith(KEY[:16]) for p in kept), "one run, in two parts for `wandb sync`"
    written = b"".join(next(iter(p.glob("*.wandb"))).read_bytes() for p in kept)
    assert b"gradient_norm" in written and b"epochs" in written


def test_mlflow_keeps_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(variable, raising=False)
    for steps in ((1, 2), (3,)):
        with tracking(["mlflow"], tmp_path / "trackers", KEY, {"epochs": 2.0}) as report:
            for step in steps:
                report(status(step, 4.0 - step))
        assert mlflow.active_run() is None
    client = mlflow.MlflowClient(f"sqlite:///{(tmp_path / 'trackers' / 'mlflow.db').resolve()}")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [(1, 3), (2, 2), (3, 1)]
    assert run.data.params["epochs"] == "2.0"


def test_the_command_reports_each_step_and_a_tracker_is_no_reason_to_train_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    base = make_base(tmp_path / "base")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"input": f"Item {i}?", "output": f"Yes, {i}."}) + "\n" for i in range(6)))
    given = [rows, "--out", tmp_path / "run", "--base", base, "--set", "train.max_steps=4", "--set", "train.threads=1"]
    given += ["--set", "train.guard=false", "--set", "train.trackers=[tensorboard]"]
    command = ["train", *map(str, given)]
    assert main(command) == 0
    steps = {e["step"]: e["loss"] for e in Run(tmp_path / "run").events("step")}
    found = scalars(tmp_path / "run" / "trackers")
    assert len(steps) == 4 and [s for s, _ in found["loss"]] == list(steps)
    assert [v for _, v in found["loss"]] == pytest.approx(list(steps.values()), abs=1e-5)
    capsys.readouterr()
    assert main([*command, "--set", "train.trackers=[]"]) == 0
    assert "its result was reused" in capsys.readouterr().err
    assert main([*command, "--set", "train.learning_rate=0.002"]) == 0
    assert "its result was reused" not in capsys.readouterr().err, "the control: this one does change the weights"


def test_what_cannot_change_the_weights_is_in_no_key() -> None:
    plain = TrainConfig()  # type: ignore[call-arg]
    same = {"trackers": ["wandb"], "checkpoint_seconds": 3.0, "price_per_hour": 2.0, "memory_gb": 9.0}
    assert plain.model_copy(update=same).decisive() == plain.decisive()
    for name, value in {"epochs": 9.0, "optimizer_bits": 8, "compile": "on", "patience": 1, "threads": 1}.items():
        assert plain.model_copy(update={name: value}).decisive() != plain.decisive(), name

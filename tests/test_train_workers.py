"""Several processes of the command line train what one trains; and what happens when one of them dies.

They take seconds each, so most of these tests are marked slow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from little import make_base
from tinyforge.cli import main
from tinyforge.run import Run, read_json

SETTINGS = [
    *(
        "train.epochs=2",
        "train.learning_rate=0.003",
        "train.threads=2",
        "train.precision=fp32",
        "train.batch_tokens=256",
    ),
    *("train.evaluations=2", "dataset.validation_split=0.2", "train.guard=false"),
]
LONG = ["train.epochs=3000", "train.checkpoint_seconds=0.3", "train.evaluations=1", "train.patience=99"]
FSDP = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
machine_rank: 0
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 rows of mixed lengths, some with few target tokens and some with many."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    made = [
        {"input": f"What does tool {n} cost{' really' * (n % 7)}?", "output": f"It costs {n}{' a day' * (n % 5)}."}
        for n in range(23)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def words(data: Path, out: Path, base: Path, *settings: str, processes: int = 0) -> list[str]:
    given = [part for setting in (*SETTINGS, *settings) for part in ("--set", setting)]
    several = ["--processes", str(processes)] if processes else []
    return ["train", str(data), "--out", str(out), "--base", str(base), *several, *given]


def run(words: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyforge", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **more)


def weights(out: Path) -> dict[str, torch.Tensor]:
    full = out / "model" / "model.safetensors"
    return load_file(full if full.is_file() else out / "adapter" / "adapter_model.safetensors")


def difference(one: Path, other: Path) -> float:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def both(data: Path, folder: Path, base: Path, *settings: str) -> tuple[Path, Path]:
    """The same training by one process and by two."""
    one, two = folder / "one", folder / "two"
    assert main(words(data, one, base, *settings)) == 0
    done = run(words(data, two, base, *settings, processes=2))
    assert done.returncode == 0, done.stderr
    return one, two


def test_two_processes_train_what_one_trains_and_only_one_writes(llama: Path, rows: Path, tmp_path: Path) -> None:
    """Accumulation 3 by 2 workers: the rows of each micro-batch are divided."""
    one, two = both(rows, tmp_path, llama, "train.method=full", "train.accumulation=3")
    assert 0 < difference(one, two) < 1e-5, "equal bits would mean that nothing was divided"
    assert files(one) == files(two)
    steps = [[event["step"] for event in Run(out).events("step")] for out in (one, two)]
    assert steps[0] == steps[1] and len(steps[0]) == len(set(steps[0]))
    (planned,) = Run(two).events("plan")
    assert planned["processes"] == 2 and planned["batches"]["measured"] >= 2, "a plan that was made, and then undone"
    first, second = (read_json(out / "train.json") for out in (one, two))
    assert second["processes"] == 2 and first["processes"] == 1
    assert first["tokens"] == second["tokens"] and first["dev_loss"] == pytest.approx(second["dev_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "accumulation"), [("lora", 1), ("lora", 2), ("full", 1), ("full", 2)])
def test_the_same_for_every_way_to_divide(
    method: str, accumulation: int, llama: Path, rows: Path, tmp_path: Path
) -> None:
    one, two = both(rows, tmp_path, llama, f"train.method={method}", f"train.accumulation={accumulation}")
    assert difference(one, two) < 1e-5 and files(one) == files(two)


@pytest.mark.slow
def test_rows_that_are_compared_stay_together(llama: Path, tmp_path: Path) -> None:
    """KTO's estimate of the divergence is made from all pairs of a micro-batch."""
    data = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"Tool {n}?", "chosen": f"It costs {n}.", "rejected": "No" + " no" * n} for n in range(1, 18)]
    data.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    settings = ("train.method=lora", "train.objective=dpo", "train.preference_loss=kto", "train.accumulation=3")
    one, two = both(data, tmp_path, llama, *settings)
    assert difference(one, two) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_plan_of_two_processes_is_that_of_both(accumulation: int, llama: Path, rows: Path, tmp_path: Path) -> None:
    """Cut batches (1) and dealt ones (2): the weights twice, as many steps, and nothing left behind."""
    found = []
    for processes in (0, 2):
        given = words(rows, tmp_path / "run", llama, f"train.accumulation={accumulation}", processes=processes)
        done = run(["plan", *given[1:], "--json"])
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    one, two = found
    assert (one["processes"], two["processes"]) == (1, 2) and one["steps"] == two["steps"]
    for part in ("weights", "masters", "gradients", "optimizer"):
        assert two["memory_mb"][part] == pytest.approx(2 * one["memory_mb"][part], rel=0.01, abs=0.011)  # to 0.01 MB
    assert 1.5 < two["memory_mb"]["peak"] / one["memory_mb"]["peak"] < 2.5
    assert not list(tmp_path.iterdir())
    refused = run(["plan", *words(rows, tmp_path / "run", llama, "train.memory_gb=0.2", processes=2)[1:]])
    said = [line for line in refused.stderr.splitlines() if line.startswith("tinyforge: ")]
    assert refused.returncode == 2 and len(said) == 1 and "of memory" in said[0], refused.stderr
    assert not list(tmp_path.iterdir())


def started(words: Sequence[str], out: Path) -> subprocess.Popen[str]:
    """The command, once it has saved its first checkpoint."""
    command = [sys.executable, "-m", "tinyforge", *words]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(6000):
        if list(out.glob("checkpoints/step-*/state.json")) or job.poll() is not None:
            break
        time.sleep(0.02)
    assert job.poll() is None, job.communicate()
    return job


def gone(processes: Sequence[psutil.Process], seconds: float) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_a_killed_launcher_leaves_no_worker_and_the_training_continues_exactly(
    sharded: bool, llama: Path, rows: Path, tmp_path: Path
) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text(FSDP)
    several = ["--accelerate-config", str(file)] if sharded else ["--processes", "2"]
    epochs = f"train.epochs={20 if sharded else 80}"
    settings = ("train.method=lora", epochs, "train.checkpoint_seconds=0.3", "train.lora_dropout=0.1")

    def command(out: Path) -> list[str]:
        return [*words(rows, out, llama, *settings), *several]

    whole = run(command(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    job = started(command(tmp_path / "killed"), tmp_path / "killed")
    workers = psutil.Process(job.pid).children()
    assert len(workers) == 2
    job.kill()
    job.communicate()
    assert gone(workers, 10)
    assert not (tmp_path / "killed" / "adapter").exists(), "the kill came too late to show anything"
    again = run(command(tmp_path / "killed"))
    assert "continuing at step" in again.stderr, again.stderr
    names = ("whole", "killed")
    first, second = ((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in names)
    assert first == second


@pytest.mark.slow
def test_another_number_of_processes_does_not_continue(llama: Path, rows: Path, tmp_path: Path) -> None:
    job = started(words(rows, tmp_path / "run", llama, *LONG, processes=2), tmp_path / "run")
    job.send_signal(signal.SIGTERM)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 143 and said.count("the same command continues") == 1
    kept = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    other = run(words(rows, tmp_path / "run", llama, *LONG))
    assert other.returncode == 2 and "was made by 2 processes" in other.stderr and "--processes 2" in other.stderr
    assert kept and sorted((tmp_path / "run" / "checkpoints").glob("step-*")) == kept


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_command_within_seconds(llama: Path, rows: Path, tmp_path: Path) -> None:
    job = started(words(rows, tmp_path / "run", llama, *LONG, processes=2), tmp_path / "run")
    workers = psutil.Process(job.pid).children()
    rank = int(workers[1].environ()["RANK"])
    workers[1].kill()
    _, said = job.communicate(timeout=30)
    assert job.returncode == 1 and f"worker {rank} of 2 was ended by SIGKILL" in said
    assert "Traceback" not in said and gone(workers, 5)


@pytest.mark.slow
def test_an_error_is_said_once_with_its_exit_code(llama: Path, rows: Path, tmp_path: Path) -> None:
    done = run(words(rows, tmp_path / "run", llama, "train.method=nonsense", processes=2))
    said = [line for line in done.stderr.splitlines() if line.startswith("tinyforge: ")]
    assert done.returncode == 2 and len(said) == 1 and "nonsense" in said[0], done.stderr


@pytest.mark.slow
def test_torchrun_starts_the_same(llama: Path, rows: Path, tmp_path: Path) -> None:
    assert main(words(rows, tmp_path / "one", llama, "train.method=full")) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["-m", "tinyforge", *words(rows, tmp_path / "two", llama, "train.method=full"), "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["processes"] == 2, "printed once, as one JSON object"
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_workers_that_share_the_weights_train_what_one_trains(
    method: str, llama: Path, rows: Path, tmp_path: Path
) -> None:
    file = tmp_path / "accelerate.yaml"
    file.write_text(FSDP)
    settings = (f"train.method={method}", "train.accumulation=2")
    assert main(words(rows, tmp_path / "one", llama, *settings)) == 0
    done = run([*words(rows, tmp_path / "two", llama, *settings), "--accelerate-config", str(file)])
    assert done.returncode == 0 and "share the weights (FSDP2)" in done.stderr, done.stderr
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5 and files(tmp_path / "one") == files(tmp_path / "two")

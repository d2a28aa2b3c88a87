"""Several processes train what one trains; only the first writes; and what happens when one of them dies.

The workers are real processes of the command line. Those tests take seconds each, so most of them are marked slow.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from little import make_base
from tinyforge.cli import main
from tinyforge.config import TrainConfig
from tinyforge.environment import worker
from tinyforge.errors import InputError
from tinyforge.records import Tokens
from tinyforge.run import Run, read_json, write_folder_atomic, write_json
from tinyforge.train.device import choose_device, place
from tinyforge.train.distributed import World, cut, join, shares
from tinyforge.train.launch import _explain
from tinyforge.train.loss import IGNORED
from tinyforge.train.objectives.base import pad_rows
from tinyforge.train.objectives.sft import SupervisedFineTuning
from tinyforge.train.sharding import read_accelerate
from tinyforge.train.workers import divide

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


def batches_of(lengths: Sequence[int], *sizes: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    return [part.astype(np.int64) for part in np.split(np.arange(len(lengths)), np.cumsum(sizes)[:-1])]


def test_rows_are_cut_by_tokens() -> None:
    """Lengths 2 3 3 8: the middles of the rows lie at tokens 1, 3.5, 6.5 and 12 of 16, so half a batch is 3 rows."""
    lengths, indices = [2, 3, 3, 8], np.arange(4)
    assert [cut(indices, lengths, World(rank, 2)).tolist() for rank in range(2)] == [[0, 1, 2], [3]]
    assert [cut(indices, lengths, World(rank, 3)).tolist() for rank in range(3)] == [[0, 1], [2], [3]]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_row_is_learned_once_and_nobody_waits_for_ever(size: int, together: bool) -> None:
    lengths = [3, 9, 4, 4, 40, 1, 2, 2, 7]
    batches = batches_of(lengths, 4, 1, 4)
    parts = [shares(batches, lengths, World(rank, size), together, in_step=True) for rank in range(size)]
    assert sorted(int(i) for part in parts for share in part if share.counts for i in share.indices) == list(range(9))
    assert len({len(part) for part in parts}) == 1, "every worker goes through the model as often"
    idle = [shares(batches, lengths, World(rank, size), together) for rank in range(size)]
    assert all(share.counts for part in idle for share in part), "without that, a worker may have less to do"


def test_sums_are_divided_once(llama: Path) -> None:
    """The gradient of two workers' sums over one weight is that of the whole batch; the mean of their means is not."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    objective = SupervisedFineTuning(1)
    rows = [Tokens([5, *range(6, 6 + n)], [IGNORED, *range(6, 6 + n)]) for n in (2, 3, 5, 40)]

    def gradient(part: list[Tokens]) -> tuple[torch.Tensor, int]:
        model.zero_grad()
        summed, weight, _ = objective.loss(model, pad_rows(part, 1))
        summed.backward()
        return torch.cat([p.grad.reshape(-1) for p in model.parameters()]), weight

    whole, weight = gradient(rows)
    indices, lengths = np.arange(4), [len(row.ids) for row in rows]
    found = [gradient([rows[i] for i in cut(indices, lengths, World(rank, 2))]) for rank in range(2)]
    assert [w for _, w in found] == [10, 40] and weight == 50
    torch.testing.assert_close((found[0][0] + found[1][0]) / 50, whole / 50, atol=1e-6, rtol=0)
    of_means = (found[0][0] / 10 + found[1][0] / 40) / 2
    assert float((of_means - whole / 50).abs().max()) > 1e-3, "the control"


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this were the second of two workers."""
    names = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in {**names, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


def test_another_worker_than_the_first_writes_nothing(second: None, tmp_path: Path) -> None:
    assert worker().rank == 1
    run = Run.create(tmp_path / "run", "train")
    with run.lock():
        write_json(run.path("a.json"), {})
        write_folder_atomic(run.path("folder"), lambda folder: (folder / "b").touch())
        run.event("step", step=1)
    assert not list(tmp_path.iterdir())


def test_the_first_worker_writes(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "train")
    run.event("step", step=1)
    assert files(tmp_path) == ["run/events.jsonl", "run/run.json"], "the control"


def test_another_number_than_the_launcher_started_is_refused(second: None) -> None:
    with pytest.raises(InputError, match=r"processes = 3, but 2 workers"):
        join(TrainConfig(processes=3))


def test_one_process_alone_does_not_pass_for_several() -> None:
    with pytest.raises(InputError, match="but this is one process"):
        join(TrainConfig(processes=2))
    assert join(TrainConfig()) == World()


@pytest.mark.parametrize(
    ("codes", "code", "said"),
    [
        ({0: 75, 1: -9}, 1, "worker 1 of 2 was ended by SIGKILL"),
        ({0: -15, 1: -11}, 1, "worker 1 of 2 was ended by SIGSEGV"),
        ({0: 2, 1: 75}, 2, ""),
        ({1: 75}, 1, ""),
    ],
)
def test_the_worker_that_began_it_is_named(
    codes: dict[int, int], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _explain(codes, 2) == code
    assert said in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_a_missing_gpu_is_said() -> None:
    assert choose_device("auto").type == "cpu" == choose_device("cpu").type
    with pytest.raises(InputError, match="finds no CUDA device"):
        choose_device("cuda")


def test_tensors_are_made_where_the_model_is(llama: Path) -> None:
    """With another default device, a tensor that names none would lie there and not fit the others.

    KTO is left out: it collates rows of its own, on the CPU, and moves them.
    """
    from transformers import AutoModelForCausalLM

    from tinyforge.train.objectives.dpo import PreferenceOptimization
    from tinyforge.train.optimizer import MasterOptimizer

    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    row = Tokens([5, 6, 7, 8, 5, 6, 9], [IGNORED, IGNORED, 7, 8, IGNORED, IGNORED, 9], 4)
    for objective in (
        SupervisedFineTuning(1),
        PreferenceOptimization(1),
        PreferenceOptimization(1, TrainConfig(preference_loss="ipo")),
    ):
        getattr(objective, "prepare", lambda model: None)(model)
        batch = objective.collate([row, row])
        optimizer = MasterOptimizer(model, TrainConfig(), 1e-3)
        with torch.device("meta"):
            summed, weight, _ = objective.loss(model, batch)
            summed.backward()
            optimizer.gather()
            optimizer.step(weight, 1.0)
        assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_a_batch_is_placed_with_all_that_it_holds() -> None:
    @dataclass(frozen=True)
    class Inner:
        places: tuple[torch.Tensor, ...]
        names: tuple[str, ...] = ("a",)

    @dataclass(frozen=True)
    class Outer:
        ids: torch.Tensor
        inner: Inner

    placed = place(Outer(torch.ones(2), Inner((torch.ones(3),))), torch.device("meta"))
    assert placed.ids.is_meta and placed.inner.places[0].is_meta and placed.inner.names == ("a",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\nnum_processes: 2", "DeepSpeed is not done"),
        (FSDP.replace("fsdp_version: 2", "fsdp_version: 1"), "only FSDP2"),
        (FSDP.replace("fsdp_version: 2", "fsdp_version: 2\n  fsdp_offload_params: true"), "fsdp_offload_params"),
        (FSDP.replace("fsdp_version: 2", "fsdp_version: 2\n  fsdp_nonsense: 1"), "fsdp_nonsense is not known"),
        (FSDP.replace("mixed_precision: 'no'", "mixed_precision: fp16"), "fp16"),
        (FSDP.replace("num_machines: 1", "num_machines: 2"), "torchrun"),
        ("distributed_type: XLA\nnum_processes: 2", "XLA"),
        ("nonsense: 1", "not a file of"),
        ("[1, 2", "not a file of"),
    ],
)
def test_an_accelerate_file_that_asks_for_more_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_accelerate(path)


def test_an_accelerate_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_text(FSDP.replace("fsdp_version: 2", "fsdp_version: 2\n  fsdp_state_dict_type: FULL_STATE_DICT"))
    plan = read_accelerate(path)
    assert plan.processes == 2 and plan.shards and "fsdp_state_dict_type has no effect" in plan.notes[0]
    path.write_text("distributed_type: MULTI_CPU\nnum_processes: 4")
    assert read_accelerate(path).processes == 4 and not read_accelerate(path).shards
    with pytest.raises(InputError, match="no such file"):
        read_accelerate(tmp_path / "none.yaml")


def test_an_optimizer_that_cannot_be_divided_is_refused(llama: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    path = tmp_path / "accelerate.yaml"
    path.write_text(FSDP)
    model = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    config = TrainConfig(optimizer="muon", accelerate_config=str(path))
    with pytest.raises(InputError, match="muon does not go with FSDP"):
        divide(model, SupervisedFineTuning(1), World(0, 2), config)


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

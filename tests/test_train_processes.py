"""How rows, sums and files are divided among several workers, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from little import make_base
from test_train_workers import FSDP, files
from tinyforge.config import TrainConfig
from tinyforge.environment import worker
from tinyforge.errors import InputError
from tinyforge.records import Tokens
from tinyforge.run import Run, write_folder_atomic, write_json
from tinyforge.train.device import choose_device, place
from tinyforge.train.distributed import World, cut, join, shares
from tinyforge.train.launch import _explain
from tinyforge.train.loss import IGNORED
from tinyforge.train.objectives.base import pad_rows
from tinyforge.train.objectives.sft import SupervisedFineTuning
from tinyforge.train.sharding import read_accelerate
from tinyforge.train.workers import divide


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


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

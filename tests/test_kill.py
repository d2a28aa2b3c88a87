"""A training that is killed anywhere, damaged, out of disk or told to stop ends with the bytes of one that was not.

``bench/kills.py`` does the same a hundred times. Dropout is on, so that random numbers matter; steps gather two
micro-batches of rows of mixed lengths; the dev loss chooses the weights.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kill import Call, Ending, Server, can_trace, result, server
from little import make_base
from tinyforge.cli import main
from tinyforge.run import hash_file, hash_json, read_json, write_json

SETTINGS = {
    "train.method": "lora",
    "train.lora_rank": "4",
    "train.lora_dropout": "0.1",
    "train.learning_rate": "0.01",
    "train.threads": "1",
    "train.precision": "fp32",
    "train.batch_tokens": "192",
    "train.accumulation": "2",
    "train.epochs": "4",
    "train.evaluations": "4",
    "train.guard": "false",
    "train.checkpoint_seconds": "0.000001",
    "dataset.validation_split": "0.2",
    "dataset.max_length": "128",
}
THINGS = "saw drill ladder lathe plane file vice rasp hammer chisel level clamp".split()
traced = pytest.mark.skipif(not can_trace(), reason="needs strace, and the right to trace")


@dataclass(frozen=True)
class Bench:
    """A base, rows, what the uninterrupted training of them leaves, and the server that starts others."""

    folder: Path
    server: Server
    whole: dict[str, str]

    def arguments(self, out: Path, **changes: str) -> list[str]:
        return arguments(self.folder, out, **changes)

    def finish(self, out: Path) -> Ending:
        """Run the command to its end; what it leaves must be what the uninterrupted one left."""
        ending = self.server.run(self.arguments(out))
        assert ending.code == 0, ending.said
        assert result(out) == self.whole, ending.said
        return ending


def arguments(folder: Path, out: Path, **changes: str) -> list[str]:
    settings = SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    pairs = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return ["train", str(folder / "rows.jsonl"), "--out", str(out), "--base", str(folder / "base"), *pairs]


def make_inputs(folder: Path) -> None:
    make_base(folder / "base")
    rows = [
        {"input": f"What does the {thing} cost{' today' * (n % 5)}?", "output": f"{n} tokens{' and a fee' * (n % 4)}."}
        for n, thing in enumerate(THINGS * 2)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The uninterrupted training runs in this process, so that another order of hashes shows as well."""
    folder = tmp_path_factory.mktemp("kill")
    make_inputs(folder)
    assert main(arguments(folder, folder / "whole")) == 0
    with server(folder) as started:
        yield Bench(folder, started, result(folder / "whole"))


def newest(out: Path) -> Path:
    return sorted((out / "checkpoints").glob("step-*"))[-1]


def stop_in_the_middle(bench: Bench, out: Path) -> None:
    """Killed while it wrote its tensors for the eleventh time: two checkpoints are complete. Done once, then copied."""
    stopped = bench.folder / "stopped"
    if not stopped.exists():
        ending = bench.server.run(bench.arguments(stopped), at=Call("tinyforge.train.checkpoint.save_file", 11))
        assert ending.code == -signal.SIGKILL and len(list((stopped / "checkpoints").glob("step-*"))) == 2
    shutil.copytree(stopped, out)


# --- kills -----------------------------------------------------------------------------------------------------------


def test_killed_at_random_times_again_and_again(bench: Bench, tmp_path: Path) -> None:
    draw = random.Random(7)
    took = bench.server.run(bench.arguments(tmp_path / "timed")).seconds
    for _ in range(3):
        bench.server.run(bench.arguments(tmp_path / "run"), after=draw.uniform(0.1, 0.8) * took)
    bench.finish(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("os.fsync", 30),
        pytest.param("os.replace", 12, marks=pytest.mark.slow),
        pytest.param("os.mkdir", 20, marks=pytest.mark.slow),
        pytest.param("shutil.rmtree", 18, marks=pytest.mark.slow),
        ("tinyforge.adapters.save", 1),
        pytest.param("tinyforge.run.Run.finish", 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_call(bench: Bench, tmp_path: Path, name: str, number: int) -> None:
    ending = bench.server.run(bench.arguments(tmp_path / "run"), at=Call(name, number))
    assert ending.code == -signal.SIGKILL, ending.said
    bench.finish(tmp_path / "run")


@traced
@pytest.mark.slow
def test_killed_at_a_system_call(bench: Bench, tmp_path: Path) -> None:
    """One call of each kind, also of those that safetensors makes outside Python."""
    ending, calls = bench.server.count(bench.arguments(tmp_path / "counted"), tmp_path / "counted")
    assert ending.code == 0 and result(tmp_path / "counted") == bench.whole
    draw = random.Random(3)
    for name in ("write", "fsync", "rename", "unlinkat"):
        number = draw.choice([number for called, number, _ in calls if called == name])
        ending = bench.server.run(bench.arguments(tmp_path / name), at=Call(name, number))
        assert ending.code == -signal.SIGKILL, (name, number, ending.said)
        bench.finish(tmp_path / name)


def test_a_second_kill_while_the_first_is_made_good(bench: Bench, tmp_path: Path) -> None:
    stop_in_the_middle(bench, tmp_path / "run")
    for name, number in (("shutil.rmtree", 1), ("os.fsync", 2), ("tinyforge.train.checkpoint.load_file", 1)):
        ending = bench.server.run(bench.arguments(tmp_path / "run"), at=Call(name, number))
        assert ending.code == -signal.SIGKILL, (name, ending.said)
    assert bench.finish(tmp_path / "run").resumed_from is not None


def test_a_stop_by_patience_is_not_forgotten(bench: Bench, tmp_path: Path) -> None:
    """The last checkpoint is of a training that had already stopped: nothing may be added to it."""
    given = {"train__patience": "1", "train__evaluations": "16", "train__learning_rate": "0.3"}
    whole = bench.server.run(bench.arguments(tmp_path / "whole", **given))
    assert read_json(tmp_path / "whole" / "train.json")["stopped_by"] == "patience", whole.said
    ending = bench.server.run(bench.arguments(tmp_path / "run", **given), at=Call("tinyforge.adapters.save", 1))
    assert ending.code == -signal.SIGKILL
    assert bench.server.run(bench.arguments(tmp_path / "run", **given)).code == 0
    assert result(tmp_path / "run") == result(tmp_path / "whole")


# --- controls --------------------------------------------------------------------------------------------------------

State = dict[str, Any]
Tensors = dict[str, torch.Tensor]


def without_random_state(state: State, tensors: Tensors) -> None:
    torch.manual_seed(42)  # as a training that restored nothing would have it
    tensors["rng.torch"] = torch.get_rng_state()


def without_optimizer(state: State, tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("adamw.")]:
        del tensors[name]


def without_masters(state: State, tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith("master.") and "lora_B" in name]:
        tensors[name].zero_()  # as a fresh adapter


def without_place(state: State, tensors: Tensors) -> None:
    state["progress"]["step"] -= 1


def with_everything(state: State, tensors: Tensors) -> None:
    pass


def edit(folder: Path, change: Callable[[State, Tensors], None]) -> None:
    """Change a checkpoint so that it does not look damaged."""
    state, tensors = read_json(folder / "state.json"), load_file(folder / "state.safetensors")
    change(state, tensors)
    save_file(tensors, folder / "state.safetensors")
    del state["seal"]
    state["sha256"] = hash_file(folder / "state.safetensors")
    write_json(folder / "state.json", {**state, "seal": hash_json(state)})


@pytest.mark.parametrize(
    "change", [with_everything, without_random_state, without_optimizer, without_masters, without_place]
)
def test_every_part_of_the_checkpoint_is_needed(
    bench: Bench, tmp_path: Path, change: Callable[[State, Tensors], None]
) -> None:
    stop_in_the_middle(bench, tmp_path / "run")
    edit(newest(tmp_path / "run"), change)
    ending = bench.server.run(bench.arguments(tmp_path / "run"))
    assert ending.code == 0 and ending.resumed_from is not None, ending.said
    weights = "adapter/adapter_model.safetensors"
    same = result(tmp_path / "run")[weights] == bench.whole[weights]
    assert same == (change is with_everything)


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("state.safetensors", flip),
        pytest.param("state.safetensors", cut, marks=pytest.mark.slow),
        pytest.param("state.safetensors", Path.unlink, marks=pytest.mark.slow),
        ("state.json", flip),
        pytest.param("state.json", empty, marks=pytest.mark.slow),
        pytest.param("state.json", Path.unlink, marks=pytest.mark.slow),
    ],
)
def test_the_checkpoint_before_a_damaged_one_is_used(
    bench: Bench, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    out = tmp_path / "run"
    stop_in_the_middle(bench, out)
    spoilt = newest(out)
    damage(spoilt / name)
    ending = bench.finish(out)
    assert f"{spoilt.name} is damaged" in ending.said
    assert ending.resumed_from == int(spoilt.name[5:]) - 1
    assert "Traceback" not in ending.said


@pytest.mark.parametrize("name", ["step-*/state.safetensors", "best-*.safetensors"])
def test_with_nothing_undamaged_it_starts_again_aloud(bench: Bench, tmp_path: Path, name: str) -> None:
    """The weights of the best dev loss are guarded as well: without them no checkpoint can be continued."""
    stop_in_the_middle(bench, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob(name):
        flip(path)
    ending = bench.finish(tmp_path / "run")
    assert ending.resumed_from is None and "no undamaged checkpoint is left" in ending.said


# --- a full disk -----------------------------------------------------------------------------------------------------


def checkpoints(out: Path) -> dict[str, str]:
    return {str(p.relative_to(out)): hash_file(p) for p in sorted((out / "checkpoints").rglob("*")) if p.is_file()}


def refused(ending: Ending) -> str:
    """The one line that a person is told."""
    assert ending.code == 1 and "Traceback" not in ending.said, ending.said
    told = [line for line in ending.said.splitlines() if line.startswith("tinyforge: ")]
    assert len(told) == 1, ending.said
    return told[0]


def test_a_limit_on_files_leaves_the_state_intact(bench: Bench, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stop_in_the_middle(bench, out)
    before = checkpoints(out)
    told = refused(bench.server.run(bench.arguments(out), file_limit=40_000))
    assert "checkpoints/step-" in told and "File too large" in told
    assert checkpoints(out).items() >= before.items() and newest(out).name in {Path(name).parts[1] for name in before}
    bench.finish(out)


@traced
@pytest.mark.slow
@pytest.mark.parametrize("number", [23, 24, 60])
def test_a_full_disk_leaves_the_state_intact(bench: Bench, tmp_path: Path, number: int) -> None:
    """The system refuses every write from the n-th on, also those of safetensors."""
    out = tmp_path / "run"
    ending = bench.server.run(bench.arguments(out), at=Call("write", number, error="ENOSPC"))
    assert ending.code != 0
    assert not list(out.rglob(".*.tmp"))
    bench.finish(out)


def test_a_disk_that_fills_up_is_said_and_used_again(bench: Bench, tmp_path: Path) -> None:
    """The plan found enough room; something else takes it after the first checkpoint."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    filler = threading.Thread(target=fill_up, args=(disk,), daemon=True)
    filler.start()
    try:
        told = refused(bench.server.run(bench.arguments(disk / "run")))
        said = r"checkpoints/\S+: the disk is full \([\d.]+ MB free; this takes [\d.]+ MB\)\. Free some space"
        assert re.search(said, told), told
        before = checkpoints(disk / "run")
        filler.join()
        (disk / "filler").unlink()
        ending = bench.finish(disk / "run")
        assert ending.resumed_from == max(int(Path(name).parts[1][5:]) for name in before if "step-" in name)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill_up(disk: Path) -> None:
    """Wait for the first checkpoint, then take what is left of the disk."""
    while not list(disk.glob("run/checkpoints/step-*")):
        time.sleep(0.002)
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as handle:
        while True:
            handle.write(bytes(1 << 16))


# --- signals ---------------------------------------------------------------------------------------------------------

TERM, INT = int(signal.SIGTERM), int(signal.SIGINT)


@pytest.mark.parametrize(
    ("name", "number", "signals", "code", "saved"),
    [
        ("tinyforge.dataset.rows.read_rows", 1, (TERM,), 143, False),
        pytest.param("tinyforge.models.family.load_for", 1, (INT,), 130, False, marks=pytest.mark.slow),
        ("tinyforge.train.loop.Training._step", 7, (TERM,), 143, True),
        ("tinyforge.train.loop.dev_loss", 2, (INT,), 130, True),
        pytest.param("tinyforge.train.checkpoint.save_file", 8, (TERM,), 143, True, marks=pytest.mark.slow),
        pytest.param("tinyforge.train.checkpoint._prune", 2, (INT,), 130, True, marks=pytest.mark.slow),
        pytest.param("tinyforge.adapters.save", 1, (TERM,), 143, True, marks=pytest.mark.slow),
        ("tinyforge.train.checkpoint.save_file", 8, (INT, INT), 130, True),
        pytest.param("tinyforge.train.loop.dev_loss", 2, (TERM, INT), 130, True, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_in_good_order(
    bench: Bench, tmp_path: Path, name: str, number: int, signals: tuple[int, ...], code: int, saved: bool
) -> None:
    """Before, between and after the steps; twice, it ends at once."""
    out = tmp_path / "run"
    slow = bench.arguments(out, train__checkpoint_seconds="1000") if len(signals) == 1 else bench.arguments(out)
    ending = bench.server.run(slow, at=Call(name, number, signals))
    assert ending.code == code, ending.said
    assert "the same command continues" in ending.said and "Traceback" not in ending.said
    assert not list(out.rglob(".*.tmp")) and not list(out.rglob(".tmp*"))
    assert bool(list(out.glob("checkpoints/step-*"))) == saved
    assert (bench.finish(out).resumed_from is not None) == saved

"""A Run survives kills, full disks, other processes and other people's folders."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.pipeline.stages import Job
from tinyforge.run import (
    Run,
    hash_folder,
    hash_json,
    read_json,
    read_jsonl,
    write_atomic,
    write_folder_atomic,
    write_json,
    write_jsonl,
    write_text,
)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def children(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- files -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, pathlib, signal, sys
from tinyforge.run import write_atomic
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
where, path = sys.argv[1], pathlib.Path(sys.argv[2])
if where != "writing":
    setattr(os, where, kill)
write_atomic(path, lambda handle: (handle.write(b"new" * 10_000), kill() if where == "writing" else None))
print("reached the end")
"""


@pytest.mark.parametrize("where", ["writing", "fsync", "replace"])
def test_a_kill_before_the_rename_keeps_the_old_content(tmp_path: Path, where: str) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    assert python(KILLED, where, str(path)).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "next")
    assert path.read_text() == "next"


def test_the_kill_is_what_kept_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    finished = python(KILLED, "nothing", str(path))
    assert finished.stdout == "reached the end\n"
    assert path.read_text() == "new" * 10_000


def _to_full_device(handle: IO[bytes]) -> None:
    """A write that the kernel refuses with ENOSPC."""
    handle.write(b"part")
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
        full.write(b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with pytest.raises(TinyForgeError) as caught:
        write_atomic(path, _to_full_device)
    assert re.fullmatch(
        rf"{path}: the disk is full \([\d,.]+ MB free\)\. "
        r"Free some space and run the same command again; it continues where it stopped\.",
        str(caught.value),
    )
    assert caught.value.exit_code == 1
    assert path.read_text() == "old"
    assert children(tmp_path) == ["file"]


FULL_DISK = """
import pathlib, subprocess, sys
from tinyforge.errors import TinyForgeError
from tinyforge.run import Run, write_folder_atomic, write_json
disk = pathlib.Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
(disk / "ballast").write_bytes(b"x" * 60_000)
run = Run.create(disk / "run", "build")
def fill(folder):
    (folder / "a").write_bytes(b"x" * 400_000)
for attempt in (
    lambda: write_json(run.path("config.json"), "x" * 400_000),
    lambda: write_folder_atomic(run.path("model"), fill),
    lambda: run.event("note", text="x" * 400_000),
):
    try:
        attempt()
    except TinyForgeError as error:
        assert "the disk is full" in str(error), error
        print("told")
(disk / "ballast").unlink()
run.event("after")
assert [row["event"] for row in run.events()] == ["after"], run.events()
print(sorted(p.name for p in run.folder.iterdir()))
"""


def _can_mount() -> bool:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not _can_mount(), reason="needs the right to mount a small file system")
def test_a_disk_that_really_is_full(tmp_path: Path) -> None:
    command = ["unshare", "--mount", sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "told\ntold\ntold\n['events.jsonl', 'run.json']\n", done.stderr


def test_a_limit_on_file_size_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(TinyForgeError, match="File too large"):
            write_text(path, "n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert children(tmp_path) == ["file"]


def test_an_error_in_the_writer_leaves_no_trace(tmp_path: Path) -> None:
    def spoil(handle: IO[bytes]) -> None:
        handle.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "file", spoil)
    assert children(tmp_path) == []


def test_json_lines_name_the_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, [{"text": "a\u2028b\r\n"}, [1, "é"]]) == 2
    assert list(read_jsonl(path)) == [{"text": "a\u2028b\r\n"}, [1, "é"]]
    path.write_text('{"a": 1}\n{"a": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"rows\.jsonl:2: not JSON"):
        list(read_jsonl(path))


def test_json_that_is_missing_or_cut_off(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"a":')
    with pytest.raises(InputError, match="not readable JSON"):
        read_json(tmp_path / "cut.json")


# --- folders ---------------------------------------------------------------------------------------------------------

KILLED_FOLDER = """
import os, pathlib, signal, sys
from tinyforge import run
at, path = int(sys.argv[1]), pathlib.Path(sys.argv[2])
real, calls = os.replace, 0
def replace(*args):
    global calls
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    calls += 1
    real(*args)
os.replace = replace
run.write_folder_atomic(path, lambda folder: (folder / "weights").write_text("new"))
"""


@pytest.mark.parametrize("at", [0, 1])
def test_a_kill_while_a_folder_is_replaced_keeps_the_old_one(tmp_path: Path, at: int) -> None:
    """0: before the old folder stands aside; 1: between that and the new one taking its place."""
    run = Run.create(tmp_path / "run", "build")
    model = run.path("model")
    write_folder_atomic(model, lambda folder: write_text(folder / "weights", "old"))
    assert python(KILLED_FOLDER, str(at), str(model)).returncode == -signal.SIGKILL
    assert model.exists() == (at == 0)
    with run.lock():
        assert (model / "weights").read_text() == "old"
    write_folder_atomic(model, lambda folder: write_text(folder / "weights", "next"))
    assert (model / "weights").read_text() == "next"
    assert children(run.folder) == [".lock", "model", "run.json"]


KILLED_DATABASE = """
import os, pathlib, signal, sqlite3, sys
from tinyforge import run
def fill(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    database.execute("INSERT INTO t VALUES (1)")
    os.kill(os.getpid(), signal.SIGKILL)
run.write_file_atomic(pathlib.Path(sys.argv[1]) / "ledger.sqlite", fill)
"""


def test_the_next_lock_takes_away_a_database_that_a_kill_left_with_its_journal(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "build")
    assert python(KILLED_DATABASE, str(run.folder)).returncode == -signal.SIGKILL
    left = [name for name in children(run.folder) if name.startswith(".ledger.sqlite")]
    assert sorted(name.rsplit(".", 1)[-1] for name in left) == ["tmp", "tmp-journal"]
    with run.lock():
        assert children(run.folder) == [".lock", "run.json"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "index"
    write_folder_atomic(path, lambda folder: write_text(folder / "a" / "b", "1"))
    first = hash_folder(path)
    write_folder_atomic(path, lambda folder: write_text(folder / "c", "2"))
    assert children(path) == ["c"]
    assert hash_folder(path) != first


def test_an_error_in_the_writer_keeps_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "index"
    write_folder_atomic(path, lambda folder: write_text(folder / "a", "1"))

    def spoil(folder: Path) -> None:
        write_text(folder / "a", "2")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_folder_atomic(path, spoil)
    assert (path / "a").read_text() == "1"
    assert children(tmp_path) == ["index"]


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_continued_by_the_command_that_made_it(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", "build")
    assert Run.create(tmp_path / "run", "build").folder == Run.open(tmp_path / "run").folder
    with pytest.raises(InputError, match="was made by `tinyforge build`"):
        Run.create(tmp_path / "run", "pretrain")


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    before = hash_folder(tmp_path)
    with pytest.raises(InputError, match="already holds files that TinyForge did not make"):
        Run.create(tmp_path, "build")
    with pytest.raises(InputError, match="is not a TinyForge run"):
        Run.open(tmp_path)
    assert hash_folder(tmp_path) == before


def test_an_empty_folder_and_one_with_hidden_files_are_fine(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("")
    assert read_json(Run.create(tmp_path, "build").path("run.json"))["command"] == "build"


def test_another_format_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"format": 999, "command": "build"})
    with pytest.raises(InputError, match=r"format 999"):
        Run.create(tmp_path, "build")


def test_an_out_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        Run.create(tmp_path / "file", "build")
    with pytest.raises(InputError, match="cannot be made"):
        Run.create(tmp_path / "file" / "below", "build")
    with pytest.raises(InputError, match="no such folder"):
        Run.open(tmp_path / "none")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_out_without_the_right_to_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"cannot be made|not writable"):
        Run.create(tmp_path / "run", "build")


HOLDING = """
import sys
from tinyforge.run import Run
with Run.open(sys.argv[1]).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "build")
    command = [sys.executable, "-c", HOLDING, str(run.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another tinyforge process is working here"), run.lock():
            pass
        other.kill()
        other.wait()
    with run.lock():
        pass


def test_the_lock_removes_what_killed_processes_left(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "build")
    below = run.path("checkpoints")
    (below / ".step-0000003.tmp").mkdir(parents=True)
    (below / ".step-0000002.old").mkdir()
    (below / "step-0000002").mkdir()
    for name in (".best.safetensors.123.tmp", ".tmpA1b2C3", "kept.tmp"):
        (below / name).write_text("part")
    with run.lock():
        assert children(below) == ["kept.tmp", "step-0000002"]


def test_a_stage_that_was_killed_is_not_taken_for_an_earlier_one(tmp_path: Path) -> None:
    """Made with one setting, killed while made with another, then asked for with the first: its files are not those."""
    run = Run.create(tmp_path / "run", "train")
    job = Job(run, lambda stage, note: None)

    def make(text: str) -> dict[str, str]:
        write_text(run.path("model"), text)
        if text == "second":
            raise KeyboardInterrupt
        return {"made": text}

    job.stage("train", 1, lambda key: make("first"))
    with pytest.raises(KeyboardInterrupt):
        job.stage("train", 2, lambda key: make("second"))
    job.stage("train", 1, lambda key: make("first"))
    assert run.path("model").read_text() == "first"


def test_events_are_kept_in_order_and_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "build")
    assert run.events() == []
    run.event("step", loss=1.5, text="a\u2028b")
    whole = run.path("events.jsonl").read_bytes()
    run.event("note", text="é" * 20)
    torn = run.path("events.jsonl").read_bytes()[: len(whole) + 60]
    torn = torn[: torn.rindex("é".encode()) + 1]  # in the middle of a character
    run.path("events.jsonl").write_bytes(torn)
    assert [row["event"] for row in run.events()] == ["step"]
    run.event("step", loss=0.5)
    assert [row["loss"] for row in run.events("step")] == [1.5, 0.5]
    assert run.events("step")[0]["text"] == "a\u2028b"


def test_a_stage_is_reused_only_for_the_same_inputs(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", "build")
    key = hash_json({"epochs": 3, "files": ["a", "b"]})
    assert run.finished("train", key) is None
    run.finish("train", key, {"loss": 0.25}, seconds=1.23456)
    assert run.finished("train", key) == {"loss": 0.25}
    assert run.finished("train", hash_json({"epochs": 4, "files": ["a", "b"]})) is None
    assert run.events("stage")[0]["seconds"] == 1.235


def test_hashes_follow_content_and_not_order() -> None:
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json(json.loads('{"b": [1, 2], "a": 1}'))
    assert hash_json([1, 2]) != hash_json([2, 1])
    assert hash_json("1") != hash_json(1)

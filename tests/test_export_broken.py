"""Exports that are killed, or find the disk full: the old artifact is there, whole, or none is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kill import Server, server
from little import make_lively_base
from tinyforge.errors import TinyForgeError
from tinyforge.export import artifact as artifact_module
from tinyforge.export.artifact import export
from tinyforge.run import hash_file


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


def test_a_failure_leaves_the_old_artifact(lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = export(str(lively), "safetensors", "fp32", tmp_path / "out")
    before = (made.folder / "certificate.json").read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_module, "certify", full)
    with pytest.raises(TinyForgeError, match="disk is full"):
        export(str(lively), "safetensors", "fp32", tmp_path / "out")
    assert (made.folder / "certificate.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


KILLED = """
import os, sys
from tinyforge.export import artifact
artifact.certify = lambda *a: os.kill(os.getpid(), 9)
artifact.export(sys.argv[1], "safetensors", "fp32", sys.argv[2])
"""


def test_a_kill_leaves_the_old_artifact_or_none(lively: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [sys.executable, "-c", KILLED, str(lively), str(out)]
    assert subprocess.run(arguments, capture_output=True).returncode == -9
    assert not out.exists()
    first = export(str(lively), "safetensors", "fp32", out).certificate
    assert subprocess.run(arguments, capture_output=True).returncode == -9
    assert json.loads((out / "certificate.json").read_text())["files"] == first["files"]


def whole(out: Path) -> bool:
    """Whether every file is there that the certificate names, with its hash, and no other."""
    files = json.loads((out / "certificate.json").read_text())["files"]
    there = {str(p.relative_to(out)): hash_file(p) for p in out.rglob("*") if p.is_file()}
    return files == {name: value for name, value in there.items() if name != "certificate.json"}


@pytest.mark.slow
@pytest.mark.parametrize("to", ["safetensors", "gguf", "onnx"])
def test_kills_at_any_time(to: str, lively: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(lively), "--to", to, "--out", str(out)]
    with server(tmp_path) as started:
        assert isinstance(started, Server)
        lasts = started.run(arguments).seconds
        assert whole(out)
        kinds = set()
        for turn in range(8):
            if turn == 4:  # from here on nothing is there before
                for path in out.iterdir():
                    path.unlink()
                out.rmdir()
            ending = started.run(arguments, after=lasts * (turn % 4 + 0.5) / 4.5)
            kinds.add(ending.code)
            assert (turn >= 4 and not out.exists()) or whole(out)
        assert -9 in kinds
        assert started.run(arguments).code == 0 and whole(out)
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("to", ["safetensors", "gguf", pytest.param("onnx", marks=pytest.mark.slow)])
def test_a_full_disk_is_said(to: str, lively: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        with pytest.raises(TinyForgeError, match="disk is full"):
            export(str(lively), to, "", disk / "out")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)

"""tinyforge doctor: it tells a machine that is ready from one that is not, and says what mends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyforge.cli import main
from tinyforge.pipeline import doctor


def found(folder: Path) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine_machine(folder)}


def test_this_machine_is_ready_and_every_check_has_its_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for name in ("Python", "packages", "processor", "memory", "disk", "GPU", "embedded base", "network", "SQLite"):
        assert f"  {name} " in shown
    assert "Next: tinyforge demo" in shown


def test_json_holds_the_same_for_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ready"] is True
    assert all(set(row) == {"name", "state", "seen", "fix"} for row in told["findings"])


def test_a_package_that_is_too_old_is_a_problem_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy>=999", "nothing-of-this-name", "torch"])
    finding = found(tmp_path)["packages"]
    assert finding.state == "problem"
    assert "numpy" in finding.seen and "needs >=999" in finding.seen and "nothing-of-this-name" in finding.seen
    assert finding.fix.startswith("pip install")
    assert main(["doctor", "--out", str(tmp_path)]) == 1
    assert "found a problem" in capsys.readouterr().out


def test_extras_are_told_apart_by_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["numpy", 'torch>=2; extra == "here"', 'nothing-of-this-name; extra == "away"', 'x; extra == "dev"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: required)
    finding = found(tmp_path)["extras"]
    assert "ready: here" in finding.seen and "not installed: away" in finding.seen and "dev" not in finding.seen
    assert "[away]" in finding.fix


def test_little_memory_and_disk_and_idle_cores_are_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: 1_000_000_000)
    monkeypatch.setattr(doctor, "SMALL_DISK_GB", 1e9)
    monkeypatch.setattr(doctor, "cores", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    seen = found(tmp_path)
    assert {name for name, finding in seen.items() if finding.state == "warning"} >= {"memory", "disk", "threads"}
    assert all(seen[name].fix for name in ("memory", "disk", "threads"))


def test_offline_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert found(tmp_path)["network"].seen.startswith("offline (HF_HUB_OFFLINE")


def test_a_base_that_is_gone_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyforge.models import resolve

    monkeypatch.setitem(resolve.EMBEDDED, "tiny", tmp_path / "gone")
    finding = found(tmp_path)["embedded base"]
    assert finding.state == "problem" and "gone" in finding.seen

"""The registry reads run folders, keeps what it read in SQLite, and loses nothing when that file is lost."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tinyforge.cli import main
from tinyforge.errors import InputError
from tinyforge.models.resolve import hash_weights
from tinyforge.registry.changes import differences
from tinyforge.registry.facts import Facts, read_facts
from tinyforge.registry.store import FILE, Registry
from tinyforge.run import Run, write_json, write_jsonl


def make_run(
    folder: Path, weights: bytes, f1: float = 0.5, epochs: int = 3, base: str = "b0", origin: str = ""
) -> Path:
    """A finished training as its stages leave it; the weights are any bytes, which is all that a hash sees."""
    run = Run.create(folder, "train")
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(weights)
    write_json(run.path("config.json"), {"seed": 1, "train": {"epochs": epochs}})
    write_json(run.path("base.json"), {"name": "tiny", "hash": base})
    write_json(run.path("report.json"), {"scores": {"wordings": {"tuned": {"token_f1": {"value": f1}}}}})
    write_jsonl(run.path("documents.jsonl"), [{"source": "a.md", "id": f"id{epochs}"}])
    write_jsonl(run.path("dataset", "train.jsonl"), [{"n": epochs}])
    run.finish("train", "k", {"dev_loss": 1.0, "parameters": 7}, 0.1)
    if origin:
        write_json(run.path("origin.json"), {"name": "one", "hash": origin})
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    one = make_run(tmp_path / "one", b"first")
    artifact = hash_weights(one / "model")
    make_run(tmp_path / "deep" / "two", b"second", 0.75, 5, origin=artifact)
    (tmp_path / "notes").mkdir()
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["runs", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_found_with_their_figures(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, "list", "--root", str(root))
    assert sorted(row["name"] for row in rows) == ["deep/two", "one"]
    two = next(row for row in rows if row["name"] == "deep/two")
    assert (two["state"], two["finished"], two["parameters"], two["base_name"]) == ("draft", True, 7, "tiny")
    assert two["metrics"] == {"wordings.tuned.token_f1": 0.75, "dev_loss": 1.0}
    assert two["sources"] == [["a.md", "id5"]]
    assert main(["runs", "list", "--root", str(root)]) == 0
    assert "deep/two" in capsys.readouterr().out


def test_lineage_is_by_hash_and_not_by_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "one").rename(root / "renamed")
    assert shown(capsys, "show", "deep/two", "--root", str(root))["parents"] == ["renamed"]
    assert shown(capsys, "show", "renamed", "--root", str(root))["children"] == ["deep/two"]
    (root / "renamed" / "model" / "model.safetensors").write_bytes(b"other")
    assert shown(capsys, "show", "deep/two", "--root", str(root))["parents"] == []


@pytest.mark.parametrize("loss", ["gone", "damaged", "older"])
def test_the_database_is_rebuilt_from_the_folders(root: Path, loss: str) -> None:
    write_json(root / "one" / "state.json", {"state": "candidate"})
    before = [facts.to_json() for facts in Registry(root).runs]
    path = root / FILE
    if loss == "gone":
        path.unlink()
    elif loss == "damaged":
        path.write_bytes(b"not a database at all" * 100)
    else:
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
    registry = Registry(root)
    assert [facts.to_json() for facts in registry.runs] == before
    assert bool(registry.notes) == (loss == "damaged")


def test_what_did_not_change_is_not_read_again_and_what_did_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinyforge.registry import store

    read: list[str] = []

    def counting(folder: Path, name: str) -> Facts:
        read.append(name)
        return read_facts(folder, name)

    monkeypatch.setattr(store, "read_facts", counting)
    Registry(root)
    Registry(root)
    assert sorted(read) == ["deep/two", "one"]
    write_json(root / "one" / "report.json", {"scores": {}})
    assert "wordings.tuned.token_f1" not in Registry(root).find("one").metrics
    assert sorted(read) == ["deep/two", "one", "one"]


def test_another_programs_database_is_left_alone(root: Path) -> None:
    with sqlite3.connect(root / FILE) as database:
        database.execute("CREATE TABLE theirs (x)")
    before = (root / FILE).read_bytes()
    with pytest.raises(InputError, match="another program"):
        Registry(root)
    assert (root / FILE).read_bytes() == before


def test_a_tag_speaks_of_the_weights_it_was_given_for(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tagged = shown(capsys, "tag", "one", "released", "--note", "passed", "--root", str(root))
    assert (tagged["before"], tagged["state"]) == ("draft", "released")
    assert [row["name"] for row in shown(capsys, "list", "--state", "released", "--root", str(root))] == ["one"]
    assert not shown(capsys, "show", "one", "--root", str(root))["replaced"]
    (root / "one" / "model" / "model.safetensors").write_bytes(b"trained again")
    assert shown(capsys, "show", "one", "--root", str(root))["replaced"]


def test_what_is_not_finished_cannot_be_released(root: Path) -> None:
    Run.create(root / "begun", "train")
    assert main(["runs", "tag", "begun", "released", "--root", str(root)]) == 2
    assert main(["runs", "tag", "begun", "candidate", "--root", str(root)]) == 0


def test_a_difference_by_hand(root: Path) -> None:
    registry = Registry(root)
    found = differences(registry.find("one"), registry.find("deep/two"))
    assert found["config"] == {"train.epochs": [3, 5]}
    assert found["sources"] == {"added": [], "removed": [], "changed": ["a.md"]}
    assert found["same_data"] is False
    assert found["metrics"]["wordings.tuned.token_f1"] == {"a": 0.5, "b": 0.75, "change": 0.25}
    same = differences(registry.find("one"), registry.find("one"))
    assert (same["config"], same["lineage"], same["same_data"]) == ({}, {}, True)


def test_deleting_asks_and_refuses_what_is_released(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "delete", "one", "--root", str(root)]) == 2
    assert "--yes" in capsys.readouterr().err
    main(["runs", "tag", "one", "released", "--root", str(root)])
    assert main(["runs", "delete", "one", "--yes", "--root", str(root)]) == 2
    assert (root / "one" / "model").is_dir()
    main(["runs", "tag", "one", "retired", "--root", str(root)])
    assert main(["runs", "delete", "one", "--yes", "--root", str(root)]) == 0
    assert sorted(path.name for path in root.iterdir()) == ["deep", "notes", FILE]


def test_a_run_that_is_worked_in_is_not_deleted(root: Path) -> None:
    with Run.open(root / "one").lock():
        assert main(["runs", "delete", "one", "--yes", "--root", str(root)]) == 2
    assert (root / "one" / "run.json").is_file()


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_a_packed_run_holds_what_its_manifest_says(root: Path, ending: str) -> None:
    (root / "one" / ".pseudonyms.json").write_text("{}")
    for name in ("a", "b"):
        assert main(["runs", "export", "one", "--root", str(root), "--out", str(root / f"{name}{ending}")]) == 0
    first, second = (root / f"{name}{ending}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    out = root / "unpacked"
    if ending == ".zip":
        zipfile.ZipFile(first).extractall(out)
    else:
        with tarfile.open(first) as archive:
            archive.extractall(out, filter="data")
    manifest = json.loads((out / "one" / "manifest.json").read_text())
    hashes = {e["path"]: hashlib.sha256((out / "one" / e["path"]).read_bytes()).hexdigest() for e in manifest["files"]}
    assert hashes == {e["path"]: e["sha256"] for e in manifest["files"]}
    assert "model/model.safetensors" in hashes
    assert not any("pseudonyms" in path for path in hashes)
    assert manifest["run"]["artifact"] == hash_weights(out / "one" / "model")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nowhere"], "Known: "),
        (["export", "one", "--out", "x.rar"], ".tar.gz"),
        (["list", "--root", "nowhere"], "no such folder"),
    ],
)
def test_wrong_input_in_one_line(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(root)
    assert main(["runs", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_broken_summary_names_the_file(root: Path) -> None:
    (root / "one" / "report.json").write_text("{")
    with pytest.raises(InputError, match=r"report\.json"):
        Registry(root)

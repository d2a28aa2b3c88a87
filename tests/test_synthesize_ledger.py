"""`tinyforge synthesize` offline, the ledger that says why, and a person's changes, which outlive every rerun."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tinyforge.cli import main
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.dataset import synthesize as synthesize_run
from tinyforge.records import Example
from tinyforge.run import hash_file, read_json
from tinyforge.synthesize import ledger
from tinyforge.synthesize.edits import Edit, apply_edits

SAMPLES = Path(__file__).parents[1] / "src" / "tinyforge" / "samples"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, made after an ingest and with no network to be had."""
    out = tmp_path_factory.mktemp("synthesis") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", _no_network)
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert main(["ingest", str(SAMPLES), "--out", str(out)]) == 0
        assert main(["synthesize", str(SAMPLES), "--out", str(out)]) == 0
    return out


def _no_network(*_: Any) -> None:
    raise OSError("the network is off")


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def rows(run: Path, name: str = "candidates") -> list[Example]:
    lines = (run / "dataset" / f"{name}.jsonl").read_text().splitlines()
    return [Example.from_json(json.loads(line)) for line in lines]


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def again(run: Path) -> None:
    assert main(["synthesize", str(SAMPLES), "--out", str(run)]) == 0


def files(run: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in sorted((run / "dataset").iterdir())}


def test_it_continues_the_ingest_and_says_what_comes_next(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (run / "stages/documents.json").stat().st_mtime_ns < (run / "stages/examples.json").stat().st_mtime_ns
    again(run)
    captured = capsys.readouterr()
    assert "nothing changed since the last time" in captured.err
    assert f"tinyforge build {SAMPLES} --out {run}" in captured.out
    sections = read_json(run / "stages/examples.json")["summary"]
    assert f"{sections['sections_covered']} of {sections['sections']} sections" in captured.out


def test_a_build_takes_over_what_synthesize_made(run: Path) -> None:
    from tinyforge.ingest import fingerprint
    from tinyforge.models.resolve import resolve
    from tinyforge.pipeline.dataset import dataset_stages
    from tinyforge.pipeline.stages import Job
    from tinyforge.run import Run

    config = Config()  # type: ignore[call-arg]
    job = Job(Run.create(run, "build", continues=("ingest", "synthesize")), lambda stage, note: None)
    dataset_stages(job, [SAMPLES], fingerprint([SAMPLES], config.ingest), resolve("tiny"), config)
    assert job.reused == ["documents", "index", "examples", "dataset", "card"]


def test_the_dataset_is_the_same_bytes_each_time(run: Path, made: Path) -> None:
    shutil.rmtree(run / "dataset")
    for stage in ("examples", "dataset", "card"):
        (run / "stages" / f"{stage}.json").unlink()
    summary = synthesize_run([SAMPLES], run, Config(), lambda stage, note: None)  # type: ignore[call-arg]
    assert files(run) == files(made) and summary["examples"]["facts"] > 20
    synthesize_run([SAMPLES], run, Config(seed=7), lambda stage, note: None)  # type: ignore[call-arg]
    assert files(run) != files(made)  # the comparison can fail


def test_a_row_with_passages_is_one_of_its_fact(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = next(e for e in rows(run, "train") if e.metadata.get("reading"))
    (entry,) = shown(capsys, "data", "why", str(run), row.id)
    assert entry["id"] == row.fact


def test_every_candidate_is_in_the_ledger(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = read_json(run / "stages/examples.json")["summary"]
    found = shown(capsys, "data", "rejected", str(run), "--limit", "10000")
    assert found["gates"] == summary["rejected"] and sum(found["gates"].values()) == len(found["rejected"])
    for row in found["rejected"]:
        assert row["gate"] and row["version"] and row["evidence"] and not row["accepted"]
    facts = {e.fact for e in rows(run)}
    assert all(ledger.why(run / "dataset/ledger.sqlite", fact)[0].gate == "" for fact in facts)
    gate = next(iter(found["gates"]))
    assert {r["gate"] for r in shown(capsys, "data", "rejected", str(run), "--gate", gate[:6])["rejected"]} == {gate}


def test_why_finds_an_example_by_the_beginning_of_its_id(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = rows(run, "train")[3]
    (entry,) = shown(capsys, "data", "why", str(run), example.id[:12])
    assert entry["id"] == example.fact and entry["answer"] == example.answer and entry["accepted"]
    assert example.id in {w["id"] for w in entry["wordings"]} and entry["splits"]["train"] >= 1
    assert [tuple(s.values()) for s in entry["evidence"]] == [(s.document, s.start, s.end) for s in example.evidence]


@pytest.mark.parametrize("words", [["why", "nothere"], ["why", "x"], ["exclude", "nothere"]])
def test_an_unknown_id_is_wrong_input(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", words[0], str(run), words[1]]) == 2
    assert capsys.readouterr().err.count("tinyforge:") == 1


def test_what_a_person_excludes_and_edits_stays_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = rows(run, "train")
    gone, edited, wording = (
        examples[0],
        next(e for e in examples if e.fact != examples[0].fact),
        next(e for e in reversed(examples) if not e.metadata.get("reading")),
    )
    assert len({gone.fact, edited.fact, wording.fact}) == 3
    assert main(["data", "exclude", str(run), gone.fact]) == 0
    assert main(["data", "exclude", str(run), wording.id]) == 0
    assert main(["data", "edit", str(run), edited.id, "--answer", "Ask at the desk."]) == 0
    again(run)
    for _ in range(2):  # the second time after a change elsewhere made everything anew
        found = rows(run)
        assert gone.fact not in {e.fact for e in found} and wording.id not in {e.id for e in found}
        assert {e.answer for e in found if e.fact == edited.fact} == {"Ask at the desk."}
        assert wording.fact in {e.fact for e in found}
        assert main(["synthesize", str(SAMPLES), "--out", str(run), "--set", "synthesize.wordings=12"]) == 0
    (entry,) = shown(capsys, "data", "why", str(run), gone.fact)
    assert entry["gate"] == "excluded" and entry["edited"]
    assert main(["data", "edit", str(run), gone.fact, "--answer", "x"]) == 2  # it is in no dataset
    assert main(["data", "edit", str(run), edited.fact, "--answer", " "]) == 2


def test_a_change_finds_its_fact_in_a_document_that_was_edited(made: Path) -> None:
    example = rows(made)[0]
    said = example.metadata
    edit = Edit(
        "another id", "", example.rule, said["source"], said["section"], example.question, example.answer, "New."
    )
    kept, _, unused = apply_edits([example], [edit])
    assert kept[0].answer == "New." and not unused
    elsewhere = Edit("another id", "", example.rule, said["source"], "Elsewhere", example.question, example.answer)
    kept, excluded, unused = apply_edits([example], [elsewhere])
    assert kept == [example] and not excluded and unused == [elsewhere]


def test_a_damaged_or_missing_ledger_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ledger"):
        ledger.gates(tmp_path / "ledger.sqlite")
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        ledger.rejected(tmp_path / "ledger.sqlite")

"""`tinyforge ingest`: the table that a person reads, the JSON that a script reads, and what `build` then finds done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest_files import write
from tinyforge.cli import main
from tinyforge.errors import InputError
from tinyforge.ingest import fingerprint
from tinyforge.pipeline.documents import documents_stage
from tinyforge.pipeline.stages import Job
from tinyforge.recipe import load_config
from tinyforge.run import Run, read_json, read_jsonl

SAMPLES = Path(__file__).parent / "samples"


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    write(tmp_path, "in/deck.pptx", (SAMPLES / "pptx/libreoffice.pptx").read_bytes())
    write(tmp_path, "in/bad.xlsx", "no workbook")
    return [str(tmp_path / "in"), f"sqlite:///{SAMPLES / 'sqlite/boats.db'}"]


def test_the_table_says_what_was_found_and_left_out(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    query = "SELECT title AS boat, seats FROM boats"
    given = ["ingest", *sources, "--query", query, "--out", str(tmp_path / "out")]
    assert main(given) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: " ".join(line.split()) for line in shown.splitlines() if line.strip()}
    assert lines["deck.pptx"].startswith("deck.pptx pptx 349 4 2 hidden slide 1, text repeated on slides 3")
    assert " sql " in lines[sources[1]]
    assert "2 read, " in shown and "bad.xlsx: not an .xlsx file (it is not a zip archive)." in shown
    assert lines["Next:"].startswith("Next: tinyforge build ") and f"--query '{query}'" in lines["Next:"]
    documents = list(read_jsonl(tmp_path / "out" / "documents.jsonl"))
    assert [document["metadata"]["format"] for document in documents] == ["pptx", "sql"]


def test_build_goes_on_from_there_and_a_change_is_seen(
    sources: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["ingest", sources[0], "--out", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["files"][0]["dropped"] == {"hidden slide": 1, "text repeated on slides": 3}
    assert [Path(one["source"]).name for one in summary["skipped"]] == ["bad.xlsx"]
    config = load_config()
    run = Run.create(out, "build", continues=("ingest",))
    assert read_json(out / "run.json")["command"] == "build"
    job = Job(run, lambda stage, note: None)
    documents_stage(job, sources[:1], fingerprint(sources[:1], config.ingest), config)
    assert job.reused == ["documents"]
    write(tmp_path, "in/more.md", "words")
    documents_stage(job, sources[:1], fingerprint(sources[:1], config.ingest), config)
    assert job.reused == ["documents"] and len(list(read_jsonl(out / "documents.jsonl"))) == 2
    with pytest.raises(InputError, match="was made by `tinyforge build`"):
        Run.create(out, "ingest")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing-here"], "no such file or folder"),
        (["sqlite:///none.db", "--query", "SELECT 1"], "no such database file"),
        ([f"sqlite:///{SAMPLES / 'sqlite/boats.db'}"], "no query given (its tables: boats)"),
    ],
)
def test_wrong_sources_end_with_one_line_and_make_nothing(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ingest", *words, "--out", str(tmp_path / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyforge: ")]
    assert len(errors) == 1 and told in errors[0]
    assert not (tmp_path / "out").exists()

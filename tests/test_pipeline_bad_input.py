"""Every kind of bad file, as `tinyforge build` meets it: alone it ends the command, beside a good one it is listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingest_files import encrypted_pdf, pdf_bytes
from tinyforge.cli import main
from tinyforge.config import Config
from tinyforge.pipeline.documents import documents_stage
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run

WHOLE = pdf_bytes([[(72, 700, 12, "F1", "A loan is an agreement to bring a tool back.")]])
BAD: dict[str, tuple[bytes, str]] = {
    "zero.md": (b"", "empty"),
    "blank.txt": (b" \n\t\n", "white"),
    "binary.md": (b"# Title\x00\x01\x02" + bytes(range(256)), "binary"),
    "cut.pdf": (WHOLE[: len(WHOLE) // 3], "PDF"),
    "locked.pdf": (encrypted_pdf(), "encrypted"),
    "scan.pdf": (pdf_bytes([[]]), "text"),
    "fake.docx": (b"this is no zip archive", "DOCX"),
    "latin.txt": ("Gr\u00f6\u00dfe und \u00c4rger".encode("latin-1"), "UTF-8"),
    "odd.xyz": (b"text", "unsupported"),
}


@pytest.mark.parametrize("name", BAD)
def test_alone_it_ends_the_build_with_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, word = BAD[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    assert main(["build", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyforge: ")]
    assert len(errors) == 1, errors
    assert word.lower() in errors[0].lower()
    assert (tmp_path / "in" / name).read_bytes() == content


def test_a_build_learns_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.md").write_text("# Loans\n\nA loan is an agreement to bring a tool back within seven days.\n")
    out = tmp_path / "out"
    assert main(["build", str(tmp_path / "a.md"), "--out", str(out), "--set", "train.objective=distill"]) == 2
    assert "a build learns the questions that it writes" in capsys.readouterr().err and not out.exists()


def test_one_good_file_among_nine_bad_is_used_and_the_nine_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, (content, _) in BAD.items():
        (folder / name).write_bytes(content)
    (folder / "good.md").write_text("# Loans\n\nA loan is an agreement to bring a tool back within seven days.\n")
    heard: list[str] = []
    run = Run.create(tmp_path / "out", "build")
    documents_stage(Job(run, lambda stage, note: heard.append(note)), [folder], [], Config())
    documents = [json.loads(line) for line in run.path("documents.jsonl").read_text().splitlines()]
    assert [d["source"] for d in documents] == ["good.md"]
    summary = json.loads(run.path("stages", "documents.json").read_text())["summary"]
    assert sorted(Path(s["source"]).name for s in summary["skipped"]) == sorted(BAD)
    assert all(s["reason"] for s in summary["skipped"])
    for name in BAD:
        assert any(name in note and "skipped" in note for note in heard), name
    assert "good.md: read" in heard
    assert any(note.startswith("1 read (") and note.endswith("9 skipped") for note in heard)


def test_a_folder_that_cannot_be_written_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "good.md").write_text("# Loans\n\nA loan is an agreement to bring a tool back within seven days.\n")
    assert main(["build", str(tmp_path / "good.md"), "--out", "/proc/tinyforge"]) == 2
    error = capsys.readouterr().err
    assert "/proc/tinyforge" in error and "Traceback" not in error

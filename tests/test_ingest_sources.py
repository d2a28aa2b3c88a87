from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ingest_files import encrypted_pdf, faults, pdf_bytes, write
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import FORMATS, Ingested, read_sources

CONFIG = IngestConfig()  # type: ignore[call-arg]


def reasons(result: Ingested, folder: Path) -> dict[str, str]:
    return {skip.path.removeprefix(f"{folder}/"): skip.reason for skip in result.skipped}


def test_one_good_file_among_bad_ones(tmp_path: Path) -> None:
    pdf = pdf_bytes([[(72, 700, 11, "F1", "Some text")]])
    write(tmp_path, "good.md", "# Good\n\nText.\n")
    bad = {
        "a-empty.md": b"",
        "b-blank.txt": b" \n\t\n",
        "c-binary.md": b"\x89GIF\r\n\0\0",
        "d-cut.pdf": pdf[:200],
        "e-locked.pdf": encrypted_pdf(),
        "f-scan.pdf": pdf_bytes([[]]),
        "g-nozip.docx": b"text",
        "h-latin.txt": "first\ncaf\u00e9".encode("latin-1"),
        "i.xyz": b"?",
        "j-comment.md": b"<!-- nothing to see -->",
        "k-copy.md": b"# Good\n\nText.",
    }
    for name, content in bad.items():
        write(tmp_path, name, content)
    seen: list[tuple[str, str]] = []
    result = read_sources([tmp_path], CONFIG, lambda name, outcome: seen.append((name, outcome)))
    assert [document.source for document in result.documents] == ["good.md"]
    assert reasons(result, tmp_path) == {
        "a-empty.md": "empty file (0 bytes).",
        "b-blank.txt": "holds only white space.",
        "c-binary.md": "binary data, not text (NUL byte at offset 6).",
        "d-cut.pdf": "truncated or damaged PDF.",
        "e-locked.pdf": "encrypted PDF, it needs a password.",
        "f-scan.pdf": "no text layer in its 1 page (a scan?).",
        "g-nozip.docx": "not a .docx file (it is not a zip archive).",
        "h-latin.txt": "not UTF-8 text (byte 0xe9 at offset 9, line 2).",
        "i.xyz": "unsupported format .xyz.",
        "j-comment.md": "holds no text.",
        "k-copy.md": "same text as good.md.",
    }
    assert all(skip.fix and "\n" not in skip.reason for skip in result.skipped)
    assert ("good.md", "read") in seen and len(seen) == 12
    assert result.documents[0].metadata["path"] == str(tmp_path / "good.md")
    assert faults(result.documents[0]) == []
    again = read_sources([tmp_path], CONFIG)
    assert again == result


def test_large_files_are_refused_by_size(tmp_path: Path) -> None:
    write(tmp_path, "big.md", "word " * 300_000)
    write(tmp_path, "small.md", "word")
    result = read_sources([tmp_path], IngestConfig(max_file_mb=1.0))
    assert reasons(result, tmp_path) == {"big.md": "1.5 MB is more than ingest.max_file_mb = 1."}
    assert "ingest.max_file_mb=2" in result.skipped[0].fix
    assert len(read_sources([tmp_path], IngestConfig(max_file_mb=2.0)).documents) == 2


def test_a_parser_that_crashes_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".boom", "os.path:nothing_of_that_name")
    write(tmp_path, "a.boom", "x")
    write(tmp_path, "b.md", "text")
    result = read_sources([tmp_path], CONFIG)
    assert [document.source for document in result.documents] == ["b.md"]
    assert reasons(result, tmp_path)["a.boom"].startswith("its parser failed (AttributeError: module")


def test_html_nested_too_deep_is_said_not_cut(tmp_path: Path) -> None:
    write(tmp_path, "deep.html", "<div>" * 50_000 + "lost words" + "</div>" * 50_000)
    write(tmp_path, "fine.md", "text")
    result = read_sources([tmp_path], CONFIG)
    read = any("lost words" in document.text for document in result.documents)
    assert read or reasons(result, tmp_path)["deep.html"] == "nested too deeply to be read."


def test_missing_empty_and_unsupported_stop_before_any_work(tmp_path: Path) -> None:
    good = write(tmp_path, "good.md", "text")
    (tmp_path / "empty").mkdir()
    write(tmp_path, "empty/.hidden.md", "not read")
    write(tmp_path, "pictures/a.png", "x")
    read: list[str] = []

    def message(*sources: Path) -> str:
        with pytest.raises(InputError) as error:
            read_sources(sources, CONFIG, lambda name, outcome: read.append(name))
        assert error.value.exit_code == 2
        return str(error.value)

    assert message(good, tmp_path / "nope").startswith(f"{tmp_path}/nope: no such file or folder.")
    assert "the folder is empty" in message(good, tmp_path / "empty")
    assert "no supported file among 1 entry: unsupported format .png (1)" in message(good, tmp_path / "pictures")
    assert "no source given" in message()
    assert read == []


def test_nothing_readable_lists_the_first_reasons(tmp_path: Path) -> None:
    for name in "abcde":
        write(tmp_path, f"{name}.md", b"")
    with pytest.raises(InputError) as error:
        read_sources([tmp_path], CONFIG)
    text = error.value.message
    assert text.startswith("0 of 5 files readable") and text.count("empty file") == 3 and "and 2 more" in text
    with pytest.raises(InputError, match=r"unsupported format \.png"):
        read_sources([write(tmp_path, "a.png", "x")], CONFIG)


def test_names_tell_files_apart(tmp_path: Path) -> None:
    write(tmp_path, "one/docs/a.md", "text 1")
    write(tmp_path, "two/docs/a.md", "text 2")
    write(tmp_path, "one/b.md", "text 3")
    names = [d.source for d in read_sources([tmp_path / "one", tmp_path / "two"], CONFIG).documents]
    assert names == ["b.md", "one/docs/a.md", "two/docs/a.md"]
    both = [tmp_path / "one/docs", tmp_path / "two/docs"]
    assert [d.source for d in read_sources(both, CONFIG).documents] == [f"{folder.as_posix()}/a.md" for folder in both]
    single = read_sources([tmp_path / "one/docs/a.md"], CONFIG)
    assert single.documents[0].source == "a.md"
    twice = read_sources([tmp_path / "one/docs/a.md", tmp_path / "one"], CONFIG)
    assert [d.source for d in twice.documents] == ["a.md", "b.md"]
    assert "same file as" in twice.skipped[0].reason


def test_links_and_special_files(tmp_path: Path) -> None:
    write(tmp_path, "outside.md", "outside")
    docs = tmp_path / "docs"
    write(docs, "real.md", "real")
    write(docs, "sub/inner.md", "inner")
    (docs / "loop").symlink_to(docs)
    (docs / "self").symlink_to(docs / "self")
    (docs / "away.md").symlink_to(tmp_path / "outside.md")
    (docs / "alias.md").symlink_to(docs / "real.md")
    os.mkfifo(docs / "pipe.md")
    result = read_sources([docs], CONFIG)
    assert [document.source for document in result.documents] == ["real.md", "sub/inner.md"]
    found = reasons(result, docs)
    assert set(found) == {"loop", "self", "away.md", "alias.md", "pipe.md"}
    assert "link out of the folder" in found["away.md"] and "nowhere" in found["self"]
    assert "link to the folder" in found["loop"] and "same file as" in found["alias.md"]
    assert found["pipe.md"] == "not a regular file."


def test_files_and_folders_without_permission() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder, "closed.md", "text").chmod(0)
        write(folder, "private/a.md", "text 2")
        (folder / "private").chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(InputError) as error:
                read_sources([folder], CONFIG)
        finally:
            if root:
                os.seteuid(0)
            (folder / "private").chmod(0o755)
        assert error.value.message.startswith("0 of 2 files readable")
        assert "private: the folder cannot be opened (Permission denied)" in error.value.message
        assert "closed.md: cannot be opened (permission denied)" in error.value.message
        (folder / "closed.md").chmod(0o644)
        assert len(read_sources([folder], CONFIG).documents) == 2


def test_a_checked_out_repository_gives_its_documents_alone(tmp_path: Path) -> None:
    for name in (".git/HEAD.md", ".github/x.md", "node_modules/a/README.md", "docs/__pycache__/a.md", "env/lib/a.md"):
        write(tmp_path, name, f"not to be read: {name}")
    write(tmp_path, "env/pyvenv.cfg", "home = /usr/bin")
    write(tmp_path, "docs/guide.md", "A guide.")
    result = read_sources([tmp_path], CONFIG)
    assert [document.source for document in result.documents] == ["docs/guide.md"]
    found = reasons(result, tmp_path)
    assert set(found) == {".git", ".github", "node_modules", "docs/__pycache__", "env"}
    assert found[".git"].startswith("hidden") and found["env"] == "a folder that a tool filled, not a person."
    named = read_sources([tmp_path / "node_modules", tmp_path / ".git"], CONFIG)
    assert [document.source for document in named.documents] == ["a/README.md", "HEAD.md"]


def test_suffixes_in_capitals_and_walking_order(tmp_path: Path) -> None:
    for name in ("b.MD", "a/z.Txt", "c.html", ".git/x.md"):
        write(tmp_path, name, f"<p>text of {name}")
    assert [d.source for d in read_sources([tmp_path], CONFIG).documents] == ["a/z.Txt", "b.MD", "c.html"]


def test_importing_the_room_loads_no_parser() -> None:
    code = (
        "import sys, tinyforge.ingest\n"
        "heavy = {'bs4', 'lxml', 'docx', 'pypdfium2', 'markdown_it', 'torch', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from export_files import GUIDE, HOME, confluence_zip, google_docs_zip, notion_zip
from hostile import listing, overlapping_zip, tar_bytes, tar_link, zip_bytes
from ingest_files import cells, faults, texts, write
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import Ingested, read_sources
from tinyforge.records import Document

CONFIG = IngestConfig()


def read(folder: Path, name: str, content: bytes, config: IngestConfig = CONFIG) -> Ingested:
    """An archive and a good file beside it; nothing may be left or written anywhere near them."""
    write(folder, name, content)
    write(folder, "good.md", "A good file.")
    before = listing(folder.parent)
    result = read_sources([folder], config)
    assert listing(folder.parent) == before
    assert "good.md" in [document.source for document in result.documents]
    assert all(faults(document) == [] for document in result.documents)
    return result


def by_name(result: Ingested) -> dict[str, Document]:
    return {document.source: document for document in result.documents if document.source != "good.md"}


def reasons(result: Ingested, folder: Path) -> dict[str, str]:
    return {skip.path.removeprefix(f"{folder}/"): skip.reason for skip in result.skipped}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources' folder; temporary files go beside it, where the listing sees what is left of them."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "in"


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tgz", "a.tar"])
def test_members_read_like_files_of_a_folder(folder: Path, name: str) -> None:
    members = {
        "z.md": "# Z\n\nLast.",
        "docs/a.txt": "First.",
        "docs/b.html": "<p>Second.</p>",
        "p.png": "x",
        "e.md": "",
    }
    data = zip_bytes(members) if name == "a.zip" else tar_bytes(members, mode="w" if name == "a.tar" else "w:gz")
    result = read(folder, name, data)
    found = by_name(result)
    assert list(found) == [f"{name}/docs/a.txt", f"{name}/docs/b.html", f"{name}/z.md"]
    assert found[f"{name}/z.md"].metadata["path"] == f"{folder}/{name}/z.md"
    assert reasons(result, folder) == {
        f"{name}/p.png": "unsupported format .png.",
        f"{name}/e.md": "empty file (0 bytes).",
    }
    assert read_sources([folder], CONFIG) == result


def test_an_archive_alone_is_a_source(tmp_path: Path) -> None:
    result = read_sources([write(tmp_path, "a.zip", zip_bytes({"a.md": "text"}))], CONFIG)
    assert [document.source for document in result.documents] == ["a.zip/a.md"]


def test_names_that_lead_out_and_links_are_refused_and_counted(folder: Path) -> None:
    evil = {"../../evil.md": "x", "/abs.md": "x", "C:\\win.md": "x", "a\\..\\..\\up.md": "x", "fine.md": "text"}
    result = read(folder, "a.zip", zip_bytes({**evil, "link.md": "/etc/passwd"}, links=("link.md",)))
    assert list(by_name(result)) == ["a.zip/fine.md"]
    told = list(reasons(result, folder).values())
    assert told.count("its name leads out of the archive.") == 4 and "a link or a device, not a file." in told
    links = (tar_link("l.md", "/etc/passwd"), tar_link("h.md", "fine.md", tarfile.LNKTYPE))
    devices = (tar_link("d.md", "", tarfile.CHRTYPE), tar_link("f.md", "", tarfile.FIFOTYPE))
    result = read(folder, "b.tgz", tar_bytes({**evil, "fine2.md": "more text"}, (*links, *devices)))
    assert "b.tgz/fine2.md" in by_name(result)
    told = [reason for path, reason in reasons(result, folder).items() if path.startswith("b.tgz")]
    assert told.count("its name leads out of the archive.") == 4
    assert told.count("a link, a device or a sparse file, not a plain file.") == 4


def test_bombs_are_refused(folder: Path) -> None:
    bomb = zip_bytes({"bomb.md": b" " * 30_000_000, "fine.md": "text"})
    assert len(bomb) < 40_000
    result = read(folder, "steep.zip", bomb)
    assert list(by_name(result)) == ["steep.zip/fine.md"]
    assert reasons(result, folder)["steep.zip/bomb.md"].startswith("a zip bomb: unpacks to 1,0")
    result = read(folder, "overlap.zip", overlapping_zip())
    assert reasons(result, folder)["overlap.zip"] == "a zip bomb: its entries 'a.md' and 'b.md' overlap."
    many = IngestConfig(archive_files=50)
    result = read(folder, "many.zip", zip_bytes({f"{n}.md": f"text {n}" for n in range(51)}), many)
    assert reasons(result, folder)["many.zip"] == "more than ingest.archive_files = 50 entries."
    assert "--set ingest.archive_files=100" in next(s.fix for s in result.skipped if "many" in s.path)
    total = IngestConfig(archive_mb=1.0)
    for name, pack in (("total.zip", zip_bytes), ("total.tgz", tar_bytes)):
        members = {f"{n}.md": "".join(map(str, range(90_000))) for n in range(4)}
        result = read(folder, name, pack(members), total)  # type: ignore[operator]
        assert reasons(result, folder)[name] == "unpacks to more than ingest.archive_mb = 1."


def test_archives_in_archives_share_the_limits(folder: Path) -> None:
    data = zip_bytes({"deep.md": "very deep"})
    for level in range(5):
        data = zip_bytes({"next.zip": data, f"level{level}.md": f"level {level}"})
    result = read(folder, "a.zip", data)
    assert list(by_name(result)) == [
        "a.zip/level4.md", "a.zip/next.zip/level3.md", "a.zip/next.zip/next.zip/level2.md"
    ]  # fmt: skip
    assert reasons(result, folder)["a.zip/next.zip/next.zip/next.zip"] == "an archive inside of 3 others."
    inner = {f"{n}.zip": zip_bytes({f"{m}.md": f"{n} {m}" for m in range(30)}) for n in range(3)}
    result = read(folder, "b.zip", zip_bytes(inner), IngestConfig(archive_files=60))
    assert reasons(result, folder)["b.zip"] == "more than ingest.archive_files = 60 entries."
    result = read(folder, "c.zip", zip_bytes({"broken.zip": b"PK\3\4 no", "ok.md": "fine as it is"}))
    assert reasons(result, folder)["c.zip/broken.zip"].startswith("damaged archive (")
    assert "c.zip/ok.md" in by_name(result)


def test_damaged_encrypted_and_hidden_members(folder: Path) -> None:
    data = bytearray(zip_bytes({"bad.md": "abcdefgh" * 9, "fine.md": "text", "locked.md": "x", ".h/a.md": "y"}))
    data[data.index(b"bad.md") + 10] ^= 0xFF
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entry = archive.getinfo("locked.md").header_offset
    data[entry + 6] |= 1
    central = data.rindex(b"locked.md")
    data[central - 38] |= 1
    result = read(folder, "a.zip", bytes(data))
    found = reasons(result, folder)
    assert list(by_name(result)) == ["a.zip/fine.md"]
    assert found["a.zip/bad.md"].startswith("damaged in the archive (")
    assert found["a.zip/locked.md"] == "encrypted, it needs a password." and found["a.zip/.h/a.md"] == "hidden."
    for name, content in (("cut.zip", bytes(data[:80])), ("cut.tgz", tar_bytes({"a.md": "x" * 9999})[:60])):
        assert reasons(read(folder, name, content), folder)[name].startswith("damaged archive (")


def test_nothing_in_an_archive_to_read_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "a.zip", zip_bytes({"a.png": "x"}))
    with pytest.raises(InputError, match=r"0 of 1 files readable .*a.zip/a.png: unsupported format .png"):
        read_sources([path], CONFIG)


def test_notion(folder: Path) -> None:
    result = read(folder, "notion.zip", notion_zip())
    found = by_name(result)
    assert list(found) == [
        "notion.zip/Team Handbook.md",
        "notion.zip/Team Handbook/Guide.md",
        "notion.zip/Team Handbook/Tasks.csv",
        "notion.zip/Team Handbook/Tasks/Fix the door.md",
    ]
    titles = [document.title for document in found.values()]
    assert titles[0] == "Team Handbook" and titles[1] == "A guide whose title is longer than its file's name"
    assert titles[2:] == ["Tasks", "Fix the door"]
    trails = [document.metadata["breadcrumb"] for document in found.values()]
    assert trails == [[], ["Team Handbook"], ["Team Handbook"], ["Team Handbook", "Tasks"]]
    assert {document.metadata["export"] for document in found.values()} == {"notion"}
    everything = "\n".join(document.text for document in found.values())
    assert HOME not in everything and GUIDE not in everything and "%20" not in everything
    assert "See Guide." in everything and "Blocks: Team Handbook" in everything
    tasks = found["notion.zip/Team Handbook/Tasks.csv"]
    assert ("Paint it", "Status", "Later") in cells(tasks) and ("Paint it", "Page", "Guide") in cells(tasks)
    skipped = {path.rsplit("/", 1)[-1]: reason for path, reason in reasons(result, folder).items()}
    assert set(skipped) == {"picture.png", "Tasks 22222222222222222222222222222222.csv"}


def test_confluence(folder: Path) -> None:
    result = read(folder, "space.zip", confluence_zip())
    found = by_name(result)
    assert list(found) == ["space.zip/OPS/Database_1.html", "space.zip/OPS/Runbook_2.html"]
    page = found["space.zip/OPS/Runbook_2.html"]
    assert page.title == "Runbook" and page.metadata["breadcrumb"] == ["Operations", "Database"]
    assert [section.path for section in page.sections()] == [("Runbook", "Restart"), ("Runbook", "Restart", "Order")]
    assert ("db1", "Order", "1") in cells(page) and texts(page, "code") == ["systemctl restart db"]
    for furniture in ("Ada Writer", "Attachments", "plan.png", "generated by", "Operations"):
        assert furniture not in page.text
    assert page.metadata["dropped"] == {"page-metadata": 1, "pageSection": 1, "toc-macro": 1}
    assert reasons(result, folder)["space.zip/OPS/index.html"] == "Confluence's list of the pages of a space."


def test_google_docs(folder: Path) -> None:
    page = by_name(read(folder, "Travel.zip", google_docs_zip()))["Travel.zip/TravelRules.html"]
    assert page.title == "Travel Rules"
    assert page.text == (
        "Travel Rules\n\nSince 2024\n\nBooking\n\nBook by train .\n\n- Trains\n  - Second class\n- Buses\n\n"
        "Hotels\n\nAsk first.\n\nOr by bus."
    )
    assert [section.path for section in page.sections()] == [
        ("Travel Rules",), ("Travel Rules", "Booking"), ("Travel Rules", "Booking", "Hotels")
    ]  # fmt: skip
    assert page.metadata["dropped"] == {"comment": 1, "note mark": 3}

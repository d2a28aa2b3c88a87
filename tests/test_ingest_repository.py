"""Git repositories as sources: real ones, made by the git program, and what must not happen on the way."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ingest_files import write
from tinyforge.cli import main
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import fingerprint, read_sources
from tinyforge.ingest import repository as repositories
from tinyforge.ingest.repository import is_repository, remote_of
from tinyforge.run import read_jsonl

CONFIG = IngestConfig()
GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Anna", "-c", "user.email=anna@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def club(tmp_path: Path) -> Path:
    """A repository with documents, code, data, a link, a hook that would leave a trace, and a submodule."""
    folder = tmp_path / "club"
    folder.mkdir()
    git(folder, "init", "--quiet")
    write(folder, "README.md", "# The club\n\nThe club has two boats.\n")
    write(folder, "docs/boats.rst", "Boats\n=====\n\nThe Otter is a gig.\n")
    write(folder, "src/main.py", '"""Not a document."""\n')
    write(folder, "package.json", "{}")
    (folder / "linked.md").symlink_to("/etc/passwd")
    write(folder, ".gitmodules", f'[submodule "x"]\n\tpath = x\n\turl = {tmp_path / "none"}\n')
    write(folder, ".gitattributes", "*.md filter=evil\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    git(folder, "tag", "v1")
    write(folder, "docs/boats.rst", "Boats\n=====\n\nThe Otter is a quad.\n")
    git(folder, "commit", "--quiet", "-am", "second")
    return folder


@needs_git
@pytest.mark.parametrize("form", ["git+{}", "git+file://{}", "git+{}/.git", "{}/.git"])
def test_its_documents_are_read_and_the_rest_is_counted(club: Path, form: str) -> None:
    source = form.format(club)
    result = read_sources([source], CONFIG)
    assert [d.source for d in result.documents] == ["club/README.md", "club/docs/boats.rst"]
    assert "The Otter is a quad." in result.documents[1].text
    about = result.documents[1].metadata
    assert about["commit"] == git(club, "rev-parse", "HEAD")
    assert about["path"] == f"{source.removeprefix('git+')}/docs/boats.rst"
    assert sorted(skip.reason for skip in result.skipped) == [
        "2 files left out: code, data or other formats.",
        "2 files left out: hidden (its name starts with a dot).",
    ]


@needs_git
def test_a_branch_or_tag_and_a_folder(club: Path) -> None:
    result = read_sources([f"git+file://{club}@v1#docs"], CONFIG)
    assert [d.source for d in result.documents] == ["club/docs/boats.rst"]
    assert "The Otter is a gig." in result.documents[0].text
    for wrong, told in ((f"git+{club}@v9", "git says: .*v9"), (f"git+{club}#none", "has no folder none")):
        with pytest.raises(InputError, match=told):
            read_sources([wrong], CONFIG)


@needs_git
def test_nothing_of_it_is_run(club: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks, filters and submodules; a plain clone under the same settings runs the first two, which is the control."""
    traces = [tmp_path / "hooked", tmp_path / "filtered"]
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    hook = write(template, "post-checkout", f"#!/bin/sh\ntouch {traces[0]}\n")
    hook.chmod(0o755)
    settings = f"[init]\n\ttemplateDir = {template.parent}\n[core]\n\thooksPath = {template}\n"
    settings += f'[filter "lfs"]\n\tsmudge = touch {traces[1]}; cat\n[submodule]\n\trecurse = true\n'
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(write(tmp_path, "settings", settings)))
    write(club, ".gitattributes", "*.md filter=lfs\n")
    git(club, "add", ".")
    git(club, "commit", "--quiet", "-m", "third")
    for trace in traces:
        trace.unlink(missing_ok=True)
    read_sources([f"git+{club}"], CONFIG)
    assert not any(trace.exists() for trace in traces)
    git(tmp_path, "-c", "submodule.recurse=false", "clone", "--quiet", club.as_uri(), "plain")
    assert all(trace.exists() for trace in traces)


@needs_git
def test_a_change_is_seen_and_the_clone_is_gone(
    club: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    places = tmp_path / "places"
    places.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(places))
    before = fingerprint([f"git+{club}"], CONFIG)
    assert before == fingerprint([f"git+{club}"], CONFIG)
    out = tmp_path / "out"
    assert main(["ingest", f"git+{club}", "--out", str(out)]) == 0
    assert "2 read" in capsys.readouterr().out and len(list(read_jsonl(out / "documents.jsonl"))) == 2
    write(club, "README.md", "# The club\n\nThe club has three boats.\n")
    git(club, "commit", "--quiet", "-am", "more")
    assert fingerprint([f"git+{club}"], CONFIG) != before
    assert list(places.iterdir()) == []


@needs_git
def test_limits_and_a_repository_without_documents(club: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"has 2 documents, more than ingest\.archive_files"):
        read_sources([f"git+{club}"], IngestConfig(archive_files=1))
    with pytest.raises(InputError, match="no supported file among"):
        read_sources([f"git+{club}#src"], CONFIG)
    slow = tmp_path / "slow" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(slow.parent), prepend=os.pathsep)
    monkeypatch.setattr(repositories, "_SECONDS", 0.0)
    with pytest.raises(InputError, match="takes longer than 0 s"):
        read_sources([f"git+{club}"], CONFIG)


@needs_git
def test_too_large_a_repository_is_stopped(club: Path) -> None:
    (club / "large.md").write_text("x" * 3_000_000)
    git(club, "add", ".")
    git(club, "commit", "--quiet", "-m", "large")
    with pytest.raises(InputError, match=r"is larger than ingest\.archive_mb = 1"):
        read_sources([f"git+{club}"], IngestConfig(archive_mb=1.0))


def test_without_git_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs the git program\. Install git"):
        read_sources([f"git+{tmp_path}"], CONFIG)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("git+ext::sh -c touch% x", "https, ssh or a path only"),
        ("git+http://example.org/a.git", "https, ssh or a path only"),
        ("git+git://example.org/a.git", "https, ssh or a path only"),
        ("git+https://me:secret@example.org/a.git", "holds a user name or a password"),
        ("git+https://example.org/a.git#../x", "leads out of the repository"),
        ("git+/no/such/folder", "no such folder"),
        ("git+https://127.0.0.1/a.git", "is not a public one"),
    ],
)
def test_addresses_that_are_refused(source: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        read_sources([source], CONFIG)
    assert "secret" not in str(caught.value)


def test_which_sources_are_repositories(tmp_path: Path) -> None:
    yes = ["git+https://a.example/b", "https://a.example/b/c.git", "git@a.example:b/c.git", "ssh://git@a.example/b"]
    assert all(map(is_repository, yes))
    assert not any(map(is_repository, ["https://a.example/b/", str(tmp_path), "a.md", "x" * 5000]))
    remote = remote_of("git+https://a.example/b/c.git@feature/x#docs/en/")
    assert (remote.address, remote.branch, remote.folder) == ("https://a.example/b/c.git", "feature/x", "docs/en")
    remote = remote_of("git@a.example:b/c.git")
    assert (remote.address, remote.branch, remote.name) == ("git@a.example:b/c.git", "", "c")

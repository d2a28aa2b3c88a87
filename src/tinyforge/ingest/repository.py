"""The documents of a Git repository as a source: one shallow clone, of which nothing is run.

The git program clones into a folder that is gone after reading: no hooks, no submodules, no links, no filters, no
questions, by https, ssh or from this machine only; https goes to the address that was checked, as with a site.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tinyforge.errors import InputError
from tinyforge.ingest.address import checked_address
from tinyforge.ingest.walk import Found, Skipped, find_files

if TYPE_CHECKING:
    from tinyforge.config import IngestConfig

_PREFIX = "git+"
_SCP = re.compile(r"[\w.-]+@[\w.-]+:[\w./~-]+")  # git@host:owner/name.git
_BRANCH = re.compile(r"(\w+://[^/]*/|(?!\w+://))(.+\.git|(?:.*/)?[^/@]+)@(\w[\w./-]*)")
_DOCUMENTS = frozenset(
    ".md .markdown .txt .text .rst .rest .html .htm .pdf .docx .pptx .epub .ipynb".split()
)  # code and data are read where their folder is given
_SECONDS = 600.0
_CLONE = "clone --quiet --depth=1 --single-branch --no-tags --no-recurse-submodules --template=".split()
_SETTINGS = (
    "core.hooksPath=/dev/null", "core.symlinks=false", "core.fsmonitor=false", "submodule.recurse=false",
    "filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false", "http.followRedirects=false",
    "advice.detachedHead=false", "core.autocrlf=false",
)  # fmt: skip
_PROTOCOLS = {"https": "https", "ssh": "ssh", "file": "file", "": "file"}


@dataclass(frozen=True)
class Remote:
    """What to clone: the address that git gets, the branch or tag ("" for the usual one), the folder to read in it."""

    address: str
    branch: str
    folder: str

    @property
    def protocol(self) -> str:
        return "ssh" if _SCP.fullmatch(self.address) else urlsplit(self.address).scheme

    @property
    def name(self) -> str:
        """What citations call it: the last part of its address."""
        plain = self.address.rstrip("/").removesuffix("/.git").removesuffix(".git")
        return re.split(r"[/:]", plain)[-1] or "repository"


def is_repository(source: str) -> bool:
    """Whether a source is for git: ``git+...``, an https or ssh address that ends in .git, or a bare repository."""
    if source.startswith((_PREFIX, "ssh://")) or _SCP.fullmatch(source):
        return True
    if source.startswith("https://"):
        return urlsplit(source).path.endswith(".git")
    try:
        return all((Path(source) / part).exists() for part in ("HEAD", "objects", "refs"))
    except OSError:  # no path at all
        return False


def remote_of(source: str) -> Remote:
    """``git+https://host/owner/name.git@branch#folder`` in its parts.

    Raises InputError for another protocol than https, ssh and file, and for a folder that leads out.
    """
    address, _, folder = source.removeprefix(_PREFIX).partition("#")
    named = None if _SCP.fullmatch(address) else _BRANCH.fullmatch(address)
    address, branch = (named[1] + named[2], named[3]) if named else (address, "")
    remote = Remote(address, branch, folder.strip("/"))
    if remote.protocol not in _PROTOCOLS or "::" in address:
        raise InputError(
            f"{source}: git is asked by https, ssh or a path only.", "For example git+https://host/name.git"
        )
    if remote.protocol == "https" and (urlsplit(address).username or urlsplit(address).password):
        raise InputError(f"{urlsplit(address).hostname}: the address holds a user name or a password.", _LOGIN)
    if ".." in folder.split("/"):
        raise InputError(f"{source}: {folder} leads out of the repository.", "Name a folder inside of it.")
    if remote.protocol == "" and not Path(address).is_dir():
        raise InputError(f"{source}: no such folder ({address}).", "Check the path.")
    return remote


_LOGIN = "Give it without: git's credential helper knows it, or take the ssh address."


def revision(source: str, config: IngestConfig) -> str:
    """The commit that a repository on this machine is at; others are taken as first fetched."""
    remote = remote_of(source)
    if remote.protocol not in ("", "file"):
        return "as first fetched"
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as name:
        command = ["ls-remote", "--", _absolute(remote), remote.branch or "HEAD"]
        listed = _git(command, Path(name), remote, config)
    return listed.partition("\t")[0].strip()


@contextmanager
def cloned(
    source: str, config: IngestConfig, formats: Mapping[str, str]
) -> Iterator[tuple[list[Found], list[Skipped]]]:
    """Its documents as files, within the context only, named ``repository/folder/file.md``; and what is not read.

    Raises InputError when git is not installed, or does not get the repository within the limits (ten minutes,
    ``ingest.archive_mb``), and for a repository without a document.
    """
    remote = remote_of(source)
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as name:
        target = Path(name) / "clone"
        branch = ["--branch", remote.branch] if remote.branch else []
        _git([*_CLONE, *branch, "--", _absolute(remote), str(target)], Path(name), remote, config)
        commit = _git(["rev-parse", "HEAD"], target, remote, config).strip()
        links = _git(["ls-files", "--stage", "-z"], target, remote, config).split("\0")
        for link in (entry.partition("\t")[2] for entry in links if entry.startswith("120000")):
            (target / link).unlink(missing_ok=True)  # written as a file that holds the path
        shutil.rmtree(target / ".git")
        yield _documents(remote, target, commit, config, formats)


def _documents(
    remote: Remote, target: Path, commit: str, config: IngestConfig, formats: Mapping[str, str]
) -> tuple[list[Found], list[Skipped]]:
    shown = remote.address
    root = target / remote.folder if remote.folder else target
    if not root.is_dir():
        raise InputError(f"{shown}: has no folder {remote.folder}.", "Name a folder that the repository has.")
    documents = {suffix: parser for suffix, parser in formats.items() if suffix in _DOCUMENTS}
    try:
        found, passed = find_files([str(root)], documents)
    except InputError as error:
        raise InputError(error.message.replace(str(root), shown), error.fix) from error
    if len(found) > config.archive_files:
        fix = f"Say --set ingest.archive_files={2 * len(found)}, or name a folder: git+{shown}#docs"
        raise InputError(f"{shown}: has {len(found):,} documents, more than ingest.archive_files.", fix)
    about = {"repository": shown, "commit": commit}
    files = []
    for file in found:
        inside = file.path.relative_to(target).as_posix()
        files.append(replace(file, root=target, name=f"{remote.name}/{inside}", at=f"{shown}/{inside}", about=about))
    counts = Counter(_reason(skip) for skip in passed)
    fix = "Clone it yourself and give the folder to read them."
    return files, [Skipped(shown, f"{count:,} files left out: {reason}", fix) for reason, count in counts.most_common()]


def _reason(skip: Skipped) -> str:
    """Why a file is not a document; one reason for the many extensions that are none."""
    other = skip.reason.startswith(("unsupported format", "no file extension"))
    return "code, data or other formats." if other else skip.reason


def _absolute(remote: Remote) -> str:
    """What git is given. A path becomes an address, as a plain path would be linked to instead of fetched."""
    return Path(remote.address).resolve().as_uri() if remote.protocol == "" else remote.address


def _git(arguments: list[str], folder: Path, remote: Remote, config: IngestConfig) -> str:
    """What git writes. Raises InputError, with git's own words, when it fails or takes too much."""
    program = shutil.which("git")
    if program is None:
        raise InputError(f"{remote.address}: reading a repository needs the git program.", "Install git.")
    settings = [*_SETTINGS, *_pinned(remote, config)]
    options = [part for setting in settings for part in ("-c", setting)]
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ASKPASS": "true"}
    environment |= {"GIT_ALLOW_PROTOCOL": _PROTOCOLS[remote.protocol], "SSH_ASKPASS": "true", "LC_ALL": "C"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set where we are called from a hook
        environment.pop(name, None)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [program, *options, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            start_new_session=True,
        )
        try:
            problem = _watched(process, folder, config)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with the programs that it started
                process.wait()
        log.seek(0)
        said = " ".join(log.read()[-400:].decode(errors="replace").split())
        if problem or process.returncode:
            fix = "Check the address, the branch, and that git can read it: git ls-remote ADDRESS"
            raise InputError(f"{remote.address}: {problem or f'git says: {said}'}", fix)
        out.seek(0)
        return out.read().decode("utf-8", "surrogateescape")


def _pinned(remote: Remote, config: IngestConfig) -> list[str]:
    """Git connects to the address that was checked. Raises InputError for one that is not public."""
    if remote.protocol != "https":
        return []
    parts = urlsplit(remote.address)
    host, port = str(parts.hostname), parts.port or 443
    return [f"http.curloptResolve={host}:{port}:{checked_address(host, port, config.private_hosts)}"]


def _watched(process: subprocess.Popen[bytes], folder: Path, config: IngestConfig) -> str:
    """Wait for git within the limits; returns which one it broke."""
    deadline = time.monotonic() + _SECONDS
    pause = 0.02
    while process.returncode is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(pause)
        pause = min(2 * pause, 1.0)
        if process.returncode is None and time.monotonic() > deadline:
            return f"takes longer than {_SECONDS:g} s."
        if _size(folder) > config.archive_mb * 1e6:
            return f"is larger than ingest.archive_mb = {config.archive_mb:g}."
    return ""


def _size(folder: Path) -> int:
    """Bytes of the files below a folder that is being written."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                size += (Path(path) / name).lstat().st_size
    return size

"""What a worker process does with an archive: its readable members, one plain file each, under names made here.

Nothing of the archive decides where something is written: members become ``0001.md``, ``0002.pdf`` in a folder that
the parent made and removes. Links, devices and names that lead out of the archive are refused and counted, and so is
what is sized to do harm. Archives inside of archives are opened the same way and share the same limits.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tinyforge.errors import InputError
from tinyforge.ingest.notion import cleaned, is_page

_DEEPEST = 3  # archives inside of archives; a Notion export has two
_STEEPEST = 300  # times its packed size that a member over a megabyte may unpack to; text reaches 20, rarely 100
_NAMED = 10
_CHUNK = 1 << 20
_AGAIN = "Download or copy it again, or pack it anew."
_LEAVE = "Unpack it yourself if you trust it, and give the folder."
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError, OSError)
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True)
class _Entry:
    """A member: its name as written, its unpacked size, why it is refused ("" if it is not), and how to open it."""

    name: str
    size: int
    problem: str
    open: Callable[[], IO[bytes]]


@dataclass
class _Unpacking:
    """Where members go, what may be read, and what is left of the limits."""

    into: Path
    suffixes: frozenset[str]
    file_mb: float
    archive_mb: float
    archive_files: int
    members: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    more: Counter[tuple[str, str]] = field(default_factory=Counter)
    unpacked: int = 0
    entries: int = 0

    def skip(self, name: str, reason: str, fix: str) -> None:
        """Note a member that is not read; of many with one reason the first few by name, the rest as a number."""
        self.more[reason, fix] += 1
        if self.more[reason, fix] <= _NAMED:
            self.skipped.append((name, reason, fix))

    def summed(self) -> list[tuple[str, str, str]]:
        rest = ((reason, fix, count - _NAMED) for (reason, fix), count in self.more.items() if count > _NAMED)
        return self.skipped + [(f"({count:,} more)", reason, fix) for reason, fix, count in rest]


def unpack(
    path: str, into: str, suffixes: list[str], file_mb: float, archive_mb: float, archive_files: int
) -> dict[str, Any]:
    """``members``: (name, file below ``into``); ``skipped``: (name, reason, fix). Names are relative to the archive.

    Raises InputError, without the archive's name, for one that cannot be read or is refused as a whole.
    """
    state = _Unpacking(Path(into), frozenset(suffixes), file_mb, archive_mb, archive_files)
    _open_archive(Path(path), Path(path).name, "", 1, state)
    return {"members": state.members, "skipped": state.summed()}


def suffix_of(name: str) -> str:
    """``.tar.gz`` for such a name, else the last suffix; in small letters."""
    lowered = name.lower()
    return next((known for known in ARCHIVES if lowered.endswith(known)), PurePosixPath(lowered).suffix)


def _open_archive(path: Path, name: str, prefix: str, depth: int, state: _Unpacking) -> None:
    if suffix_of(name) == ".zip":
        _open_zip(path, prefix, depth, state)
        return
    try:
        with tarfile.open(path, "r|*") as archive:  # a stream: members are met once, in order
            for entry in _tar_entries(archive):
                _take(entry, prefix, depth, state)
    except _DAMAGE as error:
        raise _damaged(error) from error


def _open_zip(path: Path, prefix: str, depth: int, state: _Unpacking) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            refuse_overlaps(archive)
            for entry in _zip_entries(archive):
                _take(entry, prefix, depth, state)
    except _DAMAGE as error:
        raise _damaged(error) from error


def _damaged(error: Exception) -> InputError:
    return InputError(f"damaged archive ({' '.join(str(error).split())[:200] or type(error).__name__}).", _AGAIN)


def refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Raise InputError where two entries share bytes: the trick by which a few kilobytes unpack to petabytes."""
    places = sorted((info.header_offset, info.compress_size, info.filename) for info in archive.infolist())
    for (start, packed, name), (following, _, other) in pairwise(places):
        if start + 30 + packed > following:  # 30: the shortest header before the data
            raise InputError(f"a zip bomb: its entries {name!r} and {other!r} overlap.", "Do not open it.")


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        mode = info.external_attr >> 16
        problem = ""
        if info.flag_bits & 1:
            problem = "encrypted, it needs a password."
        elif stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
            problem = "a link or a device, not a file."
        elif info.file_size > 1e6 and info.file_size > _STEEPEST * max(info.compress_size, 1):
            problem = f"a zip bomb: unpacks to {info.file_size // max(info.compress_size, 1):,} times its size."
        yield _Entry(info.filename, info.file_size, problem, lambda info=info: archive.open(info))  # type: ignore[misc]


def _tar_entries(archive: tarfile.TarFile) -> Iterator[_Entry]:
    for info in archive:
        archive.members = []  # type: ignore[attr-defined]  # it would remember every header
        if info.isdir():
            continue
        plain = info.isreg() and not info.issparse()
        problem = "" if plain else "a link, a device or a sparse file, not a plain file."
        yield _Entry(info.name, info.size, problem, lambda info=info: _opened(archive, info))  # type: ignore[misc]


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    handle = archive.extractfile(info)
    assert handle is not None, "only regular files get here"
    return handle


def _take(entry: _Entry, prefix: str, depth: int, state: _Unpacking) -> None:
    """Unpack one member, or note why not."""
    state.entries += 1
    if state.entries > state.archive_files:
        raise InputError(
            f"more than ingest.archive_files = {state.archive_files:,} entries.",
            f"Say --set ingest.archive_files={2 * state.archive_files}, or unpack it and give the folder.",
        )
    name = prefix + _shown(entry.name)
    suffix = suffix_of(name)
    if problem := _bad_name(entry.name):
        state.skip(name, problem, _LEAVE)
    elif entry.problem:
        state.skip(name, entry.problem, _LEAVE)
    elif any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
        state.skip(name, "hidden.", "Unpack the archive and name the file itself to read it.")
    elif suffix in ARCHIVES:
        _take_archive(entry, name, depth, state)
    elif suffix not in state.suffixes:
        what = f"unsupported format {suffix}." if suffix else "no file extension, so the format is unknown."
        state.skip(name, what, f"Supported: {' '.join(sorted(state.suffixes))}.")
    elif entry.size > state.file_mb * 1e6:
        fix = f"Say --set ingest.max_file_mb={int(entry.size / 1e6) + 1}"
        state.skip(name, f"{entry.size / 1e6:.1f} MB is more than ingest.max_file_mb = {state.file_mb:g}.", fix)
    elif entry.size == 0:
        state.skip(name, "empty file (0 bytes).", "Put text into it, or take it away.")
    elif file := _write(entry, name, suffix, state):
        state.members.append((name, file.name))


def _take_archive(entry: _Entry, name: str, depth: int, state: _Unpacking) -> None:
    if depth >= _DEEPEST:
        state.skip(name, f"an archive inside of {depth} others.", "Unpack it and give the folder.")
        return
    file = _write(entry, name, suffix_of(name), state)
    if file is None:
        return
    try:
        _open_archive(file, name, f"{name}/", depth + 1, state)
    except InputError as error:
        if state.entries > state.archive_files or state.unpacked > state.archive_mb * 1e6:
            raise
        state.skip(name, error.message, error.fix)
    finally:
        file.unlink()


def _shown(name: str) -> str:
    """A member's name in one line; only ever shown and compared, never a place to write to."""
    plain = "".join(c if c.isprintable() else "?" for c in name.replace("\\", "/"))
    return plain.encode("utf-8", "replace").decode("utf-8").removeprefix("./")[:400]


def _bad_name(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        return "its name leads out of the archive."
    return "" if parts[-1] and "\0" not in name else "its name is damaged."


def _write(entry: _Entry, name: str, suffix: str, state: _Unpacking) -> Path | None:
    """The member as a file of its own; None, and a note, where its data is damaged."""
    state.unpacked += entry.size
    if state.unpacked > state.archive_mb * 1e6:
        raise InputError(
            f"unpacks to more than ingest.archive_mb = {state.archive_mb:g}.",
            f"Say --set ingest.archive_mb={2 * state.archive_mb:g}, or unpack it and give the folder.",
        )
    file = state.into / f"{state.entries:06}{suffix}"
    try:
        with entry.open() as source, file.open("xb") as target:
            _copy(source, target, entry.size)
    except (*_DAMAGE, RuntimeError) as error:
        file.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # the disk's trouble, not the archive's
            raise
        state.skip(name, f"damaged in the archive ({' '.join(str(error).split())[:120]}).", _AGAIN)
        return None
    if is_page(name):
        file.write_bytes(cleaned(file.read_bytes()))
    return file


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> None:
    """At most ``size`` bytes, whatever the data unpacks to."""
    while size > 0 and (chunk := source.read(min(_CHUNK, size))):
        target.write(chunk)
        size -= len(chunk)

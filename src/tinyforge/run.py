"""A Run is a folder; every write into it is atomic, and each stage remembers what it was made from.

run.json        what made this folder (its presence is what makes a folder a Run)
config.json     the resolved configuration
events.jsonl    what happened, one JSON object per line
precision.json  the arithmetic that a probe of the machine chose
stages/         one file per finished stage: the hash of its inputs and a summary
documents.jsonl, dataset/, checkpoints/, model/, index/, report.json, report.html

Of several worker processes only the first writes: in the others what would write does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from tinyforge.environment import worker
from tinyforge.errors import InputError, TinyForgeError

FORMAT = 1
_TEMPORARY, _RETIRED = ".tmp", ".old"


def _sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that a reader, or a machine that loses power, sees the old content or the new, never a part.

    Raises TinyForgeError with one clear line when the disk is full; the old file stays.
    """

    def write_to(temporary: Path) -> None:
        with open(temporary, "wb") as handle:
            write(handle)

    write_file_atomic(path, write_to)


def write_file_atomic(path: Path, write: Callable[[Path], None], size: int = 0) -> None:
    """The same for a library that opens the file itself: ``write`` makes a temporary sibling.

    ``size`` is how many bytes will be written, where that is known, for the message when they do not fit.
    """
    if worker().rank:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        _explain(error, path, size)
        raise


def write_folder_atomic(path: Path, write: Callable[[Path], None], size: int = 0) -> None:
    """The same for a folder: ``write`` fills a temporary sibling, which then takes the place of ``path``.

    A folder that is replaced stands aside for an instant; a kill right then is made good by the next ``Run.lock``.
    """
    if worker().rank:
        return
    temporary = path.with_name(f".{path.name}{_TEMPORARY}")
    retired = path.with_name(f".{path.name}{_RETIRED}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _restore(retired)
        for leftover in (temporary, retired):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        for written in (*temporary.rglob("*"), temporary):
            _sync(written)
        if path.exists():
            os.replace(path, retired)
        os.replace(temporary, path)
        _sync(path.parent)
        shutil.rmtree(retired, ignore_errors=True)
    except BaseException as error:
        reason = _reason(error, temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        _restore(retired)
        _explain(reason, path, size)
        raise


def _reason(error: BaseException, folder: Path) -> BaseException:
    """numpy tells how much of an array it could write, and not why no more; the system tells it of the next bytes."""
    if not isinstance(error, OSError) or error.errno is not None:
        return error
    try:
        with (folder / "next").open("wb", buffering=0) as handle:
            for _ in range(4):  # the first may still find some room
                handle.write(bytes(1 << 16))
    except OSError as told:
        return told
    return error


def _restore(retired: Path) -> None:
    """Put a folder back that stood aside when the process was killed, unless the new one had taken its place."""
    path = retired.with_name(retired.name[1:].removesuffix(_RETIRED))
    if retired.is_dir() and not path.exists():
        os.replace(retired, path)


def _clean(folder: Path) -> None:
    """Make good what killed processes left anywhere below: folders that stood aside, and unfinished writes."""
    for retired in sorted(folder.rglob(f".*{_RETIRED}")):
        _restore(retired)
    # SQLite keeps a journal beside a database, and safetensors has temporary names of its own.
    unfinished = (f".*{_TEMPORARY}", f".*{_TEMPORARY}-journal", f".*{_RETIRED}", ".tmp*")
    for leftover in sorted(path for pattern in unfinished for path in folder.rglob(pattern)):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSALS = (*_FULL, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS)


def _explain(error: BaseException, path: Path, size: int = 0) -> None:
    """Raise the clear line instead, where ``error`` is the system's refusal to write ``path``.

    Libraries in Rust raise errors of their own, which keep the system's number in their text alone. A refusal inside a
    folder that was explained already is explained again by the folder's own name.
    """
    if isinstance(error, TinyForgeError):
        inner = error.__cause__
        if isinstance(inner, OSError) and inner.errno in _FULL:
            raise explain_os_error(inner, path, size) from inner
        return
    if isinstance(error, Exception) and not isinstance(error, OSError):
        found = re.search(r"\(os error (\d+)\)", str(error))
        code = int(found[1]) if found else 0
        if code in _REFUSALS:
            error = OSError(code, os.strerror(code))
    if isinstance(error, OSError):
        raise explain_os_error(error, path, size) from error


def explain_os_error(error: OSError, path: Path, size: int = 0) -> TinyForgeError:
    """One clear line for the ways in which a disk refuses; ``size`` bytes were to be written, where that is known."""
    if error.errno in _FULL:
        needed = f"; this takes {_megabytes(size)}" if size else ""
        return TinyForgeError(
            f"{path}: the disk is full ({_free(path)} free{needed}).",
            "Free some space and run the same command again; it continues where it stopped.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(f"{path}: not writable ({error.strerror}).", "Choose another --out folder.")
    return TinyForgeError(f"{path}: {error.strerror or error}.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _free(path: Path) -> str:
    return _megabytes(shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free)


def write_text(path: Path, text: str) -> None:
    def write(handle: IO[bytes]) -> None:
        handle.write(text.encode("utf-8"))

    write_atomic(path, write)


def write_json(path: Path, data: Any) -> None:
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """One JSON object per line; returns how many."""
    count = 0

    def write(handle: IO[bytes]) -> None:
        nonlocal count
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")
            count += 1

    write_atomic(path, write)
    return count


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}).") from error


def read_jsonl(path: Path) -> Iterator[Any]:
    with open(path, encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}:{number}: not JSON ({error}).") from error


def hash_json(data: Any) -> str:
    """SHA-256 of the canonical JSON of ``data``: the key under which a stage's result is reused."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def hash_folder(path: Path) -> str:
    """SHA-256 over the relative names and contents of every file below ``path``."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return hash_json([[str(p.relative_to(path)), hash_file(p)] for p in files])


class Run:
    """A folder that holds everything one run made. Open with :meth:`create` (to work) or :meth:`open` (to read)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    @classmethod
    def create(cls, folder: str | Path, command: str, continues: tuple[str, ...] = ()) -> Run:
        """Make the folder, or continue in it when it is a Run made by the same command or by one that it ``continues``.

        Raises InputError when it holds something else, or cannot be written.
        """
        folder = Path(folder)
        run = cls(folder)
        if worker().rank:
            return run
        marker = run.path("run.json")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file.", "Give --out a new folder.")
        if marker.exists():
            found = read_json(marker)
            if found.get("command") not in (command, *continues) or found.get("format") != FORMAT:
                made_by = f"`tinyforge {found.get('command')}` (format {found.get('format')})"
                raise InputError(f"{folder}: was made by {made_by}.", "Give --out a new folder.")
            if found["command"] != command:
                write_json(marker, {"format": FORMAT, "command": command})
            return run
        if folder.exists() and any(not p.name.startswith(".") for p in folder.iterdir()):
            raise InputError(
                f"{folder}: already holds files that TinyForge did not make.", "Give --out a new or empty folder."
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be made ({error.strerror}).", "Choose an --out folder you can write to."
            ) from error
        write_json(marker, {"format": FORMAT, "command": command})
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """An existing Run, for reading. Raises InputError when the folder is not one."""
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder.", "Build one first: tinyforge build SOURCE --out DIR")
        if not (folder / "run.json").is_file():
            raise InputError(
                f"{folder}: is not a TinyForge run (it has no run.json).",
                "Build one first: tinyforge build SOURCE --out DIR",
            )
        return cls(folder)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one command; a second one is told so instead of spoiling the work of the first."""
        if worker().rank:
            yield
            return
        try:
            handle = open(self.path(".lock"), "a+b")  # noqa: SIM115
        except OSError as error:
            raise explain_os_error(error, self.folder) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(
                    f"{self.folder}: another tinyforge process is working here.",
                    "Wait for it, or choose another --out folder.",
                ) from error
            _clean(self.folder)
            yield

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append one line to events.jsonl."""
        if worker().rank:
            return
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **fields}, ensure_ascii=False)
        try:
            with open(self.path("events.jsonl"), "a+b") as handle:
                if handle.tell():  # a line that a kill cut off must not swallow this one
                    handle.seek(-1, os.SEEK_END)
                    line = line if handle.read(1) == b"\n" else "\n" + line
                handle.write((line + "\n").encode("utf-8"))
        except OSError as error:
            raise explain_os_error(error, self.path("events.jsonl")) from error

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The events so far, oldest first; a line cut off by a kill is left out."""
        path = self.path("events.jsonl")
        if not path.exists():
            return []
        found = []
        for line in path.read_bytes().split(b"\n"):  # not splitlines: texts may hold U+2028
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if kind is None or row.get("event") == kind:
                    found.append(row)
        return found

    def finished(self, stage: str, key: str) -> dict[str, Any] | None:
        """The summary of a stage that already finished with these inputs, or None when it has to run."""
        path = self.path("stages", f"{stage}.json")
        if not path.exists():
            return None
        found = read_json(path)
        return found["summary"] if found.get("key") == key else None

    def forget(self, stage: str) -> None:
        """Before a stage overwrites its files: they no longer are what an earlier record of it says."""
        path = self.path("stages", f"{stage}.json")
        if path.exists():
            path.unlink()
            _sync(path.parent)

    def finish(self, stage: str, key: str, summary: dict[str, Any], seconds: float) -> None:
        write_json(self.path("stages", f"{stage}.json"), {"key": key, "seconds": round(seconds, 3), "summary": summary})
        self.event("stage", stage=stage, seconds=round(seconds, 3), **summary)

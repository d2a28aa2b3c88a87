"""Which files the given sources stand for, and the name that a citation uses for each."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path

from tinyforge.errors import InputError


@dataclass(frozen=True)
class Skipped:
    """A file that gave no document: one line saying why, and what a person can do about it."""

    path: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Found:
    """A file to read; ``root`` is the folder it was found in, ``name`` what citations call it."""

    path: Path
    root: Path
    name: str


def find_files(sources: list[str], formats: Mapping[str, str]) -> tuple[list[Found], list[Skipped]]:
    """The files to read, in walking order, and those passed over.

    Raises InputError for a path that does not exist and for a folder without a supported file.
    """
    if not sources:
        raise InputError("no source given.", "Name at least one file or folder.")
    paths = [_existing(source) for source in sources]
    suffixes = sorted({*formats, *(point.name for point in entry_points(group="tinyforge.ingest"))})
    found: list[Found] = []
    skipped: list[Skipped] = []
    for path in paths:
        if path.is_dir():
            _add_folder(path, suffixes, found, skipped)
        elif problem := _unreadable_kind(path, suffixes):
            skipped.append(problem)
        else:
            found.append(Found(path, path.parent, path.name))
    return _named(_once(found, skipped)), skipped


def _existing(source: str) -> Path:
    path = Path(source)
    try:
        if not path.exists():
            raise InputError(f"{source}: no such file or folder.", "Check the path.")
    except OSError as error:
        raise InputError(f"{source}: cannot be looked at ({error.strerror}).", "Check the path.") from error
    return path


def _add_folder(folder: Path, suffixes: list[str], found: list[Found], skipped: list[Skipped]) -> None:
    files: list[Path] = []
    passed: list[Skipped] = []
    for entry in _walk(folder, folder.resolve(), passed):
        if problem := _unreadable_kind(entry, suffixes):
            passed.append(problem)
        else:
            files.append(entry)
    if not files:
        raise _no_files(folder, passed, suffixes)
    found += [Found(path, folder, path.relative_to(folder).as_posix()) for path in files]
    skipped += passed


def _walk(folder: Path, root: Path, passed: list[Skipped]) -> Iterator[Path]:
    """Entries below a folder that are no folders, sorted by name; links are followed to files inside only."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        fix = f'Allow reading it: chmod u+rx "{folder}"'
        passed.append(Skipped(str(folder), f"the folder cannot be opened ({error.strerror}).", fix))
        return
    for entry in entries:
        if entry.is_symlink():
            problem = _bad_link(entry, root)
            if problem is not None:
                passed.append(problem)
                continue
        elif entry.is_dir():
            yield from _walk(entry, root, passed)
            continue
        yield entry


def _bad_link(link: Path, root: Path) -> Skipped | None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: how Python before 3.13 reports a loop
        return Skipped(str(link), "a link that leads nowhere.", "Repair or remove the link.")
    if not target.is_relative_to(root):
        return Skipped(str(link), f"a link out of the folder, to {target}.", "Name the target as a source of its own.")
    if target.is_dir():
        return Skipped(str(link), f"a link to the folder {target}, which is read itself.", "Nothing to do.")
    return None


def _unreadable_kind(path: Path, suffixes: list[str]) -> Skipped | None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Skipped(str(path), "not a regular file.", "Give files and folders.")
    except OSError as error:
        return Skipped(str(path), f"cannot be looked at ({error.strerror}).", "Check the permissions of its folder.")
    suffix = path.suffix.lower()
    if suffix in suffixes:
        return None
    shown = f"unsupported format {suffix}." if suffix else "no file extension, so the format is unknown."
    return Skipped(str(path), shown, f"Supported: {' '.join(suffixes)}.")


def _no_files(folder: Path, passed: list[Skipped], suffixes: list[str]) -> InputError:
    supported = f"Supported: {' '.join(suffixes)}."
    if not passed:
        return InputError(f"{folder}: the folder is empty (hidden files are not read).", supported)
    counts = Counter(skip.reason.rstrip(".") for skip in passed)
    kinds = "; ".join(f"{reason} ({n})" for reason, n in counts.most_common(4))
    entries = "1 entry" if len(passed) == 1 else f"{len(passed)} entries"
    return InputError(f"{folder}: no supported file among {entries}: {kinds}.", supported)


def _once(found: Iterable[Found], skipped: list[Skipped]) -> list[Found]:
    """Each real file once, under its own name rather than a link's."""
    files = list(found)
    first: dict[Path, Found] = {}
    for file in sorted(files, key=lambda file: file.path.is_symlink()):
        first.setdefault(file.path.resolve(), file)
    kept = {id(file) for file in first.values()}
    for file in files:
        if id(file) not in kept:
            known = first[file.path.resolve()]
            skipped.append(Skipped(str(file.path), f"same file as {known.path}.", "Nothing to do: it is read once."))
    return [file for file in files if id(file) in kept]


def _named(files: list[Found]) -> list[Found]:
    """Names that tell all files apart: where two are equal, first the folder's name is added, then the whole path."""
    for rename in (lambda f: f"{f.root.resolve().name}/{f.name}", lambda f: f.path.as_posix()):
        counts = Counter(file.name for file in files)
        files = [replace(file, name=rename(file)) if counts[file.name] > 1 else file for file in files]
    return files

"""Which files the given sources stand for, and the name that a citation uses for each."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.signs import exports_among, refused
from tinyforge.ingest.sniff import format_of
from tinyforge.ingest.unpack import ARCHIVES, suffix_of

_HIDDEN = "hidden (its name starts with a dot)."
_NAME_IT = "Name it as a source of its own to read it."
_TOOL_FOLDERS = frozenset({"node_modules", "bower_components", "__pycache__", "site-packages", "__MACOSX"})


@dataclass(frozen=True)
class Skipped:
    """A file that gave no document: one line saying why, and what a person can do about it."""

    path: str
    reason: str
    fix: str


@dataclass(frozen=True)
class Found:
    """A file to read; ``root`` is the folder it was found in, ``name`` what citations call it.

    ``at`` is where a person finds it: the path, or for an unpacked or fetched copy its place in the archive or on the
    web. ``about`` is metadata that its document gets besides the parser's.
    """

    path: Path
    root: Path
    name: str
    at: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", self.at or str(self.path))


def find_files(sources: list[str], formats: Mapping[str, str]) -> tuple[list[Found], list[Skipped]]:
    """The files to read, in walking order, and those passed over.

    Raises InputError for a path that does not exist and for a folder without a supported file.
    """
    if not sources:
        raise InputError("no source given.", "Name at least one file or folder.")
    paths = [_existing(source) for source in sources]
    suffixes = known_suffixes(formats)
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


def known_suffixes(formats: Mapping[str, str]) -> list[str]:
    """The extensions that a parser is there for, our own and those of plug-ins."""
    return sorted({*formats, *_plugin_suffixes()})


@lru_cache(maxsize=1)
def _plugin_suffixes() -> tuple[str, ...]:
    return tuple(point.name for point in entry_points(group="tinyforge.ingest"))  # reads every package's metadata


def supported(suffixes: Iterable[str]) -> str:
    """What can be read, to say beside what cannot."""
    return f"Supported: {' '.join(suffixes)} and the archives {' '.join(ARCHIVES)}."


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
    kept = [Found(path, folder, path.relative_to(folder).as_posix()) for path in files]
    chats, told = chats_among([file.name for file in kept], str(folder))
    found += [file for file in kept if not file.name.startswith(chats)]
    skipped += [*passed, *told]


def chats_among(names: Iterable[str], place: str) -> tuple[tuple[str, ...], list[Skipped]]:
    """How the names of files begin that are a chat, exported as many files; ``place`` is what holds them all."""
    exports = exports_among(names)
    skipped = []
    for prefix, program in exports.items():
        error = refused(program)
        skipped.append(Skipped(f"{place}/{prefix}".rstrip("/"), error.message, error.fix))
    return tuple(exports), skipped


def _walk(folder: Path, root: Path, passed: list[Skipped]) -> Iterator[Path]:
    """Entries below a folder that are no folders, sorted by name; links are followed to files inside only."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        fix = f'Allow reading it: chmod u+rx "{folder}"'
        passed.append(Skipped(str(folder), f"the folder cannot be opened ({error.strerror}).", fix))
        return
    # site-packages and the like, which are not what a person means by a folder of documents, unless they name it
    if folder.resolve() != root and (folder.name in _TOOL_FOLDERS or any(e.name == "pyvenv.cfg" for e in entries)):
        passed.append(Skipped(str(folder), "a folder that a tool filled, not a person.", _NAME_IT))
        return
    for entry in entries:
        if entry.name.startswith("."):
            passed.append(Skipped(str(entry), _HIDDEN, _NAME_IT))
            continue
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
    if suffix_of(path.name) in ARCHIVES:
        return None
    if format_of(path, suffixes):
        return None
    suffix = path.suffix.lower()
    shown = f"unsupported format {suffix}." if suffix else "no file extension, so the format is unknown."
    return Skipped(str(path), shown, supported(suffixes))


def _no_files(folder: Path, passed: list[Skipped], suffixes: list[str]) -> InputError:
    fix = supported(suffixes)
    if all(skip.reason == _HIDDEN for skip in passed):
        return InputError(f"{folder}: the folder is empty (hidden files are not read).", fix)
    counts = Counter(skip.reason.rstrip(".") for skip in passed)
    kinds = "; ".join(f"{reason} ({n})" for reason, n in counts.most_common(4))
    entries = "1 entry" if len(passed) == 1 else f"{len(passed)} entries"
    return InputError(f"{folder}: no supported file among {entries}: {kinds}.", fix)


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

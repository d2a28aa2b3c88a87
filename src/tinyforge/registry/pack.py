"""One run as one file, with a manifest of what is in it; and the removal of a run."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.registry.facts import Facts
from tinyforge.run import Run, hash_file, write_file_atomic

MANIFEST = "manifest.json"
_LEFT_OUT = ("checkpoints", "trackers")
_YEAR_ZERO = (1980, 1, 1, 0, 0, 0)  # the first date that zip knows: the same run gives the same bytes


def manifest(folder: Path, facts: Facts) -> dict[str, Any]:
    """Each file with its size and SHA-256. Hidden files stay behind: locks, and who stands behind a pseudonym."""
    files = [
        {"path": str(path.relative_to(folder)), "bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in _files(folder)
    ]
    return {"format": 1, "run": facts.to_json(), "files": files}


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and parts[0] not in _LEFT_OUT and not any(part.startswith(".") for part in parts):
            yield path


def pack(folder: Path, facts: Facts, out: Path) -> dict[str, Any]:
    """Write the run to ``out`` (.tar.gz, .tgz or .zip), in a folder of the run's name; returns the manifest.

    Raises InputError for another ending, or a file that is already there.
    """
    write = _WRITERS.get(next((end for end in _WRITERS if out.name.endswith(end)), ""))
    if write is None:
        raise InputError(f"{out}: the ending says no known form.", f"Use one of {', '.join(_WRITERS)}.")
    if out.exists():
        raise InputError(f"{out}: exists already.", "Give --out a new file.")
    made = manifest(folder, facts)
    text = (json.dumps(made, ensure_ascii=False, indent=1) + "\n").encode()
    size = sum(entry["bytes"] for entry in made["files"])
    name = folder.resolve().name
    write_file_atomic(out, lambda temporary: write(temporary, name, folder, made["files"], text), size)
    return made


def _tar(temporary: Path, name: str, folder: Path, files: list[dict[str, Any]], text: bytes) -> None:
    import gzip

    with (
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        archive.addfile(_member(f"{name}/{MANIFEST}", len(text)), io.BytesIO(text))
        for entry in files:
            with (folder / entry["path"]).open("rb") as handle:
                archive.addfile(_member(f"{name}/{entry['path']}", entry["bytes"]), handle)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member


def _zip(temporary: Path, name: str, folder: Path, files: list[dict[str, Any]], text: bytes) -> None:
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry(f"{name}/{MANIFEST}"), text)
        for entry in files:
            target = archive.open(_entry(f"{name}/{entry['path']}"), "w", force_zip64=True)
            with target, (folder / entry["path"]).open("rb") as handle:
                shutil.copyfileobj(handle, target, 1 << 20)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _YEAR_ZERO)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry


_WRITERS = {".tar.gz": _tar, ".tgz": _tar, ".zip": _zip}


def delete(folder: Path, facts: Facts) -> None:
    """Remove the run. Raises InputError for a released one, or where another process works in it."""
    if facts.state == "released":
        raise InputError(f"{facts.name}: is released.", f"Retire it first: tinyforge runs tag {facts.name} retired")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.deleted")
    with Run.open(folder).lock():
        folder.replace(aside)  # at once: no half of a run is ever listed
    shutil.rmtree(aside)

"""The files of an export: one file, a folder, or a zip. A zip is read in memory; nothing is unpacked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError

_LARGEST = 2_000_000_000  # bytes of one file after decompression
_DENSEST = 200  # how many times larger a file may be than its compressed form; chats reach about 20
_SMALL = 10_000_000  # below this, density is no danger


class Files:
    """Files by their relative names with ``/``, sorted; hidden ones and links are left alone.

    Raises InputError, naming the path, for what is missing, damaged, encrypted or unreasonably large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._parsed: dict[str, Any] = {}
        if path.is_dir():
            found = (p for p in path.rglob("*") if p.is_file() and not p.is_symlink())
            self.names = sorted(p.relative_to(path).as_posix() for p in found)
        elif not path.is_file():
            raise InputError(f"{path}: no such file or folder.", "Give a chat export.")
        elif zipfile.is_zipfile(path):
            self._zip = zipfile.ZipFile(path)
            self.names = sorted(entry.filename for entry in self._zip.infolist() if not entry.is_dir())
        else:
            self.names = [path.name]
        self.names = [n for n in self.names if not any(p.startswith((".", "__MACOSX")) for p in n.split("/"))]

    def read(self, name: str) -> bytes:
        try:
            if self._zip is not None:
                return self._unzipped(self._zip, name)
            return (self.path / name if self.path.is_dir() else self.path).read_bytes()
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise InputError(f"{self.path}: {name} is not readable ({error}).", "Export the chat again.") from error

    def _unzipped(self, archive: zipfile.ZipFile, name: str) -> bytes:
        entry = archive.getinfo(name)
        dense = entry.file_size > _SMALL and entry.file_size > _DENSEST * max(1, entry.compress_size)
        if entry.file_size > _LARGEST or dense:
            raise InputError(f"{self.path}: {name} would unpack to {entry.file_size:,} bytes.", "Unpack it yourself.")
        with archive.open(entry) as handle:
            data = handle.read(entry.file_size + 1)
        if len(data) > entry.file_size:
            raise InputError(f"{self.path}: {name} is larger than the zip says.", "Export the chat again.")
        return data

    def text(self, name: str) -> str:
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path}: {name} is not UTF-8 ({error}).", "Export the chat again.") from error

    def json(self, name: str) -> Any:
        """The parsed file, kept for the next one who asks."""
        if name not in self._parsed:
            try:
                self._parsed[name] = json.loads(self.text(name))
            except (ValueError, RecursionError) as error:
                raise InputError(f"{self.path}: {name} is not JSON ({error}).", "Export the chat again.") from error
        return self._parsed[name]

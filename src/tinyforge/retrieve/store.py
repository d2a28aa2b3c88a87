"""Where an index lies: a folder on this machine, or object storage by its URL (``s3://bucket/path``, ``gs://``, ``az://``).

A folder is replaced as a whole or not at all. Object storage has no such rename; there the record that says which
version of the table holds is written last, and readers take that version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.run import read_json, write_folder_atomic, write_json

Location = Path | str
"""A folder, or a URL as text."""

META = "meta.json"
_TABLE, _RECORD = "passages", "about"
_AGAIN = "Make it with `tinyforge index`, or run `tinyforge build` again."
_FAILURES = (OSError, ValueError, RuntimeError)  # what LanceDB raises; its errors in Rust come as RuntimeError


def locate(place: str | Path) -> Location:
    """``place`` as a location; a run folder stands for the index in it."""
    if "://" in str(place):
        return str(place)
    folder = Path(place)
    return folder / "index" if (folder / "index" / META).is_file() else folder


def exists(location: Location) -> bool:
    if isinstance(location, Path):
        return (location / META).is_file()
    return _RECORD in _connect(location).list_tables().tables


def read_meta(location: Location) -> dict[str, Any]:
    """Raises InputError when there is no index."""
    if isinstance(location, Path):
        if not (location / META).is_file():
            raise InputError(f"{location}: is not a search index (it has no {META}).", _AGAIN)
        found = read_json(location / META)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise InputError(f"{location}: holds something that is no index.", "Give another folder.")
        return found
    if not exists(location):
        raise InputError(f"{location}: holds no search index.", _AGAIN)
    (text,) = _connect(location).open_table(_RECORD).to_arrow().column("meta").to_pylist()
    record: dict[str, Any] = json.loads(text)
    return record


def open_table(location: Location, meta: dict[str, Any]) -> Any:
    try:
        table = _connect(location).open_table(_TABLE)
        if "version" in meta:
            table.checkout(meta["version"])
    except _FAILURES as error:
        raise InputError(f"{location}: the index cannot be read ({error}).", "Build it again.") from error
    return table


def write(location: Location, meta: dict[str, Any], make: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Replace the index; returns ``meta`` as it was stored. ``make(connection, name)`` makes the table."""
    if isinstance(location, Path):

        def fill(temporary: Path) -> None:
            make(_connect(temporary), _TABLE)
            write_json(temporary / META, meta)

        write_folder_atomic(location, fill)
        return meta
    connection = _connect(location)
    try:
        stored = {**meta, "version": make(connection, _TABLE).version}
        create(connection, _RECORD, [{"meta": json.dumps(stored)}])
    except _FAILURES as error:
        raise InputError(f"{location}: cannot be written ({error}).", "Check the address and your rights.") from error
    return stored


def create(connection: Any, name: str, data: Any) -> Any:
    """A table with this data, in place of one of that name."""
    mode = "overwrite" if name in connection.list_tables().tables else "create"
    return connection.create_table(name, data=data, mode=mode)


def _connect(location: Location) -> Any:
    import lancedb

    try:
        return lancedb.connect(location)
    except _FAILURES as error:
        raise InputError(f"{location}: cannot be reached ({error}).", "Check the address and your rights.") from error

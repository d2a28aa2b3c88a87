"""Files into documents, side by side in worker processes and in order; a file that does not fit is told of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import TinyForgeError
from tinyforge.ingest.archive import is_archive, opened
from tinyforge.ingest.pool import Call, Pool
from tinyforge.ingest.sql import shown
from tinyforge.ingest.walk import Found, Skipped
from tinyforge.records import Document

if TYPE_CHECKING:
    from tinyforge.config import IngestConfig

Parsed = tuple[Found, list[Document] | Skipped]


def parsed(files: Sequence[Found], config: IngestConfig, pool: Pool, formats: Mapping[str, str]) -> Iterator[Parsed]:
    """Each file with what it holds, in order. Archives are opened one at a time, files beside them side by side."""
    for is_one, group in groupby(files, key=lambda file: is_archive(file.path)):
        if not is_one:
            yield from _side_by_side(list(group), config, pool, formats)
            continue
        for archive in group:
            with opened(archive, config, pool, formats) as inside:
                yield from ((Found(archive.path, archive.root, skip.path, skip.path), skip) for skip in inside.skipped)
                yield from _side_by_side(inside.files, config, pool, formats)


def parsed_databases(urls: Sequence[str], config: IngestConfig, pool: Pool) -> Iterator[Parsed]:
    """The rows that the query finds in each database."""
    calls = (Call("tinyforge.ingest.sql:read_json", {"url": url, "query": config.query}) for url in urls)
    for url, outcome in zip(urls, pool.map(calls), strict=True):
        database = Found(Path(shown(url)), Path(), shown(url), shown(url))
        yield database, _result(database, outcome)


def _side_by_side(
    files: Sequence[Found], config: IngestConfig, pool: Pool, formats: Mapping[str, str]
) -> Iterator[Parsed]:
    problems = [_unfit(file, config) for file in files]
    calls = (_call(file, formats) for file, problem in zip(files, problems, strict=True) if problem is None)
    outcomes = pool.map(calls)
    for file, problem in zip(files, problems, strict=True):
        if problem is not None:
            yield file, problem
            continue
        yield file, _result(file, next(outcomes))


def _call(file: Found, formats: Mapping[str, str]) -> Call:
    arguments = {"path": str(file.path.absolute()), "name": file.name, "parsers": dict(formats)}
    arguments |= {"at": file.at, "about": dict(file.about)}
    return Call("tinyforge.ingest.parsing:parse_file", arguments)


def _result(file: Found, outcome: Any) -> list[Document] | Skipped:
    if isinstance(outcome, TinyForgeError):
        return Skipped(file.at, outcome.message.removeprefix(f"{file.at}: "), outcome.fix)
    if not outcome:
        return Skipped(file.at, "holds no text.", "Write something into it, or take it away.")
    return [Document.from_json(data) for data in outcome]


def _unfit(file: Found, config: IngestConfig) -> Skipped | None:
    """Why a file is not even opened: nothing in it, or too much."""
    try:
        size = file.path.stat().st_size
    except OSError as error:
        return Skipped(file.at, f"cannot be looked at ({error.strerror}).", "Check the permissions of its folder.")
    if not os.access(file.path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        return Skipped(file.at, "cannot be opened (permission denied).", f'Allow reading it: chmod u+r "{file.at}"')
    if size == 0:
        return Skipped(file.at, "empty file (0 bytes).", "Put text into it, or take it away.")
    megabytes = size / 1e6
    if megabytes <= config.max_file_mb:
        return None
    fix = f"Split the file, or say --set ingest.max_file_mb={int(megabytes) + 1}"
    return Skipped(file.at, f"{megabytes:.1f} MB is more than ingest.max_file_mb = {config.max_file_mb:g}.", fix)

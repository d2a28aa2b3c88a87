"""Documents from files: one small file per format, and the walk that decides what is read.

    read_sources   files and folders -> documents, and what was skipped and why
    pool.py, worker.py   the processes that files are parsed in, and their limits; parsing.py: what they do with a file
    archive.py, unpack.py, notion.py   archives and exports as sources
    web.py, fetch.py, address.py, robots.py, links.py   a page or a site as a source
    builder.py     the text and its spans; the only place that computes offsets
    walk.py        which files, under which names
    sniff.py       which format a file has, by extension and content
    reading.py     bytes -> characters; package.py: the checks of formats that are zip archives
    rows.py, fields.py   rows of a table and records of fields as blocks, for CSV, SQL and JSON alike
    markdown.py, text.py, rst.py, html.py (html_table.py, html_exports.py), pdf.py (pdf_lines.py, pdf_table.py),
    docx.py (docx_text.py), pptx.py (pptx_shapes.py), xlsx.py (xlsx_numbers.py), csv.py, json.py, epub.py, notebook.py,
    python.py, source.py,
    sql.py (a database's rows by a query)
    summary.py     what was read from each source, counted

Blocks are ordered by where they start and do not overlap, with one exception: a ``table_row`` covers its line of a
table and comes right before the ``table_cell`` blocks inside of it. Work on rows or on cells, not on both.

To add a format: one file with ``parse(path, source) -> Iterator[Document]``, and its line in ``FORMATS``. What a parser
leaves out it counts by reason in ``metadata["dropped"]``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.archive import is_archive, opened
from tinyforge.ingest.pool import Call, Limits, Pool
from tinyforge.ingest.sql import is_database, shown
from tinyforge.ingest.walk import Found, Skipped, find_files
from tinyforge.ingest.web import fetch_site, is_url
from tinyforge.records import Document, content_id

if TYPE_CHECKING:  # the workers import this package, and start faster without pydantic
    from tinyforge.config import IngestConfig

__all__ = ["FORMATS", "Ingested", "Skipped", "fingerprint", "read_sources"]

FORMATS: dict[str, str] = {
    ".md": "tinyforge.ingest.markdown:parse",
    ".markdown": "tinyforge.ingest.markdown:parse",
    ".txt": "tinyforge.ingest.text:parse",
    ".text": "tinyforge.ingest.text:parse",
    ".html": "tinyforge.ingest.html:parse",
    ".htm": "tinyforge.ingest.html:parse",
    ".pdf": "tinyforge.ingest.pdf:parse",
    ".docx": "tinyforge.ingest.docx:parse",
    ".pptx": "tinyforge.ingest.pptx:parse",
    ".xlsx": "tinyforge.ingest.xlsx:parse",
    ".xlsm": "tinyforge.ingest.xlsx:parse",
    ".csv": "tinyforge.ingest.csv:parse",
    ".tsv": "tinyforge.ingest.csv:parse",
    ".epub": "tinyforge.ingest.epub:parse",
    ".ipynb": "tinyforge.ingest.notebook:parse",
    ".json": "tinyforge.ingest.json:parse",
    ".jsonl": "tinyforge.ingest.json:parse_lines",
    ".ndjson": "tinyforge.ingest.json:parse_lines",
    ".rst": "tinyforge.ingest.rst:parse",
    ".rest": "tinyforge.ingest.rst:parse",
    ".py": "tinyforge.ingest.python:parse",
    ".pyi": "tinyforge.ingest.python:parse",
    **dict.fromkeys(
        ".c .h .cc .cpp .cxx .hh .hpp .cs .dart .go .java .jl .js .jsx .kt .lua .mjs .php .pl .r .rb .rs .scala .sh "
        ".bash .sql .swift .ts .tsx".split(),
        "tinyforge.ingest.source:parse",
    ),
}


Parsed = tuple[Found, list[Document] | Skipped]


@dataclass(frozen=True)
class Ingested:
    """What was read, in the order of the walk, and what was not."""

    documents: list[Document]
    skipped: list[Skipped]


def read_sources(
    sources: Sequence[str | Path],
    config: IngestConfig,
    on_file: Callable[[str, str], None] | None = None,
    pages: Path | None = None,
    allowed_addresses: Collection[str] = (),
) -> Ingested:
    """Read files and folders (walked in sorted order, hidden entries left alone), then sites, then databases.

    Each file is parsed in a child process with a time and a memory limit of its own; results come in the order of the
    walk. ``on_file(name, outcome)`` is called after each file: the outcome is ``"read"`` or ``"skipped: <reason>"``.
    ``pages`` is the folder in which fetched pages are kept, and found again without the network (by default they are
    gone afterwards); ``allowed_addresses`` may be asked although they are not public.
    Raises InputError, before anything is read, for a missing path, a folder without a supported file, and a site that
    does not answer or must not be asked; and afterwards when not one file could be read. Every other trouble is one
    file's own and is listed in ``skipped``.
    """
    sites, databases, paths = _parted(sources)
    files, skipped = find_files(paths, FORMATS) if paths or not (sites or databases) else ([], [])
    documents: list[Document] = []
    seen: dict[str, str] = {}
    report = on_file or (lambda name, outcome: None)
    with Pool(Limits(config.timeout_seconds, config.memory_mb)) as pool, _folder(pages) as folder:
        for site in sites:
            fetched, left = fetch_site(site, config, folder, pool, FORMATS, allowed_addresses)
            files += fetched
            skipped += left
        for skip in skipped:
            report(skip.path, f"skipped: {skip.reason}")
        for file, found in chain(_parsed(files, config, pool), _parsed_databases(databases, config, pool)):
            kept = found if isinstance(found, Skipped) else _keep_new(file.at, found, documents, seen)
            if kept is not None:
                skipped.append(kept)
            report(file.name, "read" if kept is None else f"skipped: {kept.reason}")
    if not documents:
        raise _nothing_read(skipped)
    return Ingested(documents, skipped)


def fingerprint(sources: Sequence[str | Path], config: IngestConfig) -> list[list[str]]:
    """``[name, hash of the content]`` of everything that would be read: equal ones give equal documents.

    A database is read for it, as it has no file whose change would show. Raises InputError for a missing path, a
    folder without a supported file, and a database or a query that does not work.
    """
    sites, databases, paths = _parted(sources)
    files = find_files(paths, FORMATS)[0] if paths or not (sites or databases) else []
    found = [[file.name, _hash(file.path)] for file in files] + [[site, "as first fetched"] for site in sites]
    with Pool(Limits(config.timeout_seconds, config.memory_mb)) as pool:
        for database, read in _parsed_databases(databases, config, pool):
            if isinstance(read, Skipped):
                raise InputError(f"{read.path}: {read.reason}", read.fix)
            found.append([database.name, content_id(*(document.id for document in read))])
    return found


def _hash(path: Path) -> str:
    from tinyforge.run import hash_file

    try:
        return hash_file(path)
    except OSError as error:  # reading reports it; here it only has to differ from a readable file
        return f"unreadable: {error.errno}"


def _parted(sources: Sequence[str | Path]) -> tuple[list[str], list[str], list[str]]:
    """The sites and the databases among the sources, and the rest."""
    given = [str(source) for source in sources]
    sites = [source for source in given if is_url(source)]
    databases = [source for source in given if is_database(source)]
    return sites, databases, [source for source in given if source not in {*sites, *databases}]


@contextmanager
def _folder(pages: Path | None) -> Iterator[Path]:
    """Where fetched pages go: the given folder, or one for the time of reading."""
    if pages is not None:
        yield pages
        return
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as folder:
        yield Path(folder)


def _parsed(files: Sequence[Found], config: IngestConfig, pool: Pool) -> Iterator[Parsed]:
    """Each file with what it holds, in order. Archives are opened one at a time, files beside them side by side."""
    for is_one, group in groupby(files, key=lambda file: is_archive(file.path)):
        if not is_one:
            yield from _parsed_files(list(group), config, pool)
            continue
        for archive in group:
            with opened(archive, config, pool, FORMATS) as inside:
                yield from ((Found(archive.path, archive.root, skip.path, skip.path), skip) for skip in inside.skipped)
                yield from _parsed_files(inside.files, config, pool)


def _parsed_files(files: Sequence[Found], config: IngestConfig, pool: Pool) -> Iterator[Parsed]:
    problems = [_unfit(file, config) for file in files]
    calls = (_call(file) for file, problem in zip(files, problems, strict=True) if problem is None)
    outcomes = pool.map(calls)
    for file, problem in zip(files, problems, strict=True):
        if problem is not None:
            yield file, problem
            continue
        yield file, _result(file, next(outcomes))


def _result(file: Found, outcome: Any) -> list[Document] | Skipped:
    if isinstance(outcome, TinyForgeError):
        return Skipped(file.at, outcome.message.removeprefix(f"{file.at}: "), outcome.fix)
    if not outcome:
        return Skipped(file.at, "holds no text.", "Write something into it, or take it away.")
    return [Document.from_json(data) for data in outcome]


def _parsed_databases(urls: Sequence[str], config: IngestConfig, pool: Pool) -> Iterator[Parsed]:
    calls = (Call("tinyforge.ingest.sql:read_json", {"url": url, "query": config.query}) for url in urls)
    for url, outcome in zip(urls, pool.map(calls), strict=True):
        database = Found(Path(shown(url)), Path(), shown(url), shown(url))
        yield database, _result(database, outcome)


def _call(file: Found) -> Call:
    arguments = {"path": str(file.path.absolute()), "name": file.name, "parsers": FORMATS}
    arguments |= {"at": file.at, "about": dict(file.about)}
    return Call("tinyforge.ingest.parsing:parse_file", arguments)


def _keep_new(path: str, found: list[Document], documents: list[Document], seen: dict[str, str]) -> Skipped | None:
    first_known = ""
    kept = False
    for document in found:
        known = seen.setdefault(content_id(document.text), document.source)
        if known == document.source:
            documents.append(document)
            kept = True
        else:
            first_known = first_known or known
    return None if kept else Skipped(path, f"same text as {first_known}.", "Nothing to do: the text is kept once.")


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


def _nothing_read(skipped: list[Skipped]) -> InputError:
    reasons = "; ".join(f"{skip.path}: {skip.reason.rstrip('.')}" for skip in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(
        f"0 of {len(skipped)} files readable ({reasons}{more}).", skipped[0].fix if skipped else "Give a file."
    )

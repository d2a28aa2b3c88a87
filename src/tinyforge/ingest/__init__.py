"""Documents from files: one small file per format, and the walk that decides what is read.

    stream_sources, read_sources   files, folders, addresses -> documents, and what was skipped and why
    kinds.py       what kind of source each is; parsed.py: files into documents
    pool.py, worker.py   the processes that files are parsed in, and their limits; parsing.py: what they do with a file
    archive.py, unpack.py, notion.py   archives and exports as sources
    web.py, fetch.py, address.py, robots.py, links.py   a page or a site as a source
    endpoint.py, endpoint_page.py, secrets.py   a REST endpoint; repository.py: the documents of a Git repository
    builder.py     the text and its spans; the only place that computes offsets
    walk.py        which files, under which names
    sniff.py       which format a file has, by extension and content
    reading.py     bytes -> characters; package.py: the checks of formats that are zip archives
    rows.py, fields.py   rows of a table and records of fields as blocks, for CSV, SQL and JSON alike
    markdown.py, text.py, rst.py, html.py (html_table.py, html_exports.py), pdf.py (pdf_lines.py, pdf_table.py),
    docx.py (docx_text.py), pptx.py (pptx_shapes.py), xlsx.py (xlsx_numbers.py), csv.py, json.py, epub.py, notebook.py,
    python.py, source.py,
    sql.py (a database's rows by a query)
    chats/         chats from exports, which are refused here and read by `tinyforge data convert`
    summary.py     what was read from each source, counted

Blocks are ordered by where they start and do not overlap, with one exception: a ``table_row`` covers its line of a
table and comes right before the ``table_cell`` blocks inside of it. Work on rows or on cells, not on both.

To add a format: one file with ``parse(path, source) -> Iterator[Document]``, and its line in ``FORMATS``. What a parser
leaves out it counts by reason in ``metadata["dropped"]``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.errors import InputError
from tinyforge.ingest.endpoint import fetch_endpoint
from tinyforge.ingest.kinds import Kinds, kinds_of
from tinyforge.ingest.parsed import parsed, parsed_databases
from tinyforge.ingest.pool import Limits, Pool
from tinyforge.ingest.repository import cloned, revision
from tinyforge.ingest.walk import Found, Skipped, find_files
from tinyforge.ingest.web import fetch_site
from tinyforge.records import Document, content_id

if TYPE_CHECKING:  # the workers import this package, and start faster without pydantic
    from tinyforge.config import IngestConfig

__all__ = ["FORMATS", "Ingested", "Skipped", "fingerprint", "read_sources", "stream_sources"]

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
) -> Ingested:
    """Everything that ``stream_sources`` gives, at once."""
    skipped: list[Skipped] = []
    return Ingested(list(stream_sources(sources, config, skipped, on_file, pages)), skipped)


def stream_sources(
    sources: Sequence[str | Path],
    config: IngestConfig,
    skipped: list[Skipped],
    on_file: Callable[[str, str], None] | None = None,
    pages: Path | None = None,
) -> Iterator[Document]:
    """Documents as they are read: files and folders (walked in sorted order, hidden entries left alone), then sites,
    endpoints and repositories, then databases. What is not read goes into ``skipped`` meanwhile.

    Each file is parsed in a child process with a time and a memory limit of its own; documents come in the order of the
    walk, and no more of them are held than the processes are ahead. ``on_file(name, outcome)`` is called after each
    file: the outcome is ``"read"`` or ``"skipped: <reason>"``. ``pages`` is the folder in which fetched pages are kept,
    and found again without the network (by default they are gone afterwards).
    Raises InputError, before the first document, for a missing path, a folder without a supported file, and an address
    that does not answer or must not be asked; and at the end when not one file could be read. Every other trouble is
    one file's own and is listed in ``skipped``.
    """
    kinds = kinds_of(sources)
    files, passed = _files(kinds)
    skipped += passed
    seen: dict[str, str] = {}
    report = on_file or (lambda name, outcome: None)
    with Pool(Limits(config.timeout_seconds, config.memory_mb)) as pool, _folder(pages) as folder, ExitStack() as stack:
        fetched = [fetch_site(site, config, folder, pool, FORMATS) for site in kinds.sites]
        fetched += [fetch_endpoint(endpoint, config, folder, pool) for endpoint in kinds.endpoints]
        fetched += [stack.enter_context(cloned(source, config, FORMATS)) for source in kinds.repositories]
        for found, left in fetched:
            files += found
            skipped += left
        for skip in skipped:
            report(skip.path, f"skipped: {skip.reason}")
        outcomes = chain(parsed(files, config, pool, FORMATS), parsed_databases(kinds.databases, config, pool))
        for file, result in outcomes:
            kept = result if isinstance(result, Skipped) else None
            if not isinstance(result, Skipped):
                new = [document for document in result if _is_new(document, seen)]
                yield from new
                kept = None if new else _same_text(file, result, seen)
                del new
            del result  # before the next one is there
            if kept is not None:
                skipped.append(kept)
            report(file.name, "read" if kept is None else f"skipped: {kept.reason}")
    if not seen:
        raise _nothing_read(skipped)


def fingerprint(sources: Sequence[str | Path], config: IngestConfig) -> list[list[str]]:
    """``[name, hash of the content]`` of everything that would be read: equal ones give equal documents.

    A database is read for it, as it has no file whose change would show. Raises InputError for a missing path, a
    folder without a supported file, and a database or a query that does not work.
    """
    kinds = kinds_of(sources)
    found = [[file.name, _hash(file.path)] for file in _files(kinds)[0]]
    found += [[address, "as first fetched"] for address in (*kinds.sites, *kinds.endpoints)]
    found += [[source, revision(source, config)] for source in kinds.repositories]
    with Pool(Limits(config.timeout_seconds, config.memory_mb)) as pool:
        for database, read in parsed_databases(kinds.databases, config, pool):
            if isinstance(read, Skipped):
                raise InputError(f"{read.path}: {read.reason}", read.fix)
            found.append([database.name, content_id(*(document.id for document in read))])
    return found


def _files(kinds: Kinds) -> tuple[list[Found], list[Skipped]]:
    return find_files(kinds.paths, FORMATS) if kinds.paths or kinds.only_paths else ([], [])


def _hash(path: Path) -> str:
    from tinyforge.run import hash_file

    try:
        return hash_file(path)
    except OSError as error:  # reading reports it; here it only has to differ from a readable file
        return f"unreadable: {error.errno}"


@contextmanager
def _folder(pages: Path | None) -> Iterator[Path]:
    """Where fetched pages go: the given folder, or one for the time of reading."""
    if pages is not None:
        yield pages
        return
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as folder:
        yield Path(folder)


def _is_new(document: Document, seen: dict[str, str]) -> bool:
    """Whether no other source had this text before; two documents of one source may be equal."""
    return seen.setdefault(content_id(document.text), document.source) == document.source


def _same_text(file: Found, found: Sequence[Document], seen: dict[str, str]) -> Skipped:
    known = seen[content_id(found[0].text)]
    return Skipped(file.at, f"same text as {known}.", "Nothing to do: the text is kept once.")


def _nothing_read(skipped: list[Skipped]) -> InputError:
    reasons = "; ".join(f"{skip.path}: {skip.reason.rstrip('.')}" for skip in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(
        f"0 of {len(skipped)} files readable ({reasons}{more}).", skipped[0].fix if skipped else "Give a file."
    )

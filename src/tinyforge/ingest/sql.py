"""The rows that a query finds in a database, named by its SQLAlchemy URL; the database is only read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.rows import Row, documents_of
from tinyforge.records import Document

_URL = re.compile(r"(?:sqlite|postgresql|postgres|mysql|mariadb|mssql|oracle|duckdb)(?:\+\w+)?:/")
_READS = re.compile(r"\s*(?:--[^\n]*\n\s*)*(?:select|with|values|table)\b", re.IGNORECASE)
_EXAMPLE = "For example: --query 'SELECT title, body FROM articles'"
_AT_ONCE = 1000


def is_database(source: str) -> bool:
    """Whether a source is a database's URL (``sqlite:///notes.db``) rather than a path."""
    return _URL.match(source) is not None


def shown(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _engine(url: str) -> Any:
    try:
        import sqlalchemy
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ImportError:
        raise InputError(
            f"{shown(url)}: reading a database needs SQLAlchemy.", "Install it: pip install 'tinyforgeai[sql]'"
        ) from None
    try:
        parsed = sqlalchemy.make_url(re.sub(r"^postgres\b", "postgresql", url))
        if parsed.get_backend_name() == "sqlite":
            return sqlalchemy.create_engine(_read_only(parsed, url))
        return sqlalchemy.create_engine(_with_driver(parsed))
    except (ArgumentError, NoSuchModuleError) as error:
        raise InputError(f"{shown(url)}: not a database URL ({error}).", "For example: sqlite:///notes.db") from error
    except ImportError as error:
        fix = "pip install 'tinyforgeai[postgresql]'" if _is_postgresql(url) else f"pip install {error.name}"
        raise InputError(f"{shown(url)}: its driver is missing ({error}).", fix) from error


def _is_postgresql(url: str) -> bool:
    return url.startswith("postgres")


def _with_driver(parsed: Any) -> Any:
    """PostgreSQL without a driver in its URL is asked through pg8000, which is in pure Python and permissive."""
    plain = parsed.drivername == "postgresql"
    return parsed.set(drivername="postgresql+pg8000") if plain else parsed


def _read_only(parsed: Any, url: str) -> Any:
    """SQLite would make a file that is not there, and would let a query change one that is."""
    path = Path(parsed.database or "")
    if not path.is_file():
        raise InputError(f"{shown(url)}: no such database file ({path}).", "Check the path; sqlite:////abs/path.db")
    return parsed.set(database=f"file:{path.absolute().as_posix()}", query={"mode": "ro", "uri": "true"})


def _check(url: str, query: str, engine: Any) -> None:
    import sqlalchemy

    if not query.strip():
        names = sqlalchemy.inspect(engine).get_table_names()
        listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        raise InputError(f"{shown(url)}: no query given (its tables: {listed or 'none'}).", _EXAMPLE)
    if not _READS.match(query):
        raise InputError(f"{shown(url)}: the query is not a SELECT; databases are only read.", _EXAMPLE)


def read(url: str, query: str) -> Iterator[Document]:
    """The rows of ``query`` as Documents, a table or, where values are long, a record each (see ``rows.py``).

    Raises InputError, without the password, for a URL, a driver or a query that does not work.
    """
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    engine = _engine(url)
    try:
        _check(url, query, engine)
        with engine.connect().execution_options(stream_results=True, postgresql_readonly=True) as connection:
            result = connection.execute(text(query.replace(":", "\\:")))
            names = list(result.keys())
            metadata = {"path": shown(url), "format": "sql", "query": query, "columns": names}
            yield from documents_of(_rows(result), names, shown(url), metadata)
            connection.rollback()
    except SQLAlchemyError as error:
        raise InputError(
            f"{shown(url)}: the database refused ({_told(error)}).", "Correct the query or the URL."
        ) from error
    finally:
        engine.dispose()


def _told(error: Exception) -> str:
    """The database's own words; pg8000 gives them as one field of many."""
    cause = getattr(error, "orig", None) or error
    fields = cause.args[0] if cause.args else None
    return " ".join(str(fields.get("M", fields) if isinstance(fields, dict) else cause).split())[:200]


def _rows(result: Any) -> Iterator[Row]:
    for number, row in enumerate(result.yield_per(_AT_ONCE), 1):
        yield number, [_shown(value) for value in row]


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{len(value)} bytes" if isinstance(value, bytes | memoryview) else str(value)


def read_json(url: str, query: str) -> list[Any]:
    """The same as JSON data: what a worker process gives back."""
    return [document.to_json() for document in read(url, query) if document.text]

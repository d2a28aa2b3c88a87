"""What a worker process does with one file: choose the parser, read, and give the documents as plain data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyforge import plugins
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.sniff import format_of, refuse_mislabelled
from tinyforge.ingest.walk import known_suffixes


def parse_file(path: str, name: str, parsers: dict[str, str], at: str, about: dict[str, Any]) -> list[Any]:
    """The documents of a file as JSON data; those without text are left out.

    ``parsers`` is the table of formats, ``at`` what a person calls the file (its path, or its place in an archive or
    on the web), ``about`` metadata to add to the parser's own. Raises InputError without the file's name.
    """
    suffix = format_of(Path(path), known_suffixes(parsers))
    try:
        parse = plugins.load("ingest", suffix, parsers)
        refuse_mislabelled(Path(path), suffix)
        found = [document for document in parse(Path(path), name) if document.text]
    except TinyForgeError as error:
        message = error.message.removeprefix(f"{path}: ").replace(path, at)
        raise InputError(message, error.fix.replace(path, at)) from error
    return [replace(document, metadata={**document.metadata, **about, "path": at}).to_json() for document in found]

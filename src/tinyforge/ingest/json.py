"""JSON and JSON lines: objects as sections and records, with text fields as text (see ``fields.py``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.builder import TextBuilder
from tinyforge.ingest.chats.signs import refuse_json
from tinyforge.ingest.fields import add_record, add_value
from tinyforge.ingest.reading import read_text, text_lines
from tinyforge.ingest.rows import PART, title_of
from tinyforge.records import Document

_LISTED = 5


def _fault(path: Path, error: ValueError) -> InputError:
    told = str(error)
    if isinstance(error, json.JSONDecodeError):
        told = f"{error.msg}, line {error.lineno}, column {error.colno}"
    return InputError(f"{path}: not JSON ({told}).", "Save it again from the program that made it.")


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; a file with an object on each line is read as JSON lines, whatever it is called.

    Raises InputError for what is not JSON, and for a chat or rows of conversations (see chats/signs.py).
    """
    text = read_text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data" or error.lineno < 2:
            raise _fault(path, error) from error
        yield from parse_lines(path, source)
        return
    except ValueError as error:  # a number of more than 4300 digits
        raise _fault(path, error) from error
    refuse_json(value, path)
    out = TextBuilder()
    add_value(value, out)
    yield out.document(source, {"path": str(path), "format": "json", "title": title_of(source)})


def parse_lines(path: Path, source: str) -> Iterator[Document]:
    """Documents of about a million characters each; metadata: ``first_row`` (its line), ``dropped``.

    A line that is not JSON is left out, counted, and its place listed in ``bad_lines``. Raises InputError where no
    line is JSON, and for rows of conversations.
    """
    out = TextBuilder()
    bad: list[str] = []
    first = good = parts = 0
    for number, line in enumerate(text_lines(path), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            bad.append(f"line {number}: {error}")
            continue
        if out.length >= PART:
            yield out.document(f"{source}:{first}" if parts else source, _about(path, source, first, bad))
            out, first, bad = TextBuilder(), 0, []
            parts += 1
        good += 1
        if good == 1:
            refuse_json(value, path)
        first = first or number
        _add_row(value, out)
    if not good and bad:
        raise InputError(f"{path}: not JSON lines ({bad[0]}).", "Write one JSON value on each line.")
    yield out.document(f"{source}:{first}" if parts else source, _about(path, source, first, bad))


def _add_row(value: Any, out: TextBuilder) -> None:
    if isinstance(value, dict):
        add_record(value, out)
    else:
        add_value(value, out)


def _about(path: Path, source: str, first: int, bad: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"path": str(path), "format": "jsonl", "title": title_of(source)}
    metadata["first_row"] = first
    if bad:
        metadata["dropped"] = {"line that is not JSON": len(bad)}
        metadata["bad_lines"] = bad[:_LISTED]
    return metadata

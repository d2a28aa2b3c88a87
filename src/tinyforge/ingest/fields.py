"""Records of fields as blocks: a heading from what names the record, "key: value" items, and its text as paragraphs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tinyforge.ingest.builder import TextBuilder, clean, guess_header_rows

_NAMES = ("title", "name", "heading", "question", "subject", "headline", "label", "term", "key", "id")
_TEXTS = frozenset({"text", "content", "body", "markdown", "document", "page_content", "answer"})
_LONGEST_NAME = 120
_LONGEST_WORD = 60  # characters; a list of longer values is written as a list
_LONG = 200  # characters; a longer value is text rather than a field
_DEEPEST_HEADING = 5
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def is_long(value: object) -> bool:
    """Whether a value reads as text of its own rather than as a field of a record."""
    return isinstance(value, str) and (len(value) > _LONG or "\n" in value.strip())


def add_value(value: Any, out: TextBuilder, level: int = 1) -> None:
    """Append what a JSON file holds: keys that lead to records become headings, records see ``add_record``."""
    if isinstance(value, Mapping):
        _add_object(value, out, level)
    elif isinstance(value, list):
        _add_list(value, out, level)
    else:
        _add_text(_shown(value), out)


def _add_list(values: list[Any], out: TextBuilder, level: int) -> None:
    if values and all(isinstance(row, list) and not _is_nested(row) for row in values):
        grid = [list(map(_shown, row)) for row in values]
        out.table(grid, guess_header_rows(grid) if len(set(map(len, grid))) == 1 else 0)
        return
    for item in values:
        if isinstance(item, Mapping):
            add_record(item, out, level)
        elif isinstance(item, list):
            _add_list(item, out, level)
        else:
            out.add("list_item", _shown(item), marker="- ")


def _add_object(value: Mapping[str, Any], out: TextBuilder, level: int) -> None:
    plain = {key: item for key, item in value.items() if not _is_nested(item)}
    for key, item in plain.items():
        _add_field(key, item, out, 0)
    for key, item in value.items():
        if key in plain:
            continue
        if level > _DEEPEST_HEADING:
            _add_field(key, item, out, 0)
        else:
            out.add("heading", key, level=level)
            add_value(item, out, level + 1)


def add_record(record: Mapping[str, Any], out: TextBuilder, level: int = 1) -> None:
    """Append one record under a heading: its title or name, else its first short field with its key ("id 17")."""
    lower = {key.lower(): key for key in record}
    named = (lower[name] for name in _NAMES if name in lower and _names(record[lower[name]]))
    key = next(named, None)
    heading = "" if key is None else _shown(record[key])
    if key is not None and not re.search(r"[^\W\d]", heading):
        heading = f"{key} {heading}"
    if key is None:
        key = next((k for k, value in record.items() if _names(value)), None)
        heading = "" if key is None else f"{key} {_shown(record[key])}"
    out.add("heading", heading, level=min(level, 6))
    rest = [(k, value) for k, value in record.items() if k != key]
    for k, value in sorted(rest, key=lambda item: item[0].lower() in _TEXTS or is_long(item[1])):
        _add_field(k, value, out, 0)


def _names(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    return 0 < len(clean(str(value))) <= _LONGEST_NAME and not is_long(value)


def _add_field(key: str, value: Any, out: TextBuilder, depth: int) -> None:
    if isinstance(value, Mapping) and value:
        out.add("list_item", f"{key}:", level=depth, marker="- ")
        for inner, item in value.items():
            _add_field(inner, item, out, depth + 1)
    elif _is_nested(value):
        out.add("list_item", f"{key}:", level=depth, marker="- ")
        for number, item in enumerate(value, 1):
            if isinstance(item, Mapping | list):
                _add_field(str(number), item, out, depth + 1)
            else:
                out.add("list_item", _shown(item), level=depth + 1, marker=f"{number}. ")
    elif key.lower() in _TEXTS and isinstance(value, str):
        _add_text(value, out)
    elif shown := _shown(value).strip():
        first, *more = _BLANK_LINES.split(shown)
        out.add("list_item", f"{key}: {first}", level=depth, marker="- ")
        _add_text("\n\n".join(more), out)


def _is_nested(value: object) -> bool:
    """An object with something in it, or a list of more than words."""
    if isinstance(value, list):
        return any(isinstance(item, Mapping | list) or len(str(item)) > _LONGEST_WORD for item in value)
    return isinstance(value, Mapping) and bool(value)


def _add_text(text: str, out: TextBuilder) -> None:
    for paragraph in paragraphs(text):
        out.add("paragraph", paragraph)


def paragraphs(text: str) -> Iterator[str]:
    """The paragraphs of a text between its blank lines, each on one line."""
    for part in _BLANK_LINES.split(text.replace("\r\n", "\n").strip()):
        yield clean(part)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _listed(value)
    return json.dumps(value, ensure_ascii=False, default=str) if value != {} else ""


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(filter(None, map(_shown, values)))

"""Safe repairs of whole files: rows keep their fields and their order, and everything that is done is counted."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyforge.dataset.boilerplate import boilerplate, without
from tinyforge.dataset.checks import texts_of
from tinyforge.dataset.labels import variants
from tinyforge.dataset.origin import FIELD, origin_of
from tinyforge.dataset.repairs import CLEANING, REPAIRS, mend
from tinyforge.dataset.rows import DroppedRow, refuse_chat
from tinyforge.dataset.shapes import RowError, identify, read_row
from tinyforge.dataset.tables import open_table
from tinyforge.dataset.written import check_out, write_rows
from tinyforge.errors import InputError
from tinyforge.records import Example

Row = dict[str, Any]


@dataclass
class Mended:
    """How many rows were written, in how many of them each repair did something, and which were left out."""

    out: str
    written: int = 0
    repairs: Counter[str] = field(default_factory=Counter)
    dropped: list[DroppedRow] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        reasons = Counter(row.reason for row in self.dropped)
        return {
            "out": self.out,
            "written": self.written,
            "repaired": dict(self.repairs.most_common()),
            "left_out": dict(reasons.most_common()),
            "dropped": [str(row) for row in self.dropped],
        }


def fix(path: Path, out: Path) -> Mended:
    """``path`` with every safe repair, into ``out``: texts mended, labels spelt alike, turns of one role joined.

    Rows that cannot be used, and repeated ones, are left out. Raises InputError before anything is written.
    """
    return _rewrite(path, out, Mender(REPAIRS, _spellings(path)), once=True)


def clean(path: Path, out: Path) -> Mended:
    """``path`` with its texts in Unicode NFC, without control characters, markup, boilerplate and stray white space.

    Every row stays, but those of which nothing is left. Raises InputError before anything is written.
    """
    lines = boilerplate(text for _, example in _examples(path) for text in texts_of(example))
    table = {**CLEANING, "boilerplate": lambda text: without(text, lines)} if lines else CLEANING
    return _rewrite(path, out, Mender(table, {}), once=False)


def _examples(path: Path) -> Iterator[tuple[int, Example]]:
    for line, raw in open_table(path).rows:
        try:
            yield line, read_row(raw)[1]
        except RowError:
            continue


def _spellings(path: Path) -> dict[str, str]:
    return variants(Counter(example.label for _, example in _examples(path) if example.label))


@dataclass(frozen=True)
class Mender:
    """Repairs one raw row; ``labels`` maps a spelling to the one that is taken."""

    repairs: Mapping[str, Callable[[str], str]]
    labels: Mapping[str, str]

    def row(self, raw: Mapping[str, Any], used: set[str], done: set[str]) -> Row:
        new = dict(raw)
        for name, value in raw.items():
            key = str(name).strip().lower()
            if key == "label" and isinstance(value, str) and value in self.labels:
                new[name] = self.labels[value]
                done.add("label spelt in several ways")
            elif key in used and key not in _NAMES:
                new[name] = self.value(value, done)
        said = "messages" if "messages" in new else "conversations"
        if self.repairs is REPAIRS and FIELD not in new and isinstance(new.get(said), list):
            new[said] = _joined(new[said], done)
        return _with_origin(raw, new, self, done)

    def value(self, value: Any, done: set[str]) -> Any:
        """Every text in a value, wherever it stands, but for roles."""
        if isinstance(value, str):
            text, names = mend(value, self.repairs)
            done.update(names)
            return text
        if isinstance(value, Mapping):
            return {key: inner if key in _NAMES else self.value(inner, done) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, done) for inner in value]
        return value


_NAMES = frozenset(
    (*"role from id fact cluster rule split difficulty topic evidence metadata document label type".split(), FIELD)
)


def _joined(messages: list[Any], done: set[str]) -> list[Any]:
    """Neighbouring turns of one role as one."""
    found: list[Any] = []
    for message in messages:
        last = found[-1] if found else None
        role, content = _keys(message)
        if last is not None and role and _keys(last)[0] and last[_keys(last)[0]] == message[role]:
            here = _keys(last)[1]
            if isinstance(last[here], str) and isinstance(message[content], str):
                found[-1] = {**last, here: f"{last[here]}\n\n{message[content]}"}
                done.add("turns of one role in a row")
                continue
        found.append(message)
    return found


def _keys(message: Any) -> tuple[str, str]:
    """The names under which a message has its role and its text; empty where it is none."""
    for role, content in (("role", "content"), ("from", "value")):
        if isinstance(message, Mapping) and role in message and content in message and not message.get("tool_calls"):
            return role, content
    return "", ""


def _with_origin(raw: Mapping[str, Any], new: Row, mender: Mender, done: set[str]) -> Row:
    """Rows made of chats say how long each author's piece is: those lengths move with the text."""
    origin = origin_of(raw) if isinstance(raw.get(FIELD), Mapping) else None
    if origin is None:
        return new
    texts = [message["content"] for message in raw["messages"]] if raw.get("messages") else [raw["text"]]
    pieces = [[mender.value(piece, done) for piece in turn] for turn in origin.pieces(texts)]
    moved = origin.with_lengths(pieces)
    said = ["\n".join(turn) for turn in pieces]
    if raw.get("messages"):
        new["messages"] = [{**m, "content": text} for m, text in zip(raw["messages"], said, strict=True)]
    else:
        new["text"] = said[0]
    return {**new, FIELD: moved.to_json()}


def _rewrite(path: Path, out: Path, mender: Mender, once: bool) -> Mended:
    check_out(out, path)
    refuse_chat(path)
    table = open_table(path)
    report = Mended(str(out))
    seen: dict[str, str] = {}
    rows = []
    for line, raw in table.rows:
        place, done = f"{table.name}:{line}", set[str]()
        try:
            row, example = _mended(raw, mender, done)
            first = seen.setdefault(identify(example), place) if once else place
            if first != place:
                raise RowError("repeats a row", f" ({first})")
        except RowError as error:
            report.dropped.append(DroppedRow(place, error.reason, error.detail))
            continue
        report.repairs.update(done)
        rows.append(row)
    if not rows:
        raise InputError(
            f"{path}: none of its {len(report.dropped)} rows can be used.",
            f"See why: tinyforge data validate {shlex.quote(str(path))}",
        )
    report.written = write_rows(out, rows)
    return report


def _mended(raw: Any, mender: Mender, done: set[str]) -> tuple[Row, Example]:
    shape, _, _ = read_row(raw)
    row = mender.row(raw, {*shape.needed, *shape.optional}, done)
    return row, read_row(row)[1]

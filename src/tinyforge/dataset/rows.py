"""Training data from files: JSON, JSON lines, CSV, Parquet and folders that HF datasets saved, into Examples.

What the rows mean is decided in :mod:`tinyforge.dataset.shapes`; how the files are read, in
:mod:`tinyforge.dataset.tables`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyforge.dataset.shapes import RowError, describe_shapes, identify, read_row
from tinyforge.dataset.tables import Table, open_table
from tinyforge.errors import InputError
from tinyforge.ingest.chats import recognise
from tinyforge.records import Example, Kind

_NAMED_LINES = 5


@dataclass(frozen=True, slots=True)
class DroppedRow:
    """A row that is not used: ``place`` is ``file:line``; ``detail`` is what differs from row to row."""

    place: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}{self.detail}"


@dataclass
class RowSet:
    """Examples of one kind, in the order of the file, and everything that was not taken over.

    ``shapes`` counts the usable rows by shape, ``unused`` the rows in which a field was not read; ``notes`` says
    whatever else a person should know.
    """

    source: str
    examples: list[Example] = field(default_factory=list)
    shapes: Counter[str] = field(default_factory=Counter)
    dropped: list[DroppedRow] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def kind(self) -> Kind:
        return self.examples[0].kind

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were dropped for each reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.dropped).most_common())

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "kind": self.kind,
            "rows": len(self.examples) + len(self.dropped),
            "usable": len(self.examples),
            "shapes": dict(self.shapes),
            "reasons": self.reasons,
            "dropped": [str(row) for row in self.dropped],
            "unused_fields": dict(self.unused),
            "notes": self.notes,
        }


def read_rows(source: str | Path) -> RowSet:
    """The training data in ``source``: .jsonl or .json (also .gz, .zst), .csv, .tsv, .parquet, or a folder that HF
    datasets' ``save_to_disk`` wrote.

    A row that cannot be used, or that repeats another, is dropped and listed with its reason. Each Example has its file
    and line in ``metadata``. Raises InputError, naming file and line, when no row can be used, when the rows are of
    different kinds (running text, conversations, preferences, labels), or when the file cannot be read.
    """
    refuse_chat(Path(source))
    table = open_table(Path(source))
    found = RowSet(str(source), notes=table.notes)
    seen: dict[str, int] = {}
    first_fields: list[str] = []
    for line, row in table.rows:
        try:
            shape, example, unused = read_row(row)
            _once(seen, example, line)
        except RowError as error:
            if not found.dropped and isinstance(row, Mapping):
                first_fields = [str(name) for name in row]
            found.dropped.append(DroppedRow(f"{table.name}:{line}", error.reason, error.detail))
            continue
        metadata = {**example.metadata, "source": table.name, "line": line}
        found.examples.append(replace(example, metadata=metadata))
        found.shapes[shape.name] += 1
        found.unused.update(unused)
    if not found.examples:
        raise _nothing_usable(table, found.dropped, first_fields)
    _same_kind(found, table)
    return found


def refuse_chat(path: Path) -> None:
    """Raises InputError for a chat export: it has no rows until it is said whose turns to learn."""
    if path.suffix.lower() in (".json", ".txt", ".zip") or (path.is_dir() and not (path / "state.json").exists()):
        try:
            program = recognise(path)
        except InputError:  # too large to be looked at as a whole; rows are read one by one
            program = ""
        if program:
            raise InputError(
                f"{path}: is a chat ({program}), not rows.",
                f"Say whose turns to learn: tinyforge data convert {shlex.quote(str(path))} --out rows.jsonl "
                "--persona NAME",
            )


def _once(seen: dict[str, int], example: Example, line: int) -> None:
    first = seen.setdefault(identify(example), line)
    if first != line:
        raise RowError("repeats a row", f" (line {first})")


def _nothing_usable(table: Table, dropped: list[DroppedRow], fields: list[str]) -> InputError:
    fix = f"Known fields: {describe_shapes()}."
    if not dropped:
        return InputError(f"{table.path}: holds no rows.", fix)
    first = replace(dropped[0], place=f"{table.path}:{dropped[0].place.rpartition(':')[2]}")
    shown = f" (fields: {', '.join(fields)})" if fields else ""
    rest = f"; none of the {len(dropped)} rows can be used" if len(dropped) > 1 else ""
    return InputError(f"{first}{shown}{rest}.", fix)


def _same_kind(found: RowSet, table: Table) -> None:
    lines: dict[str, list[int]] = {}
    for example in found.examples:
        lines.setdefault(example.kind, []).append(example.metadata["line"])
    if len(lines) > 1:
        listed = "; ".join(f"{kind}: {_listed(numbers)}" for kind, numbers in lines.items())
        raise InputError(f"{table.path}: rows of different kinds ({listed}).", "Put each kind into a file of its own.")


def _listed(numbers: list[int]) -> str:
    more = len(numbers) - _NAMED_LINES
    named = ", ".join(map(str, numbers[:_NAMED_LINES]))
    return f"line{'s' * (len(numbers) > 1)} {named}" + (f" and {more} more" if more > 0 else "")

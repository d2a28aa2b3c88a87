"""Rows into files: JSON lines, CSV or Parquet, by the name of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.run import write_file_atomic, write_jsonl, write_text

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".csv", ".parquet")


def check_out(out: Path, *inputs: Path) -> None:
    """Raises InputError when rows cannot be written there: another format, or one of the inputs itself."""
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{out}: rows are written as {', '.join(SUFFIXES)}.", f"--out {out.with_suffix('.jsonl')}")
    if any(path.resolve() == out.resolve() for path in inputs):
        raise InputError(f"{out}: is the input itself.", "Give --out another name.")


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write all rows, or none; returns how many. InputError when the format cannot hold them."""
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return write_jsonl(path, rows)
    listed = list(rows)
    names = list(dict.fromkeys(name for row in listed for name in row))
    if suffix == ".csv":
        write_text(path, _separated(path, names, listed))
    else:
        _write_parquet(path, names, listed)
    return len(listed)


def _separated(path: Path, names: Sequence[str], rows: Sequence[Row]) -> str:
    nested = next((name for row in rows for name, value in row.items() if isinstance(value, (list, dict))), None)
    if nested is not None:
        raise InputError(f"{path}: CSV has no form for the lists in {nested!r}.", "Write .jsonl or .parquet.")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _write_parquet(path: Path, names: Sequence[str], rows: Sequence[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    try:
        table = pyarrow.table({name: [row.get(name) for row in rows] for name in names})
        write_file_atomic(path, lambda temporary: parquet.write_table(table, temporary))
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: Parquet has no form for these rows ({error}).", "Write .jsonl.") from error

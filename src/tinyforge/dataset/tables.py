"""Files of rows: each format read into numbered rows, one at a time. What the rows mean is not decided here.

Numbers are lines for JSON and CSV (where a row begins), and rows counted from 1 for Parquet and Arrow.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from tinyforge.dataset.shapes import RowError
from tinyforge.errors import InputError

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_SPLIT_FILES = ("dev.jsonl", "wordings.jsonl", "documents.jsonl", "retention.jsonl", "test.jsonl")
_PACKED = (".gz", ".zst")
_LONGEST_CELL = 1 << 30  # characters; Python's own limit of 131,072 refuses a long document

Rows = Iterator[tuple[int, Any]]


@dataclass
class Table:
    """Numbered rows of a file or folder; one that could not be read is a RowError. ``notes`` names what is not read."""

    path: Path
    name: str
    rows: Rows
    notes: list[str] = field(default_factory=list)


def open_table(path: Path) -> Table:
    """The rows of ``path``, by its suffix; of a run or a folder, its training rows.

    Raises InputError here or while reading, naming the file and line.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.", "Give a file of training data.")
    packed = path.suffix.lower() if path.suffix.lower() in _PACKED else ""
    suffix = Path(path.name[: len(path.name) - len(packed)]).suffix.lower()
    if suffix not in SUFFIXES or (packed and suffix == ".parquet"):
        raise InputError(
            f"{path}: not a format of training data.",
            f"Use {', '.join(SUFFIXES)} or a folder written by datasets' save_to_disk.",
        )
    if suffix == ".parquet":
        return Table(path, path.name, enumerate(_parquet(path), 1))
    if suffix == ".jsonl":
        return Table(path, path.name, _json_lines(path, _lines(path)))
    if suffix == ".json":
        return Table(path, path.name, _json(path))
    return Table(path, path.name, _separated(path, "\t" if suffix == ".tsv" else ","))


def _open(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if path.suffix.lower() == ".zst":
        import pyarrow

        # zstandard's own reader takes a file that ends too early for one that is finished.
        return cast(IO[bytes], io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd")))
    return path.open("rb")


def _lines(path: Path) -> Iterator[bytes]:
    number = 0
    try:
        with _open(path) as handle:
            for number, line in enumerate(handle, 1):
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}:{number + 1}: not readable ({error}).") from error


def _decoded(path: Path) -> str:
    data = b"".join(_lines(path))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8.", "Save the file as UTF-8.") from error


def _json_lines(path: Path, lines: Iterable[bytes]) -> Rows:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _json_line(line)


def _json_line(line: bytes) -> Any:
    """The row, or why it is none: one damaged line does not spoil the others."""
    try:
        return json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return RowError("not UTF-8")
    except (ValueError, RecursionError) as error:
        return RowError("not JSON", f" ({error})")


def _json(path: Path) -> Rows:
    """A list of rows, one single row, or JSON lines under this name."""
    text = _decoded(path)
    if text.lstrip().startswith("["):
        yield from _json_list(path, text)
        return
    try:
        yield 1, json.loads(text)
    except (ValueError, RecursionError):
        yield from _json_lines(path, text.encode("utf-8").splitlines())


_BETWEEN = re.compile(r"[\s,]*")


def _json_list(path: Path, text: str) -> Rows:
    """Each element with the line in which it begins."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise InputError(f"{path}:{line}: not JSON ({error}).", "Mend the list, or use JSON lines.") from error
    decoder = json.JSONDecoder()
    place, line, counted = text.index("[") + 1, 1, 0
    while text[(place := _after(text, place))] != "]":
        line, counted = line + text.count("\n", counted, place), place
        row, place = decoder.raw_decode(text, place)
        yield line, row


def _after(text: str, place: int) -> int:
    found = _BETWEEN.match(text, place)
    return found.end() if found else place


def _separated(path: Path, delimiter: str) -> Rows:
    """CSV with a header. Strict: a quote that is never closed would swallow the rows after it."""
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if not header:
                header = _header(path, line, cells)
            else:
                yield line, _record(header, cells)
    except csv.Error as error:
        raise InputError(f"{path}:{before + 1}: not readable as a table ({error}).", "Check its quotes.") from error


def _header(path: Path, line: int, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}:{line}: two columns are called {twice!r}.", "The first line must name the columns.")
    return header


def _record(header: list[str], cells: list[str]) -> Any:
    if len(cells) != len(header):
        return RowError("not as many cells as columns", f" ({len(cells)}, not {len(header)})")
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from _records(file.schema_arrow, file.iter_batches(batch_size=256))
    except (OSError, ArrowException) as error:
        raise InputError(f"{path}: not readable as Parquet ({error}).") from error


def _records(schema: Any, batches: Iterable[Any]) -> Iterator[Any]:
    names = _class_names(schema)
    for batch in batches:
        for row in batch.to_pylist():
            for column, labels in names.items():
                row[column] = _class_name(row[column], labels)
            yield row


def _class_names(schema: Any) -> dict[str, list[str]]:
    """The columns whose numbers stand for names, as HF datasets note it in the schema."""
    noted = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(noted).get("info", {}).get("features", {}) if noted else {}
    return {
        column: feature["names"]
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _class_name(number: int | None, labels: list[str]) -> str:
    # -1 is how datasets mark a row whose label is withheld.
    return labels[number] if number is not None and 0 <= number < len(labels) else ""


def _open_folder(folder: Path) -> Table:
    """A run, its dataset, or a folder that HF datasets saved; of several splits the training one."""
    for place in (folder / "dataset", folder):
        train = place / "train.jsonl"
        if train.is_file():
            others = sorted(path for path in place.glob("*.jsonl") if path.name in _SPLIT_FILES)
            notes = [f"the split {path.stem} is not read; give {path} to read it" for path in others]
            return Table(train, f"{place.name}/{train.name}", _json_lines(train, _lines(train)), notes)
    splits_file = folder / "dataset_dict.json"
    if not splits_file.is_file():
        return Table(folder, folder.name, enumerate(_arrow(folder), 1))
    splits: list[str] = _read_json(splits_file).get("splits", [])
    chosen = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
    if chosen is None:
        raise InputError(f"{folder}: has the splits {', '.join(splits) or 'none'}.", "Give the folder of one of them.")
    notes = [f"the split {name} is not read; give {folder / name} to read it" for name in splits if name != chosen]
    return Table(folder / chosen, f"{folder.name}/{chosen}", enumerate(_arrow(folder / chosen), 1), notes)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable JSON ({error}).") from error


def _arrow(folder: Path) -> Iterator[Any]:
    """The rows of a saved dataset: ``state.json`` names its files, which are Arrow streams."""
    import pyarrow

    state = folder / "state.json"
    if not state.is_file():
        raise InputError(f"{folder}: not a folder written by datasets' save_to_disk (no state.json).", "Give a file.")
    for entry in _read_json(state).get("_data_files", []):
        path = folder / entry["filename"]
        try:
            with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:
                yield from _records(stream.schema, stream)
        except (OSError, pyarrow.ArrowException) as error:
            raise InputError(f"{path}: not readable as Arrow ({error}).") from error

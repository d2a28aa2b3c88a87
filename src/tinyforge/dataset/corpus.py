"""Text to pretrain on: read from files, cleaned of duplicates, tokenised once into a memory-mapped store."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tinyforge.dataset.similar import shingles
from tinyforge.errors import InputError
from tinyforge.records import Tokens, content_id
from tinyforge.run import read_json, write_folder_atomic, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT_SUFFIXES = (".md", ".markdown", ".txt", ".text")
HUB = "hub:"
LINE_SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
SIGNATURE_BITS = 128
SHINGLE_WORDS = 5


@dataclass
class CorpusReport:
    """What was read and what was dropped, by reason; ``examples`` names a few of the dropped."""

    kept: int = 0
    characters: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, name: str) -> None:
        self.dropped[reason] += 1
        named = self.examples.setdefault(reason, [])
        if len(named) < 20:
            named.append(name)

    def to_json(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "characters": self.characters,
            "dropped": dict(self.dropped),
            "examples": self.examples,
        }


def _open_lines(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"))
        return io.TextIOWrapper(reader, encoding="utf-8")
    return path.open(encoding="utf-8")


def _read_lines(path: Path) -> Iterator[tuple[str, str]]:
    number = 0
    try:
        with _open_lines(path) as handle:
            for number, line in enumerate(handle, 1):
                yield f"{path.name}:{number}", _text_of(f"{path}:{number}", line)
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise InputError(f"{path}:{number + 1}: not readable ({error}).") from error


def _text_of(place: str, line: str) -> str:
    fix = 'Each line must be {"text": "..."}.'
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{place}: not JSON ({error}).", fix) from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InputError(f"{place}: no `text` field with a string.", fix)
    text: str = row["text"]
    return text


def _read_parquet(path: Path) -> Iterator[tuple[str, str]]:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as Parquet ({error}).") from error
    if "text" not in file.schema_arrow.names:
        raise InputError(f"{path}: no `text` column (it has {', '.join(file.schema_arrow.names)}).")
    number = 0
    for batch in file.iter_batches(columns=["text"], batch_size=256):
        for text in batch.column(0).to_pylist():
            number += 1
            yield f"{path.name}:{number}", text or ""


def _files(source: Path) -> list[Path]:
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.")
    if source.is_file():
        return [source]
    return sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))


def hub_revision(source: str) -> str:
    """The commit of a ``hub:`` dataset (a folder's own path for a local one). InputError when it cannot be reached."""
    name = source.removeprefix(HUB)
    if Path(name).is_dir():
        return str(Path(name).resolve())
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().dataset_info(name).sha)
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{source}: the hub cannot be asked for it ({reason}).", "Check the name and go online."
        ) from None


def _read_hub(source: str, characters: int) -> Iterator[tuple[str, str]]:
    """Texts of a hub dataset's training split, streamed until ``characters`` have come."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(f"{source}: needs the package datasets.", "pip install 'tinyforgeai[hub]'") from None
    name = source.removeprefix(HUB)
    total = 0
    for number, row in enumerate(load_dataset(name, split="train", streaming=True), 1):
        if not isinstance(row.get("text"), str):
            raise InputError(f"{source}:{number}: no `text` field with a string (it has {', '.join(row)}).")
        yield f"{name}:{number}", row["text"]
        total += len(row["text"])
        if total >= characters:
            return


def read_texts(sources: Sequence[str | Path], hub_characters: int = 10**9) -> Iterator[tuple[str, str]]:
    """``(name, text)`` of each document in folders of text or Markdown, JSON lines (.gz, .zst) and Parquet files.

    ``hub:org/name`` streams a dataset of the hub, up to ``hub_characters``. Other files in a folder are passed over;
    naming one directly is an InputError.
    """
    found = 0
    for name in sources:
        if str(name).startswith(HUB):
            for row in _read_hub(str(name), hub_characters):
                found += 1
                yield row
            continue
        source = Path(name)
        for path in _files(source):
            if path.name.endswith(LINE_SUFFIXES):
                rows: Iterable[tuple[str, str]] = _read_lines(path)
            elif path.suffix == ".parquet":
                rows = _read_parquet(path)
            elif path.suffix in TEXT_SUFFIXES and (source.is_file() or path.name != "README.md"):
                rows = [(str(path), path.read_text(encoding="utf-8", errors="strict"))]
            elif source.is_file():
                raise InputError(f"{path}: not a corpus format.", f"Use {', '.join((*TEXT_SUFFIXES, *LINE_SUFFIXES))}.")
            else:
                continue
            for row in rows:
                found += 1
                yield row
    if not found:
        raise InputError(f"{', '.join(map(str, sources))}: no text found.", "Give folders of text, JSONL or Parquet.")


def deduplicate(
    texts: Iterable[tuple[str, str]], threshold: float, report: CorpusReport, seed: int = 0
) -> Iterator[tuple[str, str]]:
    """Pass on each document once: exact copies, near copies and nearly empty ones are dropped and counted.

    Near copies: estimated Jaccard of word 5-grams (MinHash, 128 permutations; Broder 1997) of at least ``threshold``.
    """
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=threshold, num_perm=SIGNATURE_BITS, num_bands=16)
    signatures: list[Any] = []
    exact: set[str] = set()
    for name, raw in texts:
        text = raw.strip()
        key = content_id(" ".join(text.split()))
        if len(text) < 64:
            report.drop("shorter than 64 characters", name)
            continue
        if key in exact:
            report.drop("exact duplicate", name)
            continue
        exact.add(key)
        signature = RMinHash(num_perm=SIGNATURE_BITS, seed=seed)
        signature.update(sorted(shingles(text.lower().split(), SHINGLE_WORDS)))
        if any(signature.jaccard(signatures[other]) >= threshold for other in index.query(signature)):
            report.drop(f"near duplicate (Jaccard of at least {threshold:g})", name)
            continue
        index.insert(len(signatures), signature)
        signatures.append(signature)
        report.kept += 1
        report.characters += len(text)
        yield name, text


class TokenStore:
    """Token ids of many documents on disk, cut into sequences of at most ``sequence`` tokens, read by memory map.

    A document never shares a sequence with another, so nothing can attend across documents. ``store[i]`` is a Tokens
    whose labels are all its ids. A document of more than one sequence is cut with one token of overlap, so that
    every token but the first of the document is predicted exactly once.
    """

    def __init__(self, folder: Path, sequence: int) -> None:
        meta = read_json(folder / "meta.json")
        self.documents = int(meta["documents"])
        self.tokens = int(meta["tokens"])
        self.bytes = int(meta["bytes"])
        if not self.tokens:
            raise InputError(
                f"the corpus leaves nothing for its {folder.name} side: it has too few documents.",
                "Give more documents, or another --set pretrain.validation_fraction.",
            )
        self._ids = np.memmap(folder / "ids.bin", dtype=np.dtype(meta["dtype"]), mode="r")
        offsets = np.fromfile(folder / "offsets.bin", dtype=np.int64)
        starts, ends = [], []
        step = sequence - 1
        for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            for start in range(begin, end - 1, step):
                starts.append(start)
                ends.append(min(start + sequence, end))
        self._starts = np.array(starts, dtype=np.int64)
        self.lengths = np.array(ends, dtype=np.int64) - self._starts

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Tokens:
        start = self._starts[index]
        ids = self._ids[start : start + self.lengths[index]].tolist()
        return Tokens(ids, ids)


def write_store(folder: Path, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, batch: int = 256) -> None:
    """Tokenise each text, with the end-of-document token before and after it, into a TokenStore folder."""
    end = tokenizer.eos_token_id
    dtype = np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32

    def write(temporary: Path) -> None:
        offsets, size = [0], 0
        with open(temporary / "ids.bin", "wb") as handle:  # noqa: PTH123
            for group in _grouped(texts, batch):
                size += sum(len(text.encode()) for text in group)
                for ids in tokenizer(group, add_special_tokens=False, verbose=False)["input_ids"]:
                    np.array([end, *ids, end], dtype=dtype).tofile(handle)
                    offsets.append(offsets[-1] + len(ids) + 2)
        np.array(offsets, dtype=np.int64).tofile(temporary / "offsets.bin")
        meta = {
            "documents": len(offsets) - 1,
            "tokens": offsets[-1],
            "bytes": size,
            "dtype": np.dtype(dtype).name,
        }
        write_json(temporary / "meta.json", meta)

    write_folder_atomic(folder, write)


def _grouped(items: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group

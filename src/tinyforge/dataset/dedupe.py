"""Rows that repeat others left out: exact copies, near copies by MinHash, and, when asked, rows that mean the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.dataset.checks import answers_of, texts_of
from tinyforge.dataset.rows import DroppedRow, refuse_chat
from tinyforge.dataset.shapes import RowError, read_row
from tinyforge.dataset.similar import near_pairs, words
from tinyforge.dataset.tables import open_table
from tinyforge.dataset.written import check_out, write_rows
from tinyforge.errors import InputError
from tinyforge.records import Example
from tinyforge.run import write_jsonl

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Embed = Callable[[Sequence[str]], NDArray[np.float32]]

_NUMBER = re.compile(r"\d+")
_BLOCK = 2048  # rows whose cosines to all others are in memory at a time


@dataclass(frozen=True, slots=True)
class Twin:
    """Row ``index`` is left out because it says what the earlier row ``of`` says; ``how`` it was found."""

    index: int
    of: int
    how: str
    similarity: float


@dataclass
class Deduped:
    """What was written, each row left out with its twin (``file:line``), and the rows that could not be used."""

    out: str
    ledger: str
    written: int = 0
    twins: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[DroppedRow] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        how = Counter(twin["how"] for twin in self.twins)
        return {
            "out": self.out,
            "ledger": self.ledger,
            "written": self.written,
            "left_out": dict(how.most_common()),
            "twins": self.twins,
            "unusable": [str(row) for row in self.dropped],
        }


def dedupe(path: Path, out: Path, threshold: float, meaning: float = 0.0, embed: Embed | None = None) -> Deduped:
    """Write the rows of ``path`` that repeat no earlier one to ``out``; the others, each with its twin, beside it.

    ``threshold`` is a Jaccard similarity of word 3-grams; ``meaning`` a cosine of embeddings (0: not looked at). Raises
    InputError before anything is written.
    """
    check_out(out, path)
    refuse_chat(path)
    table = open_table(path)
    report = Deduped(str(out), str(out.with_name(f"{out.stem}.dropped.jsonl")))
    places, rows, examples = list[str](), list[Any](), list[Example]()
    for line, raw in table.rows:
        place = f"{table.name}:{line}"
        try:
            example = read_row(raw)[1]
        except RowError as error:
            report.dropped.append(DroppedRow(place, error.reason, error.detail))
            continue
        places.append(place)
        rows.append(raw)
        examples.append(example)
    if not rows:
        raise InputError(f"{path}: no row can be used.", f"See why: tinyforge data validate {path}")
    found = twins(examples, threshold, meaning, embed)
    gone = {twin.index for twin in found}
    report.twins = [
        {"row": places[t.index], "twin": places[t.of], "how": t.how, "similarity": round(t.similarity, 3)}
        for t in found
    ]
    write_jsonl(Path(report.ledger), report.twins)
    report.written = write_rows(out, (row for i, row in enumerate(rows) if i not in gone))
    return report


def twins(
    examples: Sequence[Example], threshold: float, meaning: float = 0.0, embed: Embed | None = None
) -> list[Twin]:
    """Every row that repeats an earlier one that stays, in the order of the rows.

    Rows of different labels, or whose answers have different numbers, are never twins: one word decides there.
    """
    texts = ["\n".join(texts_of(example)) for example in examples]
    told_apart = [_numbers(example) for example in examples]
    found = {twin.index: twin for twin in _exact(texts, told_apart)}
    rest = [i for i in range(len(examples)) if i not in found]

    def add(pairs: Iterator[tuple[int, int, float]], how: str) -> None:
        for earlier, later, similarity in pairs:
            if earlier not in found and later not in found and told_apart[earlier] == told_apart[later]:
                found[later] = Twin(later, earlier, how, similarity)

    near = near_pairs([texts[i] for i in rest], threshold)
    add(((rest[a], rest[b], s) for a, b, s in near), "near copy")
    if meaning and embed is not None:
        rest = [i for i in rest if i not in found]
        alike = _alike(embed([texts[i] for i in rest]), meaning)
        add(((rest[a], rest[b], s) for a, b, s in alike), "same meaning")
    return [found[index] for index in sorted(found)]


def _numbers(example: Example) -> tuple[str, ...]:
    return (example.kind, example.label, *(n for text in answers_of(example) for n in _NUMBER.findall(text)))


def _exact(texts: Sequence[str], told_apart: Sequence[tuple[str, ...]]) -> Iterator[Twin]:
    """Equal but for case, punctuation and white space."""
    first: dict[tuple[str, tuple[str, ...]], int] = {}
    for index, text in enumerate(texts):
        of = first.setdefault((" ".join(words(text)) or text, told_apart[index]), index)
        if of != index:
            yield Twin(index, of, "exact copy", 1.0)


def _alike(vectors: NDArray[np.float32], least: float) -> Iterator[tuple[int, int, float]]:
    """Pairs ``(earlier, later, cosine)`` of unit vectors, by the later."""
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ vectors[: start + _BLOCK].T
        for later, earlier in zip(*(cosines >= least).nonzero(), strict=True):
            if earlier < start + later:
                yield int(earlier), int(start + later), float(cosines[later, earlier])

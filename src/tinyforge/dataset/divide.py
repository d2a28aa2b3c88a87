"""Rows into train, dev and test so that no part gives another away; whole groups move, never single rows.

Rows belong together when they ask the same, have the same answer of eight words or more, are of one fact, cluster or
conversation, have the same value in the group column, or are near copies. Groups are dealt by chance, or, where rows
have times, the latest are the test. Before anything is written, groups that share 13 words of an answer in a row with
training are moved there and counted.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from tinyforge.dataset.checks import answers_of, texts_of
from tinyforge.dataset.components import components
from tinyforge.dataset.origin import origin_of
from tinyforge.dataset.rows import DroppedRow, refuse_chat
from tinyforge.dataset.shapes import RowError, read_row
from tinyforge.dataset.similar import near_pairs, words
from tinyforge.dataset.tables import open_table
from tinyforge.dataset.validate import answer_grams, asked_of
from tinyforge.errors import InputError
from tinyforge.records import Example, content_id
from tinyforge.run import write_json, write_jsonl

NEAR = 0.7  # Jaccard similarity of word 3-grams from which rows stay together; stricter than what dedupe takes out
_LONG_ANSWER = 8  # words from which rows with the same answer stay together; shorter ones are yes, no and names
_COMPACT_DATE = re.compile(r"[12]\d{7}")
Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Item:
    """A row that can be used: as it was read, its example, and its time (None where it has none)."""

    place: str
    raw: Mapping[str, Any]
    example: Example
    time: float | None


@dataclass
class Division:
    """Rows and groups of each part; groups moved to another part by the check, rows in none, and why."""

    out: str
    by: str
    rows: dict[str, int] = field(default_factory=dict)
    groups: dict[str, int] = field(default_factory=dict)
    moved: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    dropped: list[DroppedRow] = field(default_factory=list)
    shared_13_grams: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "out": self.out,
            "by": self.by,
            "rows": self.rows,
            "groups": self.groups,
            "moved_by_the_check": self.moved,
            "left_out": dict(self.left_out),
            "unusable": [str(row) for row in self.dropped],
            "shared_13_grams": self.shared_13_grams,
        }


@dataclass(frozen=True)
class Wish:
    """Shares of the rows, the columns that say what belongs together and when it was (empty: none), and the seed."""

    test: float = 0.1
    dev: float = 0.1
    group: str = ""
    time: str = ""
    seed: int = 42


def divide(path: Path, out: Path, wish: Wish) -> Division:
    """Write ``out/train.jsonl``, ``dev.jsonl``, ``test.jsonl`` and ``split.json``; rows keep their fields and order.

    Raises InputError, before anything is written, when the rows hang together too closely to keep any aside.
    """
    if not (0 < wish.test < 1 and 0 <= wish.dev < 1 and wish.test + wish.dev < 1):
        raise InputError(f"shares {wish.test:g} and {wish.dev:g}: leave nothing to train.", "--test 0.1 --dev 0.1")
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"{out}: already exists.", "Give --out a new folder.")
    items, dropped = _read(path, wish)
    groups = components(range(len(items)), _links(items, wish))
    timed = all(item.time is not None for item in items)
    report = Division(str(out), "time" if timed else "group", dropped=dropped)
    parts = _by_time(items, groups, wish, report) if timed else _by_chance(items, groups, wish)
    _separate(items, groups, parts, timed, report)
    _write(out, items, groups, parts, report)
    return report


def _read(path: Path, wish: Wish) -> tuple[list[Item], list[DroppedRow]]:
    refuse_chat(path)
    table = open_table(path)
    items, dropped = list[Item](), list[DroppedRow]()
    for line, raw in table.rows:
        place = f"{table.name}:{line}"
        try:
            items.append(Item(place, raw, example := read_row(raw)[1], _time(raw, example, wish.time, place)))
        except RowError as error:
            dropped.append(DroppedRow(place, error.reason, error.detail))
    if not items:
        raise InputError(f"{path}: no row can be used.", f"See why: tinyforge data validate {path}")
    if wish.group and not any(wish.group in item.raw for item in items):
        raise InputError(f"{path}: no row has a field {wish.group!r}.", f"It has {', '.join(items[0].raw)}.")
    return items, dropped


def _time(raw: Mapping[str, Any], example: Example, column: str, place: str) -> float | None:
    """Seconds since 1970, from the column, else from the chat that the row is of."""
    if not column:
        origin = origin_of(example.metadata)
        return float(origin.start) if origin else None
    try:
        return _seconds(raw.get(column))
    except ValueError:
        raise InputError(
            f"{place}: {column!r} holds no time ({raw.get(column)!r}).",
            "Use seconds since 1970 or 2024-03-01T10:00:00.",
        ) from None


def _seconds(value: Any) -> float:
    """Of seconds, which CSV holds as text, or of a date, which text of eight digits is. Raises ValueError."""
    text = str(value).strip()
    if isinstance(value, int | float) or not _COMPACT_DATE.fullmatch(text):
        with suppress(ValueError):
            if isfinite(seconds := float(text)):
                return seconds
    return datetime.fromisoformat(text).timestamp()


def _links(items: Sequence[Item], wish: Wish) -> Iterator[tuple[int, int]]:
    """Pairs of rows that belong together."""
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        for key in _keys(item, wish):
            yield first.setdefault(key, index), index
    texts = ["\n".join(texts_of(item.example)) for item in items]
    for earlier, later, _ in near_pairs(texts, NEAR):
        yield earlier, later


def _keys(item: Item, wish: Wish) -> Iterator[str]:
    example = item.example
    origin = origin_of(example.metadata)
    given = {"fact": example.fact, "cluster": example.cluster, "conversation": origin.conversation if origin else ""}
    yield f"asked {asked_of(example) or example.text}"
    for name, value in given.items():
        if value:
            yield f"{name} {value}"
    learned = [" ".join(words(text)) for text in answers_of(example)]
    yield from (f"answer {said}" for said in learned if said.count(" ") >= _LONG_ANSWER - 1)
    if wish.group and item.raw.get(wish.group) not in (None, ""):
        yield f"group {item.raw[wish.group]!r}"


Parts = dict[int, Part]
"""The part of each group, by its number; a group that is in none is missing."""


def _by_chance(items: Sequence[Item], groups: Sequence[Sequence[int]], wish: Wish) -> Parts:
    """Groups in an order that their content and the seed decide, up to each part's share; too large ones are passed."""

    def name(number: int) -> str:
        said = min(content_id(*texts_of(items[i].example)) for i in groups[number])
        return content_id("divide", str(wish.seed), said)

    order = sorted(range(len(groups)), key=name)
    parts: Parts = {}
    shares: tuple[tuple[Part, float], ...] = (("test", wish.test), ("dev", wish.dev))
    for part, share in shares:
        room = max(1, round(share * len(items))) if share else 0
        for number in order:
            if number not in parts and len(groups[number]) <= room:
                parts[number] = part
                room -= len(groups[number])
    return {number: parts.get(number, "train") for number in range(len(groups))}


def _by_time(items: Sequence[Item], groups: Sequence[Sequence[int]], wish: Wish, report: Division) -> Parts:
    """Groups wholly after the border are test, wholly before it train; dev lies between. One across is in none."""
    times = sorted(item.time or 0.0 for item in items)
    test = times[max(0, len(times) - max(1, round(wish.test * len(times))))]
    dev = times[max(0, len(times) - max(1, round((wish.test + wish.dev) * len(times))))] if wish.dev else test
    parts: Parts = {}
    for number, members in enumerate(groups):
        start = min(items[i].time or 0.0 for i in members)
        end = max(items[i].time or 0.0 for i in members)
        if start >= test:
            parts[number] = "test"
        elif start >= dev and end < test:
            parts[number] = "dev"
        elif end < dev:
            parts[number] = "train"
        else:
            report.left_out["its group spans the border in time"] += len(members)
    return parts


def _separate(
    items: Sequence[Item], groups: Sequence[Sequence[int]], parts: Parts, timed: bool, report: Division
) -> None:
    """Until nothing is shared: a held-out group that shares 13 words of an answer goes where they are taught.

    Where parts follow the time it is left out instead, since an older part must hold nothing newer.
    """
    grams = [set().union(*(answer_grams(items[i].example) for i in members)) for members in groups]
    changed = True
    while changed:
        changed = False
        taught = {part: set[str]().union(*(grams[n] for n, p in parts.items() if p == part)) for part in PARTS}
        for number, part in list(parts.items()):
            earlier = PARTS[: PARTS.index(part)]
            target = next((p for p in earlier if not grams[number].isdisjoint(taught[p])), None)
            if target is None:
                continue
            changed = True
            if timed:
                del parts[number]
                report.left_out["shares 13 words of an answer with an earlier part"] += len(groups[number])
            else:
                parts[number] = target
                report.moved += 1
    held_out = {part: set[str]().union(*(grams[n] for n, p in parts.items() if p == part)) for part in PARTS}
    report.shared_13_grams = len(held_out["train"] & held_out["test"])


def _write(out: Path, items: Sequence[Item], groups: Sequence[Sequence[int]], parts: Parts, report: Division) -> None:
    rows: dict[str, list[int]] = defaultdict(list)
    for number, part in parts.items():
        rows[part] += groups[number]
    missing = [part for part in ("train", "test") if not rows[part]]
    if missing:
        raise InputError(
            f"the {len(items)} rows form {len(groups)} groups, the largest of {max(map(len, groups))} rows: nothing is "
            f"left for {missing[0]}.",
            "Add rows that ask different things, or take repeated phrases out of the answers (tinyforge data clean).",
        )
    for part in PARTS:
        report.rows[part] = write_jsonl(out / f"{part}.jsonl", (dict(items[i].raw) for i in sorted(rows[part])))
        report.groups[part] = sum(p == part for p in parts.values())
    write_json(out / "split.json", report.to_json())

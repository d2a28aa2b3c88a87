"""Take a person out of rows that were made: what they wrote, what answers it, and whatever names or repeats them."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyforge.dataset.origin import FIELD, Origin, origin_of
from tinyforge.dataset.shapes import identify
from tinyforge.errors import InputError
from tinyforge.ingest.pseudonyms import Pseudonyms
from tinyforge.ingest.roster import Roster
from tinyforge.records import Example, Message
from tinyforge.run import read_jsonl, write_jsonl

_WORD = re.compile(r"\w+")
_QUOTED_WORDS = 8  # a message of this many words that stands elsewhere word for word is a quotation


@dataclass(frozen=True)
class Who:
    """How the person appears: ``authors`` as rows name them, ``pattern`` and ``roster`` find them in texts."""

    stand_in: str
    authors: frozenset[str]
    pattern: re.Pattern[str]
    roster: Roster

    def named_in(self, text: str) -> bool:
        return bool(self.pattern.search(text)) or next(self.roster.find(text), None) is not None


@dataclass
class Deleted:
    """What was removed: counts by what it was, rows left in each file, and everyone whom the rows name as authors."""

    who: str
    removed: Counter[str] = field(default_factory=Counter)
    left: dict[str, int] = field(default_factory=dict)
    authors: Counter[str] = field(default_factory=Counter)


def delete_author(data: Path, name: str) -> Deleted:
    """Remove ``name`` from a file of rows, or from the rows of a run; the person stays out of later conversions too.

    Their messages go, with the answers that are then to nothing; then every row that still names them or repeats a
    message of theirs word for word. ``FILE.removed.jsonl`` lists what went, without its text. Every file is replaced as
    a whole. Raises InputError when nothing in the rows is theirs; nothing is changed then.
    """
    files, home = _files(data)
    pseudonyms = Pseudonyms(home)
    who = _who(name, pseudonyms)
    report = Deleted(who.stand_in)
    read = {path: list(read_jsonl(path)) for path in files}
    theirs = [text for rows in read.values() for row in rows for text in _written(row, who, report)]
    quotes = _quotes(theirs)
    results = {path: _without(path, rows, who, quotes) for path, rows in read.items()}
    if not any(ledger for _, ledger in results.values()):
        listed = ", ".join(f"{author} ({count:,})" for author, count in report.authors.most_common(15))
        known = f"Who wrote how many messages: {listed}." if listed else "The rows do not say who wrote them."
        raise InputError(
            f"{data}: nothing in it is by {name!r} or names them.",
            f"Give the name as the chat shows it, or a stand-in. {known}",
        )
    pseudonyms.remove(who.stand_in)
    pseudonyms.save()
    for path, (rows, ledger) in results.items():
        _append(path.with_name(f"{path.stem}.removed.jsonl"), ledger)
        report.left[str(path)] = write_jsonl(path, rows)
        report.removed.update(entry["what"] for entry in ledger)
    return report


def _files(data: Path) -> tuple[list[Path], Path]:
    """The files of rows in ``data`` and the folder in which their stand-ins are kept."""
    if data.is_dir():
        found = sorted(p for p in (data / "dataset").glob("*.jsonl") if not p.name.endswith(".removed.jsonl"))
        if not found:
            raise InputError(f"{data}: has no dataset folder with rows.", "Give a file of rows, or a run.")
        return found, data
    if not data.is_file():
        raise InputError(f"{data}: no such file or folder.", "Give a file of rows, or a run.")
    if data.suffix.lower() != ".jsonl":
        raise InputError(f"{data}: only JSON lines can be rewritten.", "Make them with `tinyforge data convert` first.")
    return [data], data.parent


def _who(name: str, pseudonyms: Pseudonyms) -> Who:
    direct = re.fullmatch(r"Person-\d+", name)
    stand_in = name if direct else pseudonyms.known(name) or pseudonyms.person([name])
    pattern = re.compile(rf"(?<!\w){re.escape(stand_in)}(?!\w)")
    return Who(stand_in, frozenset({stand_in, name.casefold()}), pattern, Roster({} if direct else {"": [name]}))


def _written(row: Any, who: Who, report: Deleted) -> Iterator[str]:
    """The texts in this row that are theirs; everybody's are counted."""
    origin, texts = _origin(row), _texts(row)
    if origin is None:
        return
    for turn, pieces in zip(origin.turns, origin.pieces(texts), strict=True):
        report.authors.update(author for author, _ in turn)
        yield from (text for (author, _), text in zip(turn, pieces, strict=True) if _is(author, who))


def _is(author: str, who: Who) -> bool:
    return author in who.authors or author.casefold() in who.authors


def _origin(row: Any) -> Origin | None:
    if not isinstance(row, dict):
        return None
    try:
        return origin_of(row) or origin_of(row.get("metadata") or {})
    except ValueError as error:
        raise InputError(f"a row's {error}.", "Make the rows again with `tinyforge data convert`.") from error


def _texts(row: dict[str, Any]) -> list[str]:
    if row.get("messages"):
        return [str(message["content"]) for message in row["messages"]]
    return [str(row.get("text") or "")]


def _quotes(theirs: Sequence[str]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Their longer messages as words, by the words they begin with. A name before a message is not part of it."""
    found: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for text in theirs:
        said = tuple(_WORD.findall(re.sub(r"^(?:Person-\d+|[^\n:]{1,40}): ", "", text).lower()))
        if len(said) >= _QUOTED_WORDS:
            found.setdefault(said[:_QUOTED_WORDS], []).append(said)
    return found


def _without(
    path: Path, rows: list[Any], who: Who, quotes: dict[tuple[str, ...], list[tuple[str, ...]]]
) -> tuple[list[Any], list[dict[str, Any]]]:
    """The rows that stay, and the ledger of what does not."""
    kept, ledger = [], list[dict[str, Any]]()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    for number, row in enumerate(rows, 1):
        base = {"time": now, "who": who.stand_in, "file": path.name, "line": number}
        left, gone = _cut(row, who)
        ledger += [{**base, **entry} for entry in gone]
        said = "\n".join(_strings(left)) if left is not None else ""
        reason = "names them" if who.named_in(said) else "repeats a message of theirs" if _repeats(said, quotes) else ""
        if left is not None and not reason:
            kept.append(left)
        elif left is not None:
            ledger.append({**base, "what": "row", "reason": reason, "characters": len(said)})
    return kept, ledger


def _strings(value: Any) -> Iterator[str]:
    """Every text in a row, wherever it stands, but for where the row comes from."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from () if key in (FIELD, "role") else _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _repeats(text: str, quotes: dict[tuple[str, ...], list[tuple[str, ...]]]) -> bool:
    said = tuple(_WORD.findall(text.lower())) if quotes else ()
    for place in range(len(said) - _QUOTED_WORDS + 1):
        for quote in quotes.get(said[place : place + _QUOTED_WORDS], ()):
            if said[place : place + len(quote)] == quote:
                return True
    return False


def _cut(row: Any, who: Who) -> tuple[Any, list[dict[str, Any]]]:
    """The row without their messages and the answers to nothing, None where nothing is left to learn; what went."""
    origin = _origin(row)
    if origin is None or not any(_is(author, who) for turn in origin.turns for author, _ in turn):
        return row, []
    gone: list[dict[str, Any]] = []
    turns = []
    for pieces, turn in zip(origin.pieces(_texts(row)), origin.turns, strict=True):
        stays = [(a, text) for (a, _), text in zip(turn, pieces, strict=True) if not _is(a, who)]
        lost = sum(n for a, n in turn if _is(a, who))
        if lost:
            gone.append({"what": "turn", "reason": "written by them", "characters": lost})
        turns.append(stays)
    if not row.get("messages"):
        return (_rebuilt(row, origin, [0], turns) if turns[0] else None), gone
    places = _answered(row["messages"], turns, gone)
    return (_rebuilt(row, origin, places, turns) if places else None), gone


def _answered(
    messages: list[dict[str, Any]], turns: list[list[tuple[str, str]]], gone: list[dict[str, Any]]
) -> list[int]:
    """The places of questions with an answer of which something is left; the other half of a pair goes too."""
    places: list[int] = []
    for asked in range(0, len(messages) - 1, 2):
        if turns[asked] and turns[asked + 1]:
            places += [asked, asked + 1]
            continue
        rest = [(what, turns[i]) for what, i in (("question", asked), ("answer", asked + 1)) if turns[i]]
        for what, pieces in rest:
            size = sum(len(text) for _, text in pieces)
            gone.append({"what": what, "reason": "its other half was written by them", "characters": size})
    return places


def _rebuilt(
    row: dict[str, Any], origin: Origin, places: list[int], turns: list[list[tuple[str, str]]]
) -> dict[str, Any]:
    texts = ["\n".join(text for _, text in turns[i]) for i in places]
    spoken = tuple(tuple((author, len(text)) for author, text in turns[i]) for i in places)
    where = Origin(origin.conversation, origin.start, origin.end, spoken).to_json()
    new = dict(row)
    if new.get("messages"):
        new["messages"] = [{**row["messages"][i], "content": text} for i, text in zip(places, texts, strict=True)]
    else:
        new["text"] = texts[0]
    if FIELD in row:
        new[FIELD] = where
    else:
        new["metadata"] = {**row["metadata"], FIELD: where}
        said = tuple(Message(m["role"], m["content"]) for m in new["messages"])
        new["id"] = identify(Example("", said, text=new["text"]))
    return new


def _append(path: Path, entries: list[dict[str, Any]]) -> None:
    if entries:
        write_jsonl(path, [*(read_jsonl(path) if path.exists() else ()), *entries])

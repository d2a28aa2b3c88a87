"""A blind vote: a person sees two answers without names, and the votes are kept: `tinyforge vote`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.evaluate.metrics import normalise
from tinyforge.evaluate.votes import FIRST, SECOND, TIE, tally
from tinyforge.pipeline.pairs import Pair, Pairs
from tinyforge.records import content_id
from tinyforge.run import explain_os_error

FILE = "votes.jsonl"
CHOICES = ("1", "2", "tie")
SKIP, STOP = "skip", "stop"


@dataclass(frozen=True)
class Shown:
    """What the person sees: number ``number`` of ``total``, and two answers in an order that tells nothing."""

    number: int
    total: int
    question: str
    answers: tuple[str, str]


def hold(pairs: Pairs, folder: Path, seed: int, choose: Callable[[Shown], str]) -> dict[str, Any]:
    """Ask ``choose`` about every pair that has no vote yet, and count all votes on these two contenders.

    ``choose`` gives one of CHOICES, SKIP or STOP. Votes are appended to ``folder/votes.jsonl`` one by one, so that a
    stopped vote goes on where it was. Answers that are the same word for word are not shown, and counted as ``alike``.
    """
    path = folder / FILE
    votes = _kept(path, pairs.key)
    open_pairs = [pair for pair in pairs.rows if not _alike(pair)]
    waiting = [pair for pair in open_pairs if pair.example.id not in votes]
    for number, pair in enumerate(waiting, len(open_pairs) - len(waiting) + 1):
        order = _order(pair, seed)
        texts = {FIRST: pair.first.text, SECOND: pair.second.text}
        said = choose(Shown(number, len(open_pairs), pair.example.question, (texts[order[0]], texts[order[1]])))
        if said == STOP:
            break
        if said == SKIP:
            continue
        vote = TIE if said == "tie" else order[int(said) - 1]
        votes[pair.example.id] = vote
        _append(path, {"pair": pairs.key, "id": pair.example.id, "shown": order, "vote": vote, **_told(pairs, pair)})
    ids = {pair.example.id for pair in open_pairs}
    counted = tally(vote for name, vote in votes.items() if name in ids)
    return {
        "first": pairs.names[0],
        "second": pairs.names[1],
        **counted,
        "alike": len(pairs.rows) - len(open_pairs),
        "open": len(ids - set(votes)),
        "votes": str(path),
    }


def _alike(pair: Pair) -> bool:
    return normalise(pair.first.text) == normalise(pair.second.text)


def _order(pair: Pair, seed: int) -> tuple[str, str]:
    """Which contender stands first: as good as a coin for a person, and the same again for the same seed."""
    return (FIRST, SECOND) if int(content_id(str(seed), pair.example.id), 16) % 2 else (SECOND, FIRST)


def _told(pairs: Pairs, pair: Pair) -> dict[str, Any]:
    names = dict(zip((FIRST, SECOND), pairs.names, strict=True))
    return {"question": pair.example.question, "names": names, "time": round(time.time(), 3)}


def _kept(path: Path, key: str) -> dict[str, str]:
    """The votes on these contenders by question, the last one counting; a line that a kill cut off is passed over."""
    found = {}
    for line in path.read_bytes().split(b"\n") if path.is_file() else []:
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            if row["pair"] == key and row["vote"] in (FIRST, SECOND, TIE):
                found[str(row["id"])] = str(row["vote"])
    return found


def _append(path: Path, row: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as handle:
            if handle.tell():
                handle.seek(-1, 2)
                handle.write(b"" if handle.read(1) == b"\n" else b"\n")
            handle.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise explain_os_error(error, path) from error

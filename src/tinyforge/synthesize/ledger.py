"""Why something is in the dataset, or is not: every candidate, with its maker, gate, score and evidence, in SQLite.

The file is made anew from the candidates each time; equal candidates give equal bytes. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.records import Example, Span
from tinyforge.run import write_file_atomic
from tinyforge.synthesize.facts import Rejected

_SCHEMA = """
CREATE TABLE candidates (
    id TEXT NOT NULL,        -- the fact's name where it was accepted
    rule TEXT NOT NULL,      -- the rule, or the teacher's prompt
    version TEXT NOT NULL,   -- of the rule or the prompt
    gate TEXT NOT NULL,      -- what refused it; empty where it was accepted
    score REAL,              -- of the gate or the reader, where they measure; NULL for a yes or no
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    source TEXT NOT NULL,
    section TEXT NOT NULL,
    evidence TEXT NOT NULL,  -- JSON: [[document, start, end], ...]
    edited INTEGER NOT NULL  -- by a person
);
CREATE TABLE wordings (example TEXT NOT NULL, candidate TEXT NOT NULL, question TEXT NOT NULL);
CREATE INDEX candidates_id ON candidates (id);
CREATE INDEX candidates_gate ON candidates (gate);
CREATE INDEX wordings_example ON wordings (example);
CREATE INDEX wordings_candidate ON wordings (candidate);
"""
_COLUMNS = ("id", "rule", "version", "gate", "score", "question", "answer", "source", "section", "evidence", "edited")
SHORTEST_ID = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One candidate of the ledger; ``gate`` is empty where it was accepted, ``wordings`` is ``(example, question)``."""

    id: str
    rule: str
    version: str
    gate: str
    score: float | None
    question: str
    answer: str
    source: str
    section: str
    evidence: tuple[Span, ...]
    edited: bool = False
    wordings: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in _COLUMNS}
        evidence = [{"document": s.document, "start": s.start, "end": s.end} for s in self.evidence]
        wordings = [{"id": example, "question": question} for example, question in self.wordings]
        return {**fields, "accepted": not self.gate, "evidence": evidence, "wordings": wordings}


def entries(examples: Sequence[Example], rejected: Iterable[Rejected], version: str) -> Iterable[Entry]:
    """The accepted, fact by fact, then the rejected; ``version`` is that of what names none of its own.

    A wording that a teacher wrote for a fact that was there before is a candidate by itself.
    """
    facts: dict[str, list[Example]] = {}
    makers: dict[str, str] = {}
    for example in examples:
        own = makers.setdefault(example.fact, example.rule) == example.rule
        facts.setdefault(example.fact if own else example.id, []).append(example)
    for name, rows in facts.items():
        yield _accepted(name, rows, version)
    for row in rejected:
        yield Entry(
            row.id, row.rule, row.version or version, row.gate, row.score, row.question, row.answer,
            row.source, row.section, row.evidence, row.gate == "excluded",
        )  # fmt: skip


def _accepted(name: str, rows: Sequence[Example], version: str) -> Entry:
    first, said = rows[0], rows[0].metadata
    return Entry(
        name, first.rule, said.get("version", version), "", said.get("score"), first.question, first.answer,
        said["source"], said["section"], first.evidence, bool(said.get("edited")),
        tuple((row.id, row.question) for row in rows),
    )  # fmt: skip


def write_ledger(path: Path, rows: Iterable[Entry]) -> None:
    """Replace the ledger, as a whole or not at all."""

    def write(temporary: Path) -> None:
        with closing(sqlite3.connect(temporary)) as base, base:
            base.executescript(_SCHEMA)
            for entry in rows:
                _insert(base, entry)

    write_file_atomic(path, write)


def _insert(base: sqlite3.Connection, entry: Entry) -> None:
    evidence = json.dumps([[s.document, s.start, s.end] for s in entry.evidence])
    values = {**{name: getattr(entry, name) for name in _COLUMNS}, "evidence": evidence, "edited": int(entry.edited)}
    base.execute(f"INSERT INTO candidates VALUES ({','.join('?' * len(_COLUMNS))})", [values[c] for c in _COLUMNS])
    base.executemany("INSERT INTO wordings VALUES (?, ?, ?)", [(e, entry.id, q) for e, q in entry.wordings])


def why(path: Path, name: str) -> list[Entry]:
    """The candidates of this id, or of the example of this id; the beginning of an id is enough.

    Raises InputError when there is none, or when the beginning fits several.
    """
    if len(name) < SHORTEST_ID:
        raise InputError(f"{name!r}: too short to tell ids apart.", f"Give at least {SHORTEST_ID} characters of an id.")
    pattern = name.replace("%", "").replace("_", "") + "%"
    with closing(_open(path)) as base:
        query = "SELECT id FROM candidates WHERE id LIKE ? UNION SELECT candidate FROM wordings WHERE example LIKE ?"
        ids = sorted(row[0] for row in base.execute(query, (pattern, pattern)))
        if not ids:
            raise InputError(
                f"{path}: knows nothing of {name!r}.",
                "Take an id from dataset/candidates.jsonl, or from `tinyforge data rejected`.",
            )
        if len(ids) > 1:
            raise InputError(f"{path}: {name!r} fits {len(ids)} ids: {', '.join(ids[:5])}.", "Give more of it.")
        return list(_read(base, "id = ?", (ids[0],)))


def rejected(path: Path, gate: str = "", limit: int = -1) -> list[Entry]:
    """The refused candidates, those of the gates whose name holds ``gate``; at most ``limit`` of them."""
    with closing(_open(path)) as base:
        return list(_read(base, "gate != '' AND instr(gate, ?) > 0 LIMIT ?", (gate, limit)))


def gates(path: Path) -> dict[str, int]:
    """How many candidates each gate refused, most first."""
    with closing(_open(path)) as base:
        query = "SELECT gate, count(*) FROM candidates WHERE gate != '' GROUP BY gate ORDER BY count(*) DESC, gate"
        return dict(base.execute(query).fetchall())


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise InputError(f"{path}: no ledger here.", "Make one: tinyforge synthesize SOURCE --out RUN")
    return sqlite3.connect(f"file:{path}?mode=ro&immutable=1".replace("#", "%23"), uri=True)


def _read(base: sqlite3.Connection, where: str, values: Sequence[Any]) -> Iterable[Entry]:
    try:
        for row in base.execute(f"SELECT {', '.join(_COLUMNS)} FROM candidates WHERE {where}", values):
            yield _entry(base, dict(zip(_COLUMNS, row, strict=True)))
    except sqlite3.DatabaseError as error:
        raise InputError(f"the ledger cannot be read ({error}).", "Run `tinyforge synthesize` again.") from error


def _entry(base: sqlite3.Connection, row: Mapping[str, Any]) -> Entry:
    query = "SELECT example, question FROM wordings WHERE candidate = ?"
    worded = tuple(base.execute(query, (row["id"],)).fetchall()) if not row["gate"] else ()
    evidence = tuple(Span(*span) for span in json.loads(row["evidence"]))
    return Entry(**{**row, "evidence": evidence, "edited": bool(row["edited"])}, wordings=worded)

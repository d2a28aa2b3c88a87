"""Conversations that are kept: a SQLite file with turns in trees, so that nothing is lost by asking again.

A turn is a question with its answer and points to the turn before it. A conversation's ``head`` is the turn that it
stands at; asking again from an earlier turn, or for another answer, begins a branch. The file lies on this machine,
readable by its owner alone, and nothing of it goes anywhere else.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError

FORMAT = 1
FILE = ".chats.sqlite"  # hidden, so that it stays behind when a run is packed
TITLE = 60  # characters of the first question that name a conversation
_SCHEMA = """
create table chats (id integer primary key, title text not null, created real not null, head integer,
                    settings text not null);
create table turns (id integer primary key, chat integer not null references chats(id) on delete cascade,
                    parent integer references turns(id), question text not null, answer text not null,
                    details text not null, created real not null);
create index turns_of_chat on turns (chat, parent);
create table preferences (name text primary key, value text not null);
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """``details`` is plain data about the answer: its citations, its variant, what was left out."""

    id: int
    parent: int | None
    question: str
    answer: str
    details: dict[str, Any]
    created: float


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation; ``turns`` and ``branches`` count all of its tree."""

    id: int
    title: str
    created: float
    head: int | None
    turns: int
    branches: int


class History:
    """Open with a path, or with None to keep nothing beyond this process."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch(mode=0o600)
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=10)
            self._db.execute("pragma foreign_keys = on")
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"{path}: cannot hold conversations ({error}).", "Give --history another file, or --history none."
            ) from error

    def _prepare(self) -> None:
        (version,) = self._db.execute("pragma user_version").fetchone()
        tables = self._db.execute("select count(*) from sqlite_master").fetchone()[0]
        if version == FORMAT:
            return
        if version or tables:
            raise sqlite3.DatabaseError("it was made by something else")
        with self._writing():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"pragma user_version = {FORMAT}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """All of what is written inside, or none of it."""
        self._db.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._db.execute("rollback")
            raise
        self._db.execute("commit")

    def close(self) -> None:
        self._db.close()

    def add(self, chat: int | None, parent: int | None, question: str, answer: str, details: dict[str, Any]) -> Turn:
        """A new turn after ``parent``, at which the conversation now stands; ``chat`` None begins a new one.

        Read the conversation's number from the result with :meth:`chat_of`.
        """
        now = time.time()
        with self._writing():
            if chat is None:
                title = " ".join(question.split())[:TITLE]
                row = self._db.execute("insert into chats values (null, ?, ?, null, '{}')", (title, now))
                chat = row.lastrowid
            row = self._db.execute(
                "insert into turns values (null, ?, ?, ?, ?, ?, ?)",
                (chat, parent, question, answer, json.dumps(details, ensure_ascii=False), now),
            )
            self._db.execute("update chats set head = ? where id = ?", (row.lastrowid, chat))
        return Turn(int(row.lastrowid or 0), parent, question, answer, details, now)

    def chat_of(self, turn: int) -> int:
        return int(self._one("select chat from turns where id = ?", turn, "turn")[0])

    def chats(self) -> list[Chat]:
        """Every conversation, the latest first."""
        rows = self._db.execute(f"{_CHATS} group by chats.id order by max(turns.created) desc").fetchall()
        return [Chat(*row) for row in rows]

    def chat(self, number: int) -> Chat:
        return Chat(*self._one(f"{_CHATS} where chats.id = ? group by chats.id", number, "conversation"))

    def leaves(self, chat: int) -> list[Turn]:
        """The last turn of each branch, oldest first."""
        rows = self._db.execute(
            f"{_TURNS} where chat = ? and id not in (select parent from turns where parent is not null) order by id",
            (chat,),
        )
        return [_turn(row) for row in rows]

    def path_to(self, turn: int | None) -> list[Turn]:
        """The turns from the beginning to this one; none for None."""
        found: list[Turn] = []
        while turn is not None:
            found.append(_turn(self._one(f"{_TURNS} where id = ?", turn, "turn")))
            turn = found[-1].parent
        return found[::-1]

    def stand_at(self, chat: int, turn: int | None) -> None:
        """Let the conversation stand at one of its turns; what follows will be a branch."""
        if turn is not None and self.chat_of(turn) != chat:
            raise InputError(f"turn {turn} belongs to another conversation.", "See /history.")
        self._db.execute("update chats set head = ? where id = ?", (turn, chat))

    def delete(self, chat: int) -> None:
        """Remove a conversation with all its branches, and its text from the file."""
        self.chat(chat)
        with self._writing():
            self._db.execute("pragma defer_foreign_keys = on")
            self._db.execute("delete from turns where chat = ?", (chat,))
            self._db.execute("delete from chats where id = ?", (chat,))
        self._db.execute("vacuum")

    def settings(self, chat: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self._one("select settings from chats where id = ?", chat, "conversation")[0]
        )
        return found

    def keep_settings(self, chat: int, settings: dict[str, Any]) -> None:
        self._db.execute("update chats set settings = ? where id = ?", (json.dumps(settings), chat))

    def preferences(self) -> dict[str, str]:
        return dict(self._db.execute("select name, value from preferences order by name").fetchall())

    def prefer(self, name: str, value: str) -> None:
        self._db.execute("insert into preferences values (?, ?) on conflict do update set value = ?2", (name, value))

    def forget(self, name: str | None = None) -> int:
        """Delete one preference, or all; returns how many there were."""
        row = self._db.execute("delete from preferences where name = ?1 or ?1 is null", (name,))
        return row.rowcount

    def _one(self, query: str, number: int, what: str) -> tuple[Any, ...]:
        with closing(self._db.execute(query, (number,))) as rows:
            row: tuple[Any, ...] | None = rows.fetchone()
        if row is None:
            raise InputError(f"there is no {what} {number}.", "See /history.")
        return row


_TURNS = "select id, parent, question, answer, details, created from turns"
_CHATS = """
select chats.id, title, chats.created, head, count(turns.id),
       count(turns.id) - count(distinct case when turns.id in (select parent from turns) then turns.id end)
from chats left join turns on turns.chat = chats.id"""


def _turn(row: tuple[Any, ...]) -> Turn:
    number, parent, question, answer, details, created = row
    return Turn(number, parent, question, answer, json.loads(details), created)

"""The registry: every run below a folder, remembered in SQLite so that unchanged ones are not read again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tinyforge.errors import InputError
from tinyforge.registry.facts import Facts, find_runs, read_facts, stamp

FILE = Path("tinyforge").with_suffix(".sqlite").name
_APPLICATION = 0x54464F47  # marks the file as ours ("TFOG")
_VERSION = 1
_TABLE = """CREATE TABLE IF NOT EXISTS runs (
    name TEXT PRIMARY KEY, stamp TEXT NOT NULL, command TEXT NOT NULL, state TEXT NOT NULL, created TEXT NOT NULL,
    artifact TEXT NOT NULL, parent TEXT NOT NULL, base TEXT NOT NULL, facts TEXT NOT NULL)"""


class Registry:
    """The runs at and below ``root``, as their folders are now. ``notes`` is what the person should hear."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.notes: list[str] = []
        self.runs: list[Facts] = self._refresh()

    def find(self, name: str) -> Facts:
        """A run by its folder or by its name below the root. Raises InputError, naming the nearest, when unknown."""
        wanted = {(self.root / name).resolve(), Path(name).resolve()}
        for facts in self.runs:
            if self.folder(facts).resolve() in wanted:
                return facts
        if (Path(name) / "run.json").is_file():  # a run that lies elsewhere
            return read_facts(Path(name), str(Path(name).resolve()))
        known = ", ".join(facts.name for facts in self.runs) or "none"
        raise InputError(f"{name}: no run of that name below {self.root}.", f"Known: {known}.")

    def folder(self, facts: Facts) -> Path:
        return self.root / facts.name

    def parents(self, facts: Facts) -> list[Facts]:
        """The runs whose weights it started from; several where copies of one lie side by side."""
        origins = {facts.parent, facts.base} - {""}
        return [other for other in self.runs if other.artifact in origins and other.name != facts.name]

    def children(self, facts: Facts) -> list[Facts]:
        if not facts.artifact:
            return []
        return [o for o in self.runs if facts.artifact in (o.parent, o.base) and o.name != facts.name]

    def _refresh(self) -> list[Facts]:
        folders = {str(path.relative_to(self.root)): path for path in find_runs(self.root)}
        with self._database() as database:
            kept = {row[0]: (row[1], row[2]) for row in database.execute("SELECT name, stamp, facts FROM runs")}
            found = []
            for name, folder in folders.items():
                now = stamp(folder)
                if name in kept and kept[name][0] == now:
                    found.append(Facts(**json.loads(kept[name][1])))
                    continue
                facts = read_facts(folder, name)
                _store(database, facts, now)
                found.append(facts)
            gone = [(name,) for name in kept if name not in folders]
            database.executemany("DELETE FROM runs WHERE name = ?", gone)
            database.commit()
        return sorted(found, key=lambda facts: (facts.created, facts.name))

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        path = self.root / FILE
        try:
            database = _open(path)
        except sqlite3.DatabaseError as error:
            database = self._without(path, error)
        with closing(database):
            yield database

    def _without(self, path: Path, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """A damaged file is made anew from the folders; where none can be written, one is kept in memory."""
        if isinstance(error, sqlite3.OperationalError):
            self.notes.append(f"{path}: {error}; the runs are read without it, and every time anew")
            return _prepared(sqlite3.connect(":memory:"))
        self.notes.append(f"{path}: was damaged ({error}) and has been rebuilt from the run folders")
        path.unlink()
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    """Raises InputError when a file of this name belongs to another program."""
    database = sqlite3.connect(path, timeout=30)
    try:
        (owner,) = database.execute("PRAGMA application_id").fetchone()
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != _APPLICATION and tables:
            raise InputError(f"{path}: is another program's database.", "Move it, or give --root another folder.")
        return _prepared(database)
    except BaseException:
        database.close()
        raise


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:  # an older form holds nothing that the folders do not
        database.execute("DROP TABLE IF EXISTS runs")
    database.execute(_TABLE)
    database.execute(f"PRAGMA application_id = {_APPLICATION}")
    database.execute(f"PRAGMA user_version = {_VERSION}")
    database.commit()
    return database


def _store(database: sqlite3.Connection, facts: Facts, now: str) -> None:
    columns = (facts.command, facts.state, facts.created, facts.artifact, facts.parent, facts.base)
    row = (facts.name, now, *columns, json.dumps(facts.to_json(), ensure_ascii=False))
    database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

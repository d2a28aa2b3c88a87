"""CSV, JSON and databases: rows and records with their keys, in parts where they are many."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from ingest_files import cells, faults, texts, write
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import csv as csv_reader
from tinyforge.ingest import fingerprint, read_sources, rows, sql
from tinyforge.ingest import json as json_reader
from tinyforge.records import Document


def from_csv(folder: Path, content: str, name: str = "a.csv") -> list[Document]:
    return list(csv_reader.parse(write(folder, name, content), name))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_by_the_content(tmp_path: Path, mark: str) -> None:
    lines = [mark.join(row) for row in (["name", "price", "note"], ["Tea", "1.5", "a"], ["Oil", "2.0", '"x, y; z"'])]
    (document,) = from_csv(tmp_path, "\n".join(lines))
    assert document.metadata["delimiter"] == mark
    assert ("Oil", "note", "x, y; z") in cells(document) and faults(document) == []


def test_a_file_without_names_has_no_labels(tmp_path: Path) -> None:
    (document,) = from_csv(tmp_path, "1,2,3\n4,5,6\n")
    assert cells(document)[:2] == [("", "", "1"), ("1", "", "2")] and document.metadata["columns"] == []


def test_a_quoted_line_break_stays_in_its_cell(tmp_path: Path) -> None:
    (document,) = from_csv(tmp_path, 'name,say\nCat,"me""ow"\nDog,"woof"\n')
    assert ("Cat", "say", 'me"ow') in cells(document)
    with pytest.raises(InputError, match=r"a\.csv: line 3: not CSV"):
        from_csv(tmp_path, 'name,say\nCat,meow\nDog,"woof\n')


def test_rows_of_text_become_records(tmp_path: Path) -> None:
    long = "The heron waits. " * 20
    (document,) = from_csv(tmp_path, f'title,year,body\nHeron,1962,"{long}\n\nIt flies."\n')
    assert [section.path for section in document.sections()] == [("Heron",)]
    assert texts(document, "list_item") == ["year: 1962"]
    assert texts(document, "paragraph") == [long.strip(), "It flies."]


def test_many_rows_come_in_parts_with_the_names_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "PART", 100)
    documents = from_csv(tmp_path, "name,size\n" + "".join(f"item{n:03},{n}\n" for n in range(40)))
    assert [d.source for d in documents][:2] == ["a.csv", "a.csv:15"]
    assert sum(len(texts(d, "table_row")) - 1 for d in documents) == 40
    assert all(cells(d)[1] == ("", "", "size") and faults(d) == [] for d in documents)
    assert ("item015", "size", "15") in cells(documents[1])


def from_json(folder: Path, value: object, name: str = "a.json") -> Document:
    (document,) = json_reader.parse(write(folder, name, json.dumps(value)), name)
    assert faults(document) == []
    return document


def test_objects_are_sections_and_records(tmp_path: Path) -> None:
    data = {
        "version": 2,
        "people": [
            {"id": 7, "name": "Ada", "tags": ["math", "poetry"], "home": {"city": "London"}, "retired": None},
            {"id": 8, "text": "First.\n\nSecond."},
        ],
    }
    document = from_json(tmp_path, data)
    assert [section.path for section in document.sections()] == [("a",), ("people", "Ada"), ("people", "id 8")]
    assert texts(document, "list_item") == ["version: 2", "id: 7", "tags: math, poetry", "home:", "city: London"]
    assert texts(document, "paragraph") == ["First.", "Second."]


def test_a_list_of_lists_is_a_table(tmp_path: Path) -> None:
    document = from_json(tmp_path, [["Crew", "Time", "Place"], ["Heron", 7.2, 1], ["Otter", 7.9, 2]])
    assert ("Otter", "Time", "7.9") in cells(document)


def test_bad_lines_are_counted_and_placed(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", '{"name": "x", "v": 1}\n{"name": \n\n"only words"\n{"name": "y", "v": 2}\n')
    (document,) = json_reader.parse_lines(path, "a.jsonl")
    assert document.metadata["dropped"] == {"line that is not JSON": 1}
    assert document.metadata["bad_lines"][0].startswith("line 2: ")
    assert "only words" in document.text and [s.path for s in document.sections()] == [("x",), ("y",)]
    with pytest.raises(InputError, match=r"not JSON lines \(line 1"):
        list(json_reader.parse_lines(write(tmp_path, "b.jsonl", "{\n{\n"), "b.jsonl"))


def test_json_that_is_broken_or_lines(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not JSON \(Expecting .* line 2, column 1\)"):
        list(json_reader.parse(write(tmp_path, "a.json", '{"a": 1,\n'), "a.json"))
    (lines,) = json_reader.parse(write(tmp_path, "b.json", '{"name": "x", "v": 1}\n{"name": "y", "v": 2}\n'), "b.json")
    assert lines.metadata["format"] == "jsonl"


@pytest.fixture
def database(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE boats (name TEXT, seats INTEGER, photo BLOB)")
        connection.executemany("INSERT INTO boats VALUES (?, ?, ?)", [("Heron", 4, b"\0\1"), ("Otter: b", 6, None)])
    connection.close()
    return f"sqlite:///{tmp_path / 'a.db'}"


def test_a_query_gives_a_table(database: str) -> None:
    (document,) = sql.read(database, "SELECT * FROM boats WHERE name <> 'a:b' ORDER BY seats")
    assert cells(document)[3:] == [
        ("", "name", "Heron"),
        ("Heron", "seats", "4"),
        ("Heron", "photo", "2 bytes"),
        ("", "name", "Otter: b"),
        ("Otter: b", "seats", "6"),
    ]
    assert faults(document) == [] and document.metadata["columns"] == ["name", "seats", "photo"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("", r"no query given \(its tables: boats\)"),
        ("DROP TABLE boats", "not a SELECT"),
        ("SELECT * FROM ships", "refused .*no such table: ships"),
        ("WITH x AS (SELECT 1) DELETE FROM boats", "readonly"),
    ],
)
def test_a_database_is_only_read(database: str, query: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        list(sql.read(database, query))
    assert len(list(sql.read(database, "SELECT count(*) AS n, max(seats) AS most FROM boats"))) == 1


def test_a_missing_database_is_not_made_and_passwords_are_not_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such database file"):
        list(sql.read(f"sqlite:///{tmp_path / 'none.db'}", "SELECT 1"))
    assert not (tmp_path / "none.db").exists()
    assert sql.shown("postgresql+psycopg://me:secret@host:5432/db") == "postgresql+psycopg://me:***@host:5432/db"
    assert not sql.is_database("notes.md") and not sql.is_database("https://example.org/")


def test_a_database_beside_files_and_its_fingerprint(tmp_path: Path, database: str) -> None:
    note = write(tmp_path, "note.md", "words")
    config = IngestConfig(query="SELECT name, seats FROM boats")  # type: ignore[call-arg]
    result = read_sources([note, database], config)
    assert [document.source for document in result.documents] == ["note.md", database]
    before = fingerprint([note, database], config)
    assert fingerprint([note, database], config) == before
    with sqlite3.connect(database.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE boats SET seats = 5 WHERE name = 'Heron'")
    connection.close()
    assert [a == b for a, b in zip(before, fingerprint([note, database], config), strict=True)] == [True, False]
    with pytest.raises(InputError, match="no such table"):
        fingerprint([database], IngestConfig(query="SELECT a FROM b"))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("content", "columns", "cell"),
    [
        ('"name", "street", "no"\n"Ann", "Main St 1, Bonn", 5\n', ["name", "street", "no"], "Main St 1, Bonn"),
        ("Gewicht, kg;Preis, EUR\n1,5;2,5\n", ["Gewicht, kg", "Preis, EUR"], "2,5"),
        ("a, b\tc, d\n1, 2\t3, 4\n", ["a, b", "c, d"], "3, 4"),
        ("sep=;\nname;a,b\nTea;1,5\n", ["name", "a,b"], "1,5"),
        ('"sep=|"\nname|price\nTea|1,5\n', ["name", "price"], "1,5"),
        ("name,price,,\nTea,5,,\n", ["name", "price"], "5"),
        ("Country,2019,2020\nNorway,5,1950\nPeru,7,8\n", ["Country", "2019", "2020"], "1950"),
        (",2019,2020\nNorway,5,6\n", ["", "2019", "2020"], "6"),
        ("Rome,1914,1918\nBonn,1939,1945\n", [], "1945"),
        ("name,price,\nTea,5,good\n", [], "good"),
    ],
)
def test_the_dialects_of_csv(tmp_path: Path, content: str, columns: list[str], cell: str) -> None:
    (document,) = from_csv(tmp_path, content)
    assert document.metadata["columns"] == columns and cell in [text for _, _, text in cells(document)]
    assert "sep=" not in document.text and faults(document) == []


def test_a_stated_delimiter_is_a_line_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv: line 3: not CSV"):
        from_csv(tmp_path, 'sep=;\nname;say\n"Dog;woof\n')

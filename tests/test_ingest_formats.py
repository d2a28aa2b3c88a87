"""A real file of each format: what it must yield, that its spans hold, and what is told of what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from ingest_files import cells, faults, texts
from tinyforge.config import IngestConfig
from tinyforge.ingest import FORMATS, read_sources
from tinyforge.ingest.summary import Summary, tables_in
from tinyforge.records import Document

SAMPLES = Path(__file__).parent / "samples"


def parsed(name: str | Path) -> Document:
    path = SAMPLES / name
    module, _, function = FORMATS[path.suffix].partition(":")
    (document,) = getattr(import_module(module), function)(path, path.name)
    assert faults(document) == []
    return document


FEES = [("Full", "Yearly fee", "$240"), ("Youth", "Boats", "gigs only"), ("Guest", "Boats", "none alone")]
WEATHER = "The red flag means that no boat may leave the slipway. It goes up at wind force 5."
BOOKING = 'harbour book --boat "Blue Heron" --hours 2'


@dataclass
class Yields:
    paths: list[tuple[str, ...]] = field(default_factory=list)
    cells: list[tuple[str, str, str]] = field(default_factory=list)
    paragraphs: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    tables: int = 1


HANDBOOK = Yields(
    paths=[("Membership", "Fees"), ("Membership", "Joining"), ("Boats", "Booking a boat"), ("Safety", "Weather")],
    cells=FEES,
    paragraphs=[WEATHER, "Fees are due on 1 March because the insurer sends its bill in April."],
    items=["Ask two members to vouch for you.", "two hundred metres in clothes;"],
    code=[BOOKING],
)
TITLED = Yields(
    [("Harbour Rowing Club Handbook", *path) for path in HANDBOOK.paths],
    FEES,
    HANDBOOK.paragraphs,
    HANDBOOK.items,
    HANDBOOK.code,
)
TERMS = ["Quad: A boat for four rowers with two oars each.", "Sculling: Rowing with one oar in each hand."]

SOURCES = {
    "markdown/harbour.md": HANDBOOK,
    "rst/pandoc.rst": Yields(
        TITLED.paths,
        FEES,
        [*TITLED.paragraphs, "Except on regatta days, when the slipway belongs to the guests."],
        [*TITLED.items, *TERMS],
        [BOOKING],
        {"comment": 1},
    ),
    "epub/pandoc.epub": Yields(HANDBOOK.paths, FEES, HANDBOOK.paragraphs, HANDBOOK.items + TERMS, [BOOKING]),
    "html/pandoc.html": Yields(
        HANDBOOK.paths, FEES, HANDBOOK.paragraphs, HANDBOOK.items + TERMS, [BOOKING], {"header": 1}
    ),
    "docx/pandoc.docx": TITLED,
    "docx/libreoffice.docx": TITLED,
    "ipynb/pandoc.ipynb": HANDBOOK,
    "ipynb/jupyter.ipynb": Yields(
        paths=[("Rowing times",), ("Rowing times", "Table of crews")],
        cells=[("Heron", "seconds", "118.2"), ("Swift", "seconds", "116.4")],
        items=["Heron rows at stroke rate 28"],
        code=["median 118.2 seconds"],
        dropped={"error output": 1, "stderr output": 1, "style": 1},
    ),
    "pptx/pandoc.pptx": Yields(
        paths=[("Harbour Rowing Club Handbook", "Fees"), ("Harbour Rowing Club Handbook", "Weather")],
        cells=FEES,
        paragraphs=[WEATHER, BOOKING],
        items=HANDBOOK.items,
    ),
    "pptx/libreoffice.pptx": Yields(
        paths=[("Before you leave",), ("Signals",), ("Accidents by year",)],
        cells=[("Red", "Meaning", "no boat may leave"), ("2023", "Accidents", "7"), ("2024", "Rescues", "3")],
        paragraphs=["Tell the story of the fog of 1998."],
        items=["Sign the log book", "with your name and the hour"],
        dropped={"hidden slide": 1, "text repeated on slides": 3},
        tables=2,
    ),
    "xlsx/libreoffice.xlsx": Yields(
        paths=[("Season 2026",), ("Repairs",)],
        cells=[
            ("Blue Heron", "Spring Cost", "$1,204.50"),
            ("Total", "Summer Hours", "86"),
            ("", "Date", "2026-03-14"),
            ("2026-05-02", "What was done", "Hull varnished"),
            ("2026-03-14", "Share of budget", "12.5%"),
        ],
        paragraphs=["Boat house accounts"],
        dropped={"error value": 1, "hidden sheet": 1},
        tables=2,
    ),
    "xlsx/openpyxl.xlsx": Yields(
        cells=[("Otter", "Spring Hours", "12")],
        dropped={"formula without a stored value": 5, "hidden sheet": 1},
        tables=2,
    ),
    "csv/libreoffice.csv": Yields(
        cells=[("05/02/2026", "Boat", "Blue Heron"), ("03/14/2026", "Share of budget", "12.5%")]
    ),
    "csv/pandas.tsv": Yields(cells=[("Otter", "seats", "6"), ("Blue Heron", "kind", "quad")]),
    "json/pandas.json": Yields(
        [("Blue Heron",), ("Otter",)], paragraphs=["It was built of cedar in 1962."], items=["seats: 4"], tables=0
    ),
    "json/pandas.jsonl": Yields(
        [("Blue Heron",), ("Otter",)], paragraphs=["It was built of cedar in 1962."], items=["kind: gig"], tables=0
    ),
    "pdf/chromium.pdf": Yields(
        paths=[("Summer",), ("Winter",)],
        cells=[("Heron", "Minutes", "7.2"), ("Swift", "Place", "third")],
        paragraphs=["The slipway was repaired in April, because ice had split two planks."],
        dropped={"repeated page header or footer": 8},
    ),
    "html/chromium.html": Yields(items=["High water at 06:12"], dropped={"script": 1}, tables=0),
    "code/tides.py": Yields(
        paths=[("tides.py",), ("tides.py", "class Gauge(object)", "def level(self) -> float")],
        paragraphs=["High water comes twice a day.", "The moon needs about 24.8 hours."],
        items=["positive above"],
        code=["PERIOD = 24.8  # hours"],
        tables=0,
    ),
    "code/circle.go": Yields(
        paths=[("circle.go", "func (c Circle) Area() float64")], paragraphs=["It never fails."], tables=0
    ),
    "code/Account.java": Yields(
        paths=[("Account.java", "public class Account extends Base", "public void deposit(int amount)")],
        paragraphs=["Puts money in."],
        tables=0,
    ),
    "code/add.js": Yields(
        paths=[("add.js", "export async function add(a, b)")],
        paragraphs=["Works for all."],
        dropped={"comment for tools": 2},
        tables=0,
    ),
    "code/point.rs": Yields(
        paths=[("point.rs", "impl Point", "pub fn new(x: f64) -> Self")], paragraphs=["A point in the plane."], tables=0
    ),
    "code/dog.rb": Yields(
        paths=[("dog.rb", "class Dog < Animal", "def bark(times)")], paragraphs=["Says woof."], tables=0
    ),
    "code/add.c": Yields(paths=[("add.c", "static int add(int a, int b)")], paragraphs=["Adds a and b."], tables=0),
    "code/people.sql": Yields(paths=[("people.sql", "CREATE TABLE people")], paragraphs=["People we know."], tables=0),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_real_file_yields_its_structure(name: str) -> None:
    document, wanted = parsed(name), SOURCES[name]
    paths = [section.path for section in document.sections()]
    assert [path for path in wanted.paths if path not in paths] == []
    assert [cell for cell in wanted.cells if cell not in cells(document)] == []
    assert [text for text in wanted.paragraphs if text not in texts(document, "paragraph")] == []
    assert [text for text in wanted.items if text not in texts(document, "list_item")] == []
    assert [text for text in wanted.code if text not in texts(document, "code")] == []
    assert document.metadata.get("dropped", {}) == wanted.dropped
    assert tables_in(document) == wanted.tables


def test_what_is_hidden_or_furniture_is_not_in_the_text() -> None:
    for name, words in {
        "xlsx/libreoffice.xlsx": ["hidden words", "#DIV/0!"],
        "pptx/libreoffice.pptx": ["Hidden slide", "Harbour Rowing Club - page"],
        "pdf/chromium.pdf": ["Harbour Rowing Club", "page 2"],
        "ipynb/jupyter.ipynb": ["ZeroDivisionError"],
    }.items():
        assert [word for word in words if word in parsed(name).text] == [], name


def test_slides_are_the_pages_of_a_deck() -> None:
    document = parsed("pptx/libreoffice.pptx")
    starts = document.metadata["page_starts"]
    assert document.metadata["pages"] == 5 and starts[0] == 0
    assert document.text[starts[2] :].lstrip().startswith("Signals")


def test_every_format_has_a_sample() -> None:
    tested = {Path(name).suffix for name in SOURCES}
    parsers = {FORMATS[suffix] for suffix in tested}
    assert set(FORMATS.values()) - parsers == {"tinyforge.ingest.text:parse"}  # test_ingest_text.py


def test_samples_are_small_and_explained() -> None:
    told = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for path in SAMPLES.rglob("*.*"):
        assert path.stat().st_size < 60_000, path
        assert path.name in told or path.parent.name == "code" or path.name == "README.md", path


def test_all_of_them_at_once_through_the_walk() -> None:
    config = IngestConfig(query="SELECT title, seats FROM boats ORDER BY seats")  # type: ignore[call-arg]
    database = f"sqlite:///{SAMPLES / 'sqlite' / 'boats.db'}"
    result = read_sources([SAMPLES, database], config)
    assert [skip.reason for skip in result.skipped] == ["unsupported format .db.", "same text as json/pandas.json."]
    summary = Summary()
    for document in result.documents:
        summary.add(document)
    files = {file["source"]: file for file in summary.files}
    assert len(files) == len(SOURCES) + 1  # README.md and the database, without the copy
    assert files["pptx/libreoffice.pptx"] == {
        "source": "pptx/libreoffice.pptx",
        "format": "pptx",
        "documents": 1,
        "characters": len(parsed("pptx/libreoffice.pptx").text),
        "sections": 4,
        "tables": 2,
        "dropped": {"hidden slide": 1, "text repeated on slides": 3},
    }
    assert ("Otter", "seats", "6") in cells(result.documents[-1])


def from_xlsx(folder: Path, rows: list[list[object]], hidden: str = "") -> Document:
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if hidden:
        book.active.column_dimensions[hidden].hidden = True
    book.save(folder / "a.xlsx")
    return parsed(folder / "a.xlsx")


def test_tables_side_by_side_on_a_sheet_are_two(tmp_path: Path) -> None:
    document = from_xlsx(
        tmp_path,
        [
            ["Prices and offices"],
            ["Plan", "Price", "Seats", None, "City", "Staff"],
            ["Basic", 5, 3, None, "Bonn", 12],
            ["Team", 9, 8, None, "Lyon", 7],
            [None, None, None, None, "Oslo", 4],
        ],
    )
    assert tables_in(document) == 2 and texts(document, "paragraph") == ["Prices and offices"]
    assert [cell for cell in cells(document) if cell[1] in {"Seats", "City", "Staff"}] == [
        ("Basic", "Seats", "3"),
        ("Team", "Seats", "8"),
        ("", "City", "Bonn"),
        ("Bonn", "Staff", "12"),
        ("", "City", "Lyon"),
        ("Lyon", "Staff", "7"),
        ("", "City", "Oslo"),
        ("Oslo", "Staff", "4"),
    ]


@pytest.mark.parametrize(
    ("rows", "hidden"),
    [
        ([["Item", "Note", None, "2023", "2024"], ["Rent", "a", None, 5, 6], ["Heat", "b", None, 7, 8]], ""),
        ([["Item", None, "2023", "2024"], ["Rent", None, "five", 6], ["Heat", None, "seven", 8]], ""),
        ([["Item", "Note", None, "Who", "2024"], ["Rent", "a", None, "Ann", 6], ["Heat", "b", None, "Ben", 8]], "C"),
    ],
    ids=["numbers set apart", "one column", "hidden"],
)
def test_an_empty_column_alone_does_not_cut_a_table(tmp_path: Path, rows: list[list[object]], hidden: str) -> None:
    """The control of the one above."""
    document = from_xlsx(tmp_path, rows, hidden)
    assert tables_in(document) == 1 and ("Heat", "8") in [(row, text) for row, _, text in cells(document)]

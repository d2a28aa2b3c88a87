"""Files that are damaged, locked, mislabelled or odd; and work that must not grow faster than the file."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ingest_files import cells, faults, pdf_bytes, texts, write
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import FORMATS, notebook, python, read_sources, rst
from tinyforge.ingest.sniff import format_of, signature
from tinyforge.ingest.xlsx_numbers import shown
from tinyforge.records import Document

SAMPLES = Path(__file__).parent / "samples"
CONFIG = IngestConfig()  # type: ignore[call-arg]
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


def packed(**parts: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return data.getvalue()


def locked_book() -> bytes:
    """An EPUB whose one chapter is listed as encrypted."""
    container = '<container><rootfiles><rootfile full-path="a.opf"/></rootfiles></container>'
    item = '<item id="c" href="c.xhtml" media-type="application/xhtml+xml"/>'
    package = f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{item}</manifest>'
    package += '<spine><itemref idref="c"/></spine></package>'
    locks = '<encryption><CipherData><CipherReference URI="c.xhtml"/></CipherData></encryption>'
    parts = {"META-INF/container.xml": container, "META-INF/encryption.xml": locks, "a.opf": package, "c.xhtml": "x"}
    return packed(**parts)


def damaged(name: str) -> bytes:
    """A sample with bytes in its middle overwritten, so that the archive opens and its parts do not."""
    data = bytearray((SAMPLES / name).read_bytes())
    with zipfile.ZipFile(SAMPLES / name) as archive:
        entry = max(archive.infolist(), key=lambda e: e.compress_size if e.filename.endswith("ml") else 0)
    data[entry.header_offset + 60 : entry.header_offset + 60 + entry.compress_size // 2] = b"\xff" * (
        entry.compress_size // 2
    )
    return bytes(data)


BROKEN: dict[str, tuple[bytes, str]] = {
    "locked.pptx": (OLE, "not a .pptx file (an old .ppt or a password-protected document)"),
    "locked.xlsx": (OLE, "not an .xlsx file (an old .xls or a password-protected document)"),
    "locked.epub": (locked_book(), "the book is encrypted"),
    "cut.xlsx": ((SAMPLES / "xlsx/openpyxl.xlsx").read_bytes()[:3000], "damaged .xlsx (its end is missing)"),
    "cut.epub": ((SAMPLES / "epub/pandoc.epub").read_bytes()[:3000], "damaged .epub (its end is missing)"),
    "empty.pptx": (packed(a="x"), "a zip archive without ppt/presentation, not a .pptx document"),
    "slides.docx": ((SAMPLES / "pptx/pandoc.pptx").read_bytes(), "named .docx, but it is a PowerPoint presentation"),
    "page.csv": (b"<!DOCTYPE html><p>x", "named .csv, but it is an HTML page"),
    "print.txt": (pdf_bytes([[(72, 700, 11, "F1", "x")]]), "named .txt, but it is a PDF"),
    "old.json": (OLE, "named .json, but it is an old Office file"),
    "book.ipynb": (b'{"cells": 3}', "JSON without the cells of a notebook"),
    "cut.ipynb": (b'{"cells": [', "damaged notebook, not JSON"),
    "two.py": (b"x = 1\nprint 'old'\n", "line 2: not Python 3"),
    "bytes.rst": (b"caf\xe9", "not UTF-8 text"),
}


def test_each_is_told_with_a_fix_and_the_good_one_is_read(tmp_path: Path) -> None:
    for name, (content, _) in BROKEN.items():
        write(tmp_path, name, content)
    write(tmp_path, "good.rst", "Title\n=====\n\nWords.\n")
    result = read_sources([tmp_path], CONFIG)
    assert [document.source for document in result.documents] == ["good.rst"]
    told = {Path(skip.path).name: skip for skip in result.skipped}
    assert set(told) == set(BROKEN)
    for name, (_, reason) in BROKEN.items():
        assert reason in told[name].reason, (name, told[name].reason)
        assert told[name].fix and "\n" not in told[name].reason


@pytest.mark.parametrize("name", ["pptx/libreoffice.pptx", "xlsx/libreoffice.xlsx", "epub/pandoc.epub"])
def test_damage_inside_of_an_archive_is_one_clear_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"bad{Path(name).suffix}", damaged(name))
    with pytest.raises(InputError, match=f"damaged {path.suffix}"):
        list(import_module(FORMATS[path.suffix].partition(":")[0]).parse(path, path.name))


def test_formulas_that_nobody_computed_are_told(tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active["A1"] = "=1+1"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="holds only formulas without their values"):
        list(import_module("tinyforge.ingest.xlsx").parse(tmp_path / "a.xlsx", "a.xlsx"))


def test_a_format_is_told_by_content_where_the_name_says_nothing(tmp_path: Path) -> None:
    book = write(tmp_path, "handbook", (SAMPLES / "epub/pandoc.epub").read_bytes())
    write(tmp_path, "README", "Read me.")
    write(tmp_path, "data", "no sign of a format")
    assert signature(book) == ".epub" and format_of(book, FORMATS) == ".epub"
    result = read_sources([tmp_path], CONFIG)
    assert [(d.source, d.metadata["format"]) for d in result.documents] == [("README", "text"), ("handbook", "epub")]
    assert [skip.reason for skip in result.skipped] == ["no file extension, so the format is unknown."]


def from_rst(folder: Path, content: str) -> Document:
    (document,) = rst.parse(write(folder, "a.rst", content), "a.rst")
    assert faults(document) == []
    return document


def test_sphinx_markup_keeps_its_words(tmp_path: Path) -> None:
    document = from_rst(
        tmp_path,
        "Guide\n=====\n\n.. toctree::\n\n   a\n\nSee :ref:`the start <start>` and :py:func:`~os.path.join`.\n\n"
        ".. versionadded:: 3.2\n   A new way.\n\n.. py:function:: area(r)\n\n   The area.\n\n   :param r: radius\n\n"
        ".. code-block:: python\n   :emphasize-lines: 2\n\n   x = 1\n\n.. include:: /etc/passwd\n\n"
        ".. list-table::\n   :header-rows: 1\n\n   * - Name\n     - Use\n   * - oar\n     - rowing\n",
    )
    assert texts(document, "paragraph") == ["See the start and join.", "Added in version 3.2: A new way."]
    assert texts(document, "list_item") == ["area(r): The area.", "param r: radius"]
    assert texts(document, "code") == ["x = 1"] and ("oar", "Use", "rowing") in cells(document)
    assert document.metadata["dropped"] == {"include directive": 1, "toctree directive": 1}
    assert "root:" not in document.text


def test_a_malformed_table_is_kept_as_written_and_counted(tmp_path: Path) -> None:
    document = from_rst(tmp_path, "Words.\n\n=== ===\na b\n=== ===\nxxxxxxxxxx y\n=== ===\n\nMore.\n")
    assert "xxxxxxxxxx" in document.text and "More." in document.text
    assert sum(document.metadata["dropped"].values()) == 1


def test_python_keeps_every_line_of_code(tmp_path: Path) -> None:
    code = (Path(python.__file__)).read_text(encoding="utf-8")
    (document,) = python.parse(write(tmp_path, "a.py", code), "a.py")
    assert faults(document) == []
    kept = " ".join(document.text.split())
    lines = [" ".join(line.split()) for line in code.split("\n") if line.strip() and '"""' not in line]
    assert [line for line in lines if line not in kept and not line.startswith("class ")] == []


def test_an_old_notebook_and_a_picture(tmp_path: Path) -> None:
    old = (
        '{"worksheets": [{"cells": [{"cell_type": "heading", "level": 2, "source": ["Old"]}, {"cell_type": "code", '
        '"input": ["1+1"], "outputs": [{"output_type": "pyout", "text": ["2"]}, {"output_type": "display_data", '
        '"image/png": "AAAA"}]}]}]}'
    )
    (document,) = notebook.parse(write(tmp_path, "a.ipynb", old), "a.ipynb")
    assert texts(document, "heading") == ["Old"] and texts(document, "code") == ["1+1", "2"]
    assert document.metadata["dropped"] == {"picture": 1}


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (0.1 + 0.2, "General", "0.3"),
        (1234567, "General", "1234567"),
        (1234.5, "#,##0.00", "1,234.50"),
        (-5, "0;(0)", "(5)"),
        (0.125, "0.0%", "12.5%"),
        (9, '"EUR" 0.00', "EUR 9.00"),
        (3, "[$€-407] #,##0", "€ 3"),
        (2.5, "0.##", "2.5"),
        (4.0, "0.##", "4"),
        (1_500_000, "0.0,,", "1.5"),
        (1e-7, "0.00E+00", "1e-07"),
        (True, "General", "TRUE"),
        (42, "00000", "00042"),
        (42, "0,000.0", "0,042.0"),
        (5551234567, "(000) 000-0000", "(555) 123-4567"),
        (1234567, "000-00-0000", "001-23-4567"),
        (5551234567, r"[<=9999999]###\-####;\(###\)\ ###\-####", "(555) 123-4567"),
        (5551234, r"[<=9999999]###\-####;\(###\)\ ###\-####", "555-1234"),
        (2.5, "0", "3"),
        (0.125, "0.00", "0.13"),
        (1234.5, "#,##0", "1,235"),
        (-2.5, "$0", "-$3"),
        (-0.4, "0", "0"),
        (0.5, ".00", "0.50"),
        (1e300, "0.0", f"{10**300}.0"),
        (float("inf"), "0.0", "inf"),
    ],
)
def test_numbers_read_as_the_sheet_shows_them(value: float, number_format: str, text: str) -> None:
    assert shown(value, number_format) == text


# --- work grows with the size of the file, not with its square --------------------------------------------------------

PROSE = "The heron waits at the water. It does not move, because fish see motion.\n\n"
LARGE: dict[str, Callable[[int], Iterator[str]]] = {
    "a.txt": lambda n: (PROSE for _ in range(n)),
    "a.md": lambda n: (f"## Part {i}\n\n{PROSE}- one\n- two\n\n" for i in range(n)),
    "a.html": lambda n: (f"<h2>Part {i}</h2><p>{PROSE}</p><ul><li>one<li>two</ul>" for i in range(n)),
    "a.rst": lambda n: (f"Part {i:06}\n-----------\n\n{PROSE}* one\n* two\n\n" for i in range(n)),
    "a.csv": lambda n: (f"item{i},{i},red\n" if i else "name,size,colour\n" for i in range(n)),
    "a.jsonl": lambda n: (f'{{"name": "item{i}", "size": {i}}}\n' for i in range(n)),
    "a.json": lambda n: ("[", *(f'{{"name": "item{i}", "size": {i}}},' for i in range(n)), "{}]"),
    "a.py": lambda n: (f'# About {i}.\ndef f{i}(x):\n    """Adds {i}."""\n    return x + {i}\n\n\n' for i in range(n)),
    "a.go": lambda n: (f"// F{i} adds.\nfunc F{i}(x int) int {{\n\treturn x + {i}\n}}\n\n" for i in range(n)),
}


def calls_while(work: Callable[[], Any]) -> int:
    """How many functions, of Python and of C, are called meanwhile."""
    count = 0

    def on_call(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(on_call)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def growth(folder: Path, name: str, size: int) -> float:
    """Calls for a file of four times the size, over those for the size (in characters)."""
    module, _, function = FORMATS[Path(name).suffix].partition(":")
    parse = getattr(import_module(module), function)
    per_piece = sum(map(len, LARGE[name](1000))) / 1000
    counts: list[int] = []
    list(parse(write(folder, name, "".join(LARGE[name](3))), name))  # what is loaded once
    for times in (1, 4):
        path = write(folder, name, "".join(LARGE[name](int(times * size / per_piece))))
        counts.append(calls_while(lambda: list(parse(path, name))))  # noqa: B023 - called at once
    return counts[1] / counts[0]


@pytest.mark.parametrize("name", LARGE)
def test_four_times_the_text_is_four_times_the_work(tmp_path: Path, name: str) -> None:
    assert 3 < growth(tmp_path, name, 20_000) < 4.6


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_same_from_one_to_four_megabytes(tmp_path: Path, name: str) -> None:
    assert 3.5 < growth(tmp_path, name, 1_000_000) < 4.4


def test_the_count_sees_quadratic_work() -> None:
    def work(n: int) -> None:
        for i in range(n):
            for _ in range(i):
                len("")

    assert calls_while(lambda: work(80)) / calls_while(lambda: work(20)) > 12

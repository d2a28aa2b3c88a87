from __future__ import annotations

import zipfile
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml

from ingest_files import cells, faults, texts, write
from tinyforge.errors import InputError
from tinyforge.ingest.docx import parse
from tinyforge.records import Document

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'


def read(tmp_path: Path, file: object) -> Document:
    path = tmp_path / "a.docx"
    file.save(str(path))  # type: ignore[attr-defined]
    (document,) = parse(path, "a.docx")
    assert faults(document) == []
    return document


def test_structure_in_document_order(tmp_path: Path) -> None:
    file = docx.Document()
    file.add_heading("Handbook", 0)
    file.add_heading("Leave", 1)
    file.add_paragraph("Everyone gets 20 days.")
    table = file.add_table(rows=3, cols=3)
    for row, values in enumerate([("Plan", "Cost", "Cover"), ("Basic", "$5", "Dental"), ("Full", "$9", "All")]):
        for column, text in enumerate(values):
            table.cell(row, column).text = text
    file.add_paragraph("Bring", style="List Bullet")
    file.add_paragraph("a pen", style="List Bullet 2")
    file.add_paragraph("First", style="List Number")
    file.add_paragraph("Second", style="List Number")
    file.add_heading("More", 2)
    file.add_paragraph("Wise words", style="Intense Quote")
    file.core_properties.title = "The handbook"
    document = read(tmp_path, file)
    assert document.text == (
        "Handbook\n\nLeave\n\nEveryone gets 20 days.\n\nPlan | Cost | Cover\nBasic | $5 | Dental\nFull | $9 | All\n\n"
        "- Bring\n- a pen\n1. First\n2. Second\n\nMore\n\nWise words"
    )
    headings = [(document.slice(b.span), b.level) for b in document.blocks if b.kind == "heading"]
    assert headings == [("Handbook", 1), ("Leave", 2), ("More", 3)]
    assert cells(document)[-1] == ("Full", "Cover", "All")
    assert texts(document, "quote") == ["Wise words"]
    assert document.title == "The handbook"
    assert document.sections()[-1].path == ("Handbook", "Leave", "More")


def test_merged_cells(tmp_path: Path) -> None:
    file = docx.Document()
    table = file.add_table(rows=3, cols=3)
    for row, values in enumerate([("Level", "Pay", "Bonus"), ("L1", "10", "1"), ("", "12", "2")]):
        for column, text in enumerate(values):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    document = read(tmp_path, file)
    assert document.text == "Level | Pay | Bonus\nL1 | 10 | 1\n| 12 | 2"
    assert cells(document)[-1] == ("L1", "Bonus", "2")


def test_insertions_stay_deletions_go_and_formulas_keep_their_signs(tmp_path: Path) -> None:
    file = docx.Document()
    paragraph = file.add_paragraph("The fee is ")
    for xml in (
        f"<w:del {W}><w:r><w:delText>old</w:delText></w:r></w:del>",
        f"<w:ins {W}><w:r><w:t>ten</w:t></w:r></w:ins>",
        f"<m:oMath {M}><m:sSup><m:e><m:r><m:t>x10</m:t></m:r></m:e>"
        "<m:sup><m:r><m:t>-4</m:t></m:r></m:sup></m:sSup></m:oMath>",
    ):
        paragraph._p.append(parse_xml(xml))
    assert read(tmp_path, file).text == "The fee is tenx10^(-4)"


def test_content_controls_and_outline_levels(tmp_path: Path) -> None:
    file = docx.Document()
    body = file.element.body
    body.insert(
        0,
        parse_xml(
            f"<w:sdt {W}><w:sdtContent><w:p><w:pPr><w:outlineLvl w:val='1'/></w:pPr><w:r><w:t>Scope</w:t></w:r></w:p>"
            "<w:p><w:r><w:t>All staff.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        ),
    )
    document = read(tmp_path, file)
    assert [(b.kind, b.level) for b in document.blocks] == [("heading", 2), ("paragraph", 0)]


def error_of(path: Path) -> str:
    with pytest.raises(InputError) as error:
        list(parse(path, path.name))
    assert error.value.fix
    return error.value.message.removeprefix(f"{path}: ")


def test_bad_files_are_named(tmp_path: Path) -> None:
    assert error_of(write(tmp_path, "a.docx", "just text")).startswith("not a .docx file (it is not a zip")
    assert "old .doc" in error_of(write(tmp_path, "b.docx", b"\xd0\xcf\x11\xe0" + b"\0" * 100))
    with zipfile.ZipFile(tmp_path / "c.docx", "w") as archive:
        archive.writestr("hello.txt", "hi")
    assert error_of(tmp_path / "c.docx").startswith("a zip archive without word/document")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    file = docx.Document()
    file.add_paragraph("text")
    file.save(str(tmp_path / "d.docx"))
    data = bytearray((tmp_path / "d.docx").read_bytes())
    with zipfile.ZipFile(tmp_path / "d.docx") as archive:
        place = archive.getinfo("word/document.xml").header_offset
    data[place + 60 : place + 120] = bytes(60)
    assert error_of(write(tmp_path, "d.docx", bytes(data))).startswith("damaged .docx (")

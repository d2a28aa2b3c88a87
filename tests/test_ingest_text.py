from __future__ import annotations

from pathlib import Path

import pytest

from ingest_files import faults, texts, write
from tinyforge.ingest.text import heading_level, parse
from tinyforge.records import Document


def read(tmp_path: Path, text: str | bytes) -> Document:
    (document,) = parse(write(tmp_path, "notes.txt", text), "notes.txt")
    assert faults(document) == []
    return document


def test_a_note_by_hand(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "\ufeffTravel rules\r\n============\r\n\r\nBook early and\r\nkeep receipts.\r\n\r\nLIMITS\r\n\r\n"
        "- hotel: 150\r\n  a night\r\n  * in cities\r\n- meals\r\n\r\n2.1 Exceptions\r\n\r\nAsk first.\r\n",
    )
    assert document.text == (
        "Travel rules\n\nBook early and keep receipts.\n\nLIMITS\n\n- hotel: 150 a night\n  - in cities\n- meals\n\n"
        "2.1 Exceptions\n\nAsk first."
    )
    assert [(document.slice(b.span), b.level) for b in document.blocks if b.kind == "heading"] == [
        ("Travel rules", 1),
        ("LIMITS", 1),
        ("2.1 Exceptions", 3),
    ]
    assert texts(document, "list_item") == ["hotel: 150 a night", "in cities", "meals"]


@pytest.mark.parametrize(
    "line", ["Hello there", "OK", "THIS IS SHOUTED.", "1999", "A plain line without an end", "WORD " * 20, "42,"]
)
def test_what_is_no_heading(line: str) -> None:
    assert heading_level(line) == 0


def test_numbered_lines_that_follow_each_other_are_a_list(tmp_path: Path) -> None:
    document = read(tmp_path, "1. Open the box\n\n2. Take it out\n\n3. Plug it in\n")
    assert texts(document, "heading") == []
    assert texts(document, "list_item") == ["Open the box", "Take it out", "Plug it in"]
    assert document.text == "1. Open the box\n2. Take it out\n3. Plug it in"


def test_lines_that_were_never_wrapped_are_paragraphs(tmp_path: Path) -> None:
    long = "A line without breaks goes on " * 5
    assert len(texts(read(tmp_path, f"{long}\n{long}\nshort end"), "paragraph")) == 3
    assert texts(read(tmp_path, "The desk is red.\nThe chair is blue.\n"), "paragraph") == [
        "The desk is red.",
        "The chair is blue.",
    ]
    assert texts(read(tmp_path, "The desk is\nred. The chair\nis blue."), "paragraph") == [
        "The desk is red. The chair is blue."
    ]

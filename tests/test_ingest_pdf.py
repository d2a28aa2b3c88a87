from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest_files import Text, cells, encrypted_pdf, faults, paragraph_lines, pdf_bytes, texts, write
from tinyforge.errors import InputError
from tinyforge.ingest.pdf import parse
from tinyforge.records import Document

BODY = [
    "Every person who joins the company gets twenty days of paid vacation in",
    "the first year. Days that are not taken roll over to the next year, with a",
    "limit of thirty.",
]


def read(tmp_path: Path, pages: Sequence[Sequence[Text]], title: str = "") -> Document:
    (document,) = parse(write(tmp_path, "a.pdf", pdf_bytes(pages, title=title)), "a.pdf")
    assert faults(document) == []
    return document


def test_headings_paragraphs_and_lists(tmp_path: Path) -> None:
    lines = [(72.0, 740.0, 18.0, "F2", "Handbook"), (72.0, 700.0, 11.0, "F2", "Vacation")]
    lines += paragraph_lines(72, 680, BODY)
    lines += paragraph_lines(72, 625, ["A second paragraph stands apart."])
    lines += paragraph_lines(72, 600, ["• first item", "• second item"])
    document = read(tmp_path, [lines], title="Staff handbook")
    assert document.text == (
        "Handbook\n\nVacation\n\n"
        + " ".join(BODY)
        + "\n\nA second paragraph stands apart.\n\n- first item\n- second item"
    )
    headings = [(document.slice(b.span), b.level) for b in document.blocks if b.kind == "heading"]
    assert headings == [("Handbook", 1), ("Vacation", 2)]
    assert texts(document, "list_item") == ["first item", "second item"]
    assert document.title == "Staff handbook" and document.metadata["pages"] == 1


def test_words_cut_at_a_line_end_are_joined(tmp_path: Path) -> None:
    lines = paragraph_lines(
        72,
        700,
        [
            "The people of the company read the policy on well-known risks before the vaca-",
            "tion starts, and they think of every one of these well-",
            "known risks.",
        ],
    )
    text = read(tmp_path, [lines]).text
    assert "the vacation starts" in text
    assert "these well-known risks" in text


def test_pages_are_marked_and_sentences_run_on_over_them(tmp_path: Path) -> None:
    first = paragraph_lines(72, 200, [BODY[0]])
    second = paragraph_lines(72, 700, BODY[1:])
    document = read(tmp_path, [first, second, []])
    assert document.text == " ".join(BODY)
    assert document.metadata["page_starts"] == [0, len(BODY[0]) + 1, len(document.text)]
    assert document.metadata["pages_without_text"] == [3]


def test_repeated_headers_and_footers_are_counted_out(tmp_path: Path) -> None:
    def page(number: int) -> list[Text]:
        said = [f"Chapter {'ABCDE'[number]} begins with its own words and", "ends with them too."]
        edge = [(72.0, 770.0, 9.0, "F1", "Acme handbook 2026"), (300.0, 30.0, 9.0, "F1", f"Page {number + 1} of 5")]
        return [edge[0], *paragraph_lines(72, 600, said), edge[1]]

    document = read(tmp_path, [page(number) for number in range(5)])
    assert "Acme" not in document.text and "of 5" not in document.text
    assert document.metadata["dropped"] == {"repeated page header or footer": 10}
    assert len(document.blocks) == 5
    # The control: what stands on a page or two is text.
    assert "Acme handbook 2026" in read(tmp_path, [page(0), page(1)]).text


def test_two_columns_drawn_out_of_order(tmp_path: Path) -> None:
    left = paragraph_lines(72, 600, [f"left column line {n} of several words" for n in "abcde"])
    right = paragraph_lines(330, 600, [f"right column line {n} of several words" for n in "abcde"])
    across = [line for pair in zip(left, right, strict=True) for line in pair]
    head = [(72.0, 700.0, 18.0, "F2", "A headline over both of the columns")]
    for drawn in (left + right + head, right + left + head, across + head):
        text = read(tmp_path, [drawn]).text
        places = [text.index(part) for part in ("headline", "left column line a", "line e", "right column line a")]
        assert places == sorted(places)
        assert "right column line a of several words right column line b" in text


def test_evenly_spaced_cells_are_a_table(tmp_path: Path) -> None:
    rows = [("Item", "Price", "Stock"), ("Desk", "$80", "4"), ("Chair", "$30", ""), ("Lamp", "", "7")]
    lines = [
        (72.0 + 150 * column, 700.0 - 14 * row, 11.0, "F1", text)
        for row, values in enumerate(rows)
        for column, text in enumerate(values)
        if text
    ]
    document = read(tmp_path, [lines])
    assert document.text == "Item | Price | Stock\nDesk | $80 | 4\nChair | $30\nLamp |  | 7"
    assert cells(document)[-1] == ("Lamp", "Stock", "7")
    assert cells(document)[4] == ("Desk", "Price", "$80")


def error_of(tmp_path: Path, data: bytes) -> str:
    path = write(tmp_path, "bad.pdf", data)
    with pytest.raises(InputError) as error:
        list(parse(path, "bad.pdf"))
    assert error.value.fix
    return error.value.message.removeprefix(f"{path}: ")


def test_bad_files_are_named(tmp_path: Path) -> None:
    good = pdf_bytes([paragraph_lines(72, 700, BODY)])
    assert error_of(tmp_path, good[: len(good) // 2]) == "truncated or damaged PDF."
    assert error_of(tmp_path, good[:40] + b"\n%%EOF") == "truncated or damaged PDF."
    assert error_of(tmp_path, b"hello" * 10).startswith("not a PDF")
    assert error_of(tmp_path, encrypted_pdf()) == "encrypted PDF, it needs a password."
    assert error_of(tmp_path, pdf_bytes([[], []])) == "no text layer in its 2 pages (a scan?)."


def test_a_file_cut_at_any_place_never_passes_for_whole(tmp_path: Path) -> None:
    good = pdf_bytes([paragraph_lines(72, 700, BODY)] * 3)
    for size in range(0, len(good) - 8, 97):
        assert error_of(tmp_path, good[:size])

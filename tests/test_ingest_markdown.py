from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from ingest_files import cells, faults, lost_words, texts, write
from tinyforge.errors import InputError
from tinyforge.ingest.markdown import front_matter, parse
from tinyforge.records import Document, Span


def read(tmp_path: Path, text: str | bytes) -> Document:
    path = write(tmp_path, "page.md", text)
    (document,) = parse(path, "page.md")
    assert faults(document) == []
    return document


def test_text_and_spans_by_hand(tmp_path: Path) -> None:
    document = read(
        tmp_path, "# Time off\n\nYou get *20 days*\nof [vacation](http://x.y/z).\n\n* one\n  * two\n* three\n"
    )
    assert document.text == "Time off\n\nYou get 20 days of vacation.\n\n- one\n  - two\n- three"
    spans = [(b.kind, b.span.start, b.span.end, b.level) for b in document.blocks]
    assert spans == [
        ("heading", 0, 8, 1),
        ("paragraph", 10, 38, 0),
        ("list_item", 42, 45, 0),
        ("list_item", 50, 53, 1),
        ("list_item", 56, 61, 0),
    ]
    assert document.id == Document.identify("page.md", document.text)


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("**bold** _it_ ~~old~~ `code_x`", "bold it old code_x"),
        ("![a *cat*](c.png) and <b>tags</b> &amp; &eacute;", "a cat and tags & é"),
        ("<https://a.b/c> [text][ref]\n\n[ref]: http://d.e", "https://a.b/c text"),
        ("soft\nbreak", "soft break"),
        ("hard  \nbreak<br>too", "hard\nbreak\ntoo"),
        ("1 \\* 2 \\_ 3", "1 * 2 _ 3"),
        ("zero\u200bwidth\u00adsoft\ufeff bell\x07 nb\u00a0sp", "zerowidthsoft bell nb sp"),
        ("cafe\u0301", "caf\u00e9"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
        ("snake_case_name stays", "snake_case_name stays"),
    ],
)
def test_inline_markup_reads_as_rendered(tmp_path: Path, source: str, shown: str) -> None:
    assert read(tmp_path, source).text == shown


def test_table_cells_know_their_column_and_row(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "| Category | Senior (L3) | Lead (L4) |\n|---|---|---|\n| **Skill** | | |\n"
        "| *Mastery* | Knows [it](u). | Owns it. |\n| *Scope* | | One \\| two |\n",
    )
    assert document.text == (
        "Category | Senior (L3) | Lead (L4)\nSkill\nMastery | Knows it. | Owns it.\nScope |  | One | two"
    )
    assert cells(document) == [
        ("", "", "Category"),
        ("", "", "Senior (L3)"),
        ("", "", "Lead (L4)"),
        ("", "Category", "Skill"),
        ("", "Category", "Mastery"),
        ("Mastery", "Senior (L3)", "Knows it."),
        ("Mastery", "Lead (L4)", "Owns it."),
        ("", "Category", "Scope"),
        ("Scope", "Lead (L4)", "One | two"),
    ]
    assert texts(document, "table_row")[2] == "Mastery | Knows it. | Owns it."
    kinds = [block.kind for block in document.blocks]
    assert kinds[:4] == ["table_row", "table_cell", "table_cell", "table_cell"]


def test_cells_beyond_the_header_are_kept(tmp_path: Path) -> None:
    document = read(tmp_path, "> | a | b |\n> |---|---|\n> | 1 | x | y | z |\n> | 2 | w |\n")
    assert cells(document)[2:] == [("", "a", "1"), ("1", "b", "x | y | z"), ("", "a", "2"), ("2", "b", "w")]


def test_a_table_whose_first_header_is_blank(tmp_path: Path) -> None:
    document = read(tmp_path, "| | Monday |\n|---|---|\n| Opens | 9 am |\n")
    assert document.text == "| Monday\nOpens | 9 am"
    assert cells(document)[-1] == ("Opens", "Monday", "9 am")


def test_lists_quotes_code_and_html(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "3. three\n4. four\n\n   more of four\n\n> said *so*\n\n```py\n    if x:\n        y = 1\n```\n\n"
        "<details><summary>More</summary>\n<p>Hidden <b>text</b></p><!-- gone --><script>bad()</script></details>\n\n"
        "<table><tr><th>Plan</th><th>Price</th></tr><tr><td>Basic</td><td>$5</td></tr></table>\n",
    )
    assert document.text.startswith(
        "3. three\n4. four\n\nmore of four\n\nsaid so\n\nif x:\n    y = 1\n\nMore\n\nHidden text"
    )
    assert texts(document, "list_item") == ["three", "four"]
    assert texts(document, "quote") == ["said so"]
    assert texts(document, "code") == ["if x:\n    y = 1"]
    assert cells(document)[-1] == ("Basic", "Price", "$5")
    assert "bad" not in document.text and "gone" not in document.text


def test_sections_follow_the_headings(tmp_path: Path) -> None:
    document = read(tmp_path, "intro\n\n# A\n\n## B\n\ntext b\n\nSetext\n======\n\n- item\n")
    assert [section.path for section in document.sections()] == [("A",), ("A", "B"), ("Setext",)]
    assert [document.slice(section.span) for section in document.sections()] == ["intro", "text b", "item"]


def test_front_matter_gives_the_title(tmp_path: Path) -> None:
    document = read(tmp_path, "---\ntitle: 'Leave'\ntags: [a, b]\n---\n\n# Head\n\nBody\n")
    assert document.title == "Leave" and document.text == "Head\n\nBody"
    assert document.metadata["front_matter"] == ["title", "tags"]
    assert read(tmp_path, "---\ntitle: Notes: one\n---\nBody\n").title == "Notes: one"


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    text = "---\nJust a paragraph between rules.\n---\nBody\n"
    assert front_matter(text) == ({}, text)


def test_deep_nesting_is_not_cut_off(tmp_path: Path) -> None:
    depth = 30
    document = read(tmp_path, "".join(f"{'  ' * level}- level{level}\n" for level in range(depth)))
    assert [block.level for block in document.blocks] == list(range(depth))


def test_no_visible_word_is_lost(tmp_path: Path) -> None:
    source = (
        "# Guide _for_ new people\n\nWelcome to **Acme**. Read the [handbook](https://x.y).\n\n"
        "1. Ask `ops` for a key\n   - with a *photo*\n2. Sign\n\n> Be kind, always.\n\n"
        "| Level | Pay |\n|---|---|\n| L1 | 10 |\n| L2 | 20 |\n\n    indented code\n\nEnd &copy; <i>Acme</i>.\n"
    )
    shown = re.sub(r"\(https?://[^)]*\)|</?i>|&copy;", " ", source).replace("_", " ")
    shown = re.sub(r"^\s*\d\.", "", shown, flags=re.MULTILINE)
    document = read(tmp_path, source)
    assert not lost_words(shown, document)
    # The control: without one of its blocks the same check finds what is missing.
    broken = dataclasses.replace(document, blocks=document.blocks[:-1])
    assert lost_words(shown, broken) == {"End": 1, "Acme": 1}


def test_the_checks_notice_broken_spans(tmp_path: Path) -> None:
    document = read(tmp_path, "# A\n\none\n\ntwo\n")
    first, second, third = document.blocks

    def moved(start: int, end: int) -> list[str]:
        span = Span(document.id, start, end)
        return faults(dataclasses.replace(document, blocks=(first, dataclasses.replace(second, span=span), third)))

    assert moved(2, 6) == ["not stripped"]
    assert moved(3, 99) == ["outside the text", "overlap"]
    assert moved(8, 11) == ["overlap"]
    assert faults(dataclasses.replace(document, blocks=(first, third, second))) == ["order", "overlap"]
    assert faults(dataclasses.replace(document, source="other.md")) == ["id"]


def test_windows_lines_marks_and_utf16(tmp_path: Path) -> None:
    expected = "A\n\nb é c"
    for data in (
        "# A\r\n\r\nb é\r\nc".encode(),
        "\ufeff# A\r\rb é\rc".encode(),
        "\ufeff# A\n\nb é\nc".encode("utf-16-le"),
    ):
        assert read(tmp_path, data).text == expected
    assert read(tmp_path, "\ufeff# A\n\nb é\nc".encode("utf-16-be")).text == expected


def test_other_encodings_name_the_byte(tmp_path: Path) -> None:
    path = write(tmp_path, "latin.md", "# Café\n\nnaïve\n".encode("latin-1"))
    with pytest.raises(InputError) as error:
        list(parse(path, "latin.md"))
    assert error.value.message == f"{path}: not UTF-8 text (byte 0xe9 at offset 5, line 1)."
    assert "iconv" in error.value.fix

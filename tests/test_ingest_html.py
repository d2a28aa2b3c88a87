from __future__ import annotations

from pathlib import Path

import pytest

from ingest_files import cells, faults, lost_words, texts, write
from tinyforge.errors import InputError
from tinyforge.ingest.html import parse
from tinyforge.records import Document

PAGE = """<!doctype html><html><head><title>Leave policy | Acme Intranet</title><style>p{}</style></head><body>
<header><a href="/">Acme</a></header><nav><ul><li>Menu</li></ul></nav>
<main><header><h1>Leave policy<a class="hash-link" href="#leave">&#8203;</a></h1></header>
<p>You get <b>20</b>&nbsp;days,
 and <a href="x">more</a>.<br>Ask.</p><script>track()</script>
<ul><li>one<ul><li>two</li></ul></li><li><p>three</p><p>and on</p></li></ul>
<ol start="4"><li>four</li></ol>
<blockquote><p>Be kind.</p></blockquote>
<pre><code>if x:
    y</code></pre>
<p hidden>secret</p><p style="display: none">secret</p><span aria-hidden="true">secret</span>
<dl><dt>PTO</dt><dd>paid time off</dd></dl>
<img src="a.png" alt="A chart"><footer>Edit this page</footer></main>
<footer>Copyright</footer></body></html>"""


def read(tmp_path: Path, text: str | bytes) -> Document:
    (document,) = parse(write(tmp_path, "page.html", text), "page.html")
    assert faults(document) == []
    return document


def test_a_page_by_hand(tmp_path: Path) -> None:
    document = read(tmp_path, PAGE)
    assert document.text == (
        "Leave policy\n\nYou get 20 days, and more.\nAsk.\n\n- one\n  - two\n- three\n\nand on\n\n4. four\n\n"
        "Be kind.\n\nif x:\n    y\n\n- PTO: paid time off\n\nA chart"
    )
    assert document.title == "Leave policy"
    assert texts(document, "quote") == ["Be kind."]
    assert document.metadata["dropped"] == {"footer": 1, "hidden": 3, "permalink": 1, "script": 1}


def test_without_main_the_furniture_of_the_page_goes(tmp_path: Path) -> None:
    document = read(tmp_path, PAGE.replace("<main>", "<div>").replace("</main>", "</div>"))
    assert "Copyright" not in document.text and "Menu" not in document.text and "Acme" not in document.text
    assert "You get 20 days" in document.text


def test_a_teaser_article_is_not_the_page(tmp_path: Path) -> None:
    body = "<p>" + "The long text of the page. " * 20 + "</p><article>teaser</article>"
    assert "long text" in read(tmp_path, f"<body>{body}</body>").text
    only = read(tmp_path, "<body><p>x</p><article>" + "The long text. " * 20 + "</article></body>")
    assert only.text.startswith("The long text.")


def test_spanning_cells(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "<table><caption>Pay</caption><thead><tr><th rowspan=2>Level</th><th colspan=2>2026</th></tr>"
        "<tr><th>Q1</th><th>Q2</th></tr></thead><tbody><tr><td rowspan=2>L1</td><td>10</td><td>11</td></tr>"
        "<tr><td>12</td><td>13</td></tr></tbody></table>",
    )
    assert document.text == "Pay\n\nLevel | 2026\n| Q1 | Q2\nL1 | 10 | 11\n| 12 | 13"
    assert cells(document)[4:] == [
        ("", "Level", "L1"),
        ("L1", "2026 Q1", "10"),
        ("L1", "2026 Q2", "11"),
        ("L1", "2026 Q1", "12"),
        ("L1", "2026 Q2", "13"),
    ]


def test_unmarked_headers_are_taken_only_when_they_look_like_names(tmp_path: Path) -> None:
    def rows(*lines: str) -> list[tuple[str, str, str]]:
        body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in line.split(",")) + "</tr>" for line in lines)
        return cells(read(tmp_path, f"<table>{body}</table>"))

    assert rows("Name,Size,Price", "Desk,2 m,$80")[-1] == ("Desk", "Price", "$80")
    assert rows("Name:,Desk", "Colour:,red")[-1] == ("Colour:", "", "red")
    assert rows("Item,Price", "Desk,$80", "Chair,$30")[-1] == ("Chair", "Price", "$30")
    assert rows("1,2,3", "4,5,6")[-1] == ("4", "", "6")


def test_layout_tables_are_no_tables(tmp_path: Path) -> None:
    document = read(tmp_path, "<table><tr><td><h2>Head</h2><p>text</p></td><td><p>more</p></td></tr></table>")
    assert [block.kind for block in document.blocks] == ["heading", "paragraph", "paragraph"]


def test_no_visible_word_is_lost(tmp_path: Path) -> None:
    deep = "<div>" * 300 + "deepest words" + "</div>" * 300
    source = f"<p>One <em>two</em></p>three<h2>four</h2><custom-tag>five</custom-tag><form>six</form>{deep}<p>last"
    document = read(tmp_path, source)
    assert not lost_words("One two three four five six deepest words last", document)
    assert lost_words("One two seven", document) == {"seven": 1}


def test_a_declared_encoding_is_honoured(tmp_path: Path) -> None:
    page = '<meta charset="windows-1252"><p>caf\u00e9 \u2013 ok</p>'
    assert read(tmp_path, page.encode("cp1252")).text == "caf\u00e9 \u2013 ok"
    with pytest.raises(InputError, match="not UTF-8"):
        read(tmp_path, "<p>caf\u00e9</p>".encode("cp1252"))


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ("<tr><form><td>a</td><td>b</td></form></tr>", "a | b"),
        ("<td>a</td><td>b</td>", "a | b"),
        ("<tr><td>a</td><td>b</td></tr><td>c</td><tr><td>d</td></tr>", "a | b\nc\nd"),
        ("<caption>Sum</caption>stray<tr><td>a</td>words<td>b</td></tr>", "Sum\n\nstray words\n\na | b"),
        ("<tr hidden><td>a</td><td>b</td></tr>", ""),
    ],
)
def test_an_irregular_table_costs_no_word_and_no_page(tmp_path: Path, rows: str, text: str) -> None:
    document = read(tmp_path, f"<p>before</p><table>{rows}</table><p>after</p>")
    assert document.text == "\n\n".join(filter(None, ["before", text, "after"]))


def test_hidden_rows_and_cells_are_no_content(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "<table><tr><th>Plan<th>Price<th>Cost<th>Seats</tr>"
        "<tr><td rowspan=3>Basic<td>$5<td hidden>$1<td>3</tr>"
        '<tr style="display:none"><td>$4<td>$1<td>2</tr><tr><td>$7<td><td>4</tr>'
        "<tr><td>Team<td>$9<td aria-hidden=true>$2<td>8</tr>"
        "<tbody hidden><tr><td>Old<td>$1<td>$1<td>1</tr></tbody></table>",
    )
    assert cells(document)[4:] == [
        ("", "Plan", "Basic"),
        ("Basic", "Price", "$5"),
        ("Basic", "Seats", "3"),
        ("Basic", "Price", "$7"),
        ("Basic", "Seats", "4"),
        ("", "Plan", "Team"),
        ("Team", "Price", "$9"),
        ("Team", "Seats", "8"),
    ]
    assert document.metadata["dropped"] == {"hidden": 4}

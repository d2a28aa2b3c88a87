from __future__ import annotations

import io
import tempfile
from pathlib import Path

import docx
import pytest

from hostile import laughs, outside_file, replaced_part
from ingest_files import pdf_bytes, write
from mutations import bombs, mutated, problems, zipped
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import FORMATS, html, markdown, read_sources
from tinyforge.ingest.docx import parse as parse_docx
from tinyforge.ingest.entities import defines_entities

CONFIG = IngestConfig(timeout_seconds=2.0, memory_mb=300.0)
SAMPLES = Path(__file__).parent.parent / "src" / "tinyforge" / "samples"


def small_docx() -> bytes:
    buffer = io.BytesIO()
    document = docx.Document()
    document.add_heading("A heading", 1)
    document.add_paragraph("Some text in a paragraph.")
    document.add_table(2, 2).cell(0, 0).text = "cell"
    document.save(buffer)
    return buffer.getvalue()


def samples() -> list[tuple[str, bytes]]:
    found = [(path.name, path.read_bytes()) for path in sorted(SAMPLES.iterdir()) if path.is_file()]
    found += [("small.docx", small_docx()), ("small.pdf", pdf_bytes([[(72, 700, 11, "F1", "Some text")]] * 3))]
    found += [("small.csv", b"name,age\nAda,36\n"), ("small.json", b'{"name": "Ada", "born": [1815, {"month": 12}]}')]
    return [*found, ("samples.zip", zipped(found))]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the process's temporary files as well, so that all that is written shows."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_damaged_files_cost_only_themselves(work: Path) -> None:
    files = list(mutated(samples(), 240, seed=7, with_bombs=False))
    assert problems(work, files, CONFIG) == []


def test_bombs_cost_only_themselves(work: Path) -> None:
    slow = {"brackets.md", "wide.docx"}  # they meet the time limit, which test_ingest_limits shows
    assert problems(work, [entry for entry in bombs() if entry[0] not in slow], CONFIG) == []


def test_the_check_sees_what_it_is_for(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".leak", "mutations_leaking:parse")
    write(work, "mutations_leaking.py", (
        "from pathlib import Path\n"
        "def parse(path, source):\n"
        "    Path(path.parent.parent, 'leaked').write_text('x')\n"
        "    return []\n"
    ))  # fmt: skip
    monkeypatch.syspath_prepend(str(work))
    assert problems(work, [("a.leak", b"x")], CONFIG) == ["a file was written or changed"]


def test_mutations_are_the_same_for_a_seed() -> None:
    first = list(mutated(samples(), 24, seed=3, with_bombs=False))
    assert first == list(mutated(samples(), 24, seed=3, with_bombs=False))
    assert first != list(mutated(samples(), 24, seed=4, with_bombs=False))


@pytest.mark.parametrize("hostile", [laughs, outside_file])
@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.xml", "docProps/core.xml", "_rels/.rels"])
def test_entities_in_any_part_of_a_docx_are_refused(tmp_path: Path, hostile: object, part: str) -> None:
    path = write(tmp_path, "a.docx", replaced_part(small_docx(), part, hostile("<x>@</x>")))  # type: ignore[operator]
    with pytest.raises(InputError, match="defines XML entities"):
        list(parse_docx(path, "a.docx"))


def test_only_definitions_of_entities_are_refused() -> None:
    def defined(text: str, encoding: str = "utf-8") -> bool:
        return defines_entities(io.BytesIO(text.encode(encoding)))

    padded = "<!--" + "x" * 300_000 + "-->"
    assert defined(laughs("<a/>")) and defined(laughs("<a/>").replace("<!DOCTYPE", padded + "<!DOCTYPE"))
    assert defined(laughs("<a/>").replace("?>", ' encoding="utf-16"?>', 1), "utf-16")
    assert defined('<!DOCTYPE x [<!ENTITY % p SYSTEM "http://example.org/x.dtd"> %p;]><a/>')
    assert not defined('<?xml version="1.0"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "x.dtd"><html/>')
    assert not defined("<a>&lt;!DOCTYPE x [&lt;!ENTITY a 'b'>]</a>") and not defined("no XML") and not defined("")


def test_external_files_never_show_in_the_text(tmp_path: Path) -> None:
    write(tmp_path, "secret.txt", "the secret of the machine")
    page = f'<!DOCTYPE html [<!ENTITY i SYSTEM "{tmp_path}/secret.txt">]><p>before &i; after</p>'
    path = write(tmp_path, "a/page.html", page)
    assert "secret of" not in read_sources([path], CONFIG).documents[0].text


def test_html_nested_deeper_than_any_page_keeps_its_text(tmp_path: Path) -> None:
    page = "<p>first</p>" + "<font><b>" * 3000 + "deep <i>words</i>" + "</b></font>" * 3000 + "<p>last</p>"
    [document] = html.parse(write(tmp_path, "a.html", page), "a.html")
    assert document.text == "first\n\ndeep words\n\nlast"
    assert document.metadata["dropped"] == {"nesting": 1}
    shallow = "<div>" * 150 + "words" + "</div>" * 150
    [document] = html.parse(write(tmp_path, "b.html", shallow), "b.html")
    assert document.text == "words" and document.metadata["dropped"] == {}


def test_markdown_nested_too_deeply_is_refused_not_cut(tmp_path: Path) -> None:
    write(tmp_path, "deep.md", "\n".join("  " * level + f"- item {level}" for level in range(1000)))
    write(tmp_path, "fine.md", "\n".join("  " * level + f"- item {level}" for level in range(90)))
    result = read_sources([tmp_path], IngestConfig())
    assert result.documents[0].text.endswith("- item 89")
    assert [skip.reason for skip in result.skipped] == ["nested too deeply to be read."]
    assert "[" * 500 in markdown.from_text("[" * 500, "a.md", {}).text

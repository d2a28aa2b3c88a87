"""The rules in worker processes find what they find in one: the same examples, refusals and coverage, byte for byte."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tinyforge import synthesize as room
from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.ingest import read_sources
from tinyforge.records import Document
from tinyforge.synthesize import side_by_side, synthesize
from tinyforge.synthesize.places import names_of, places

ROOT = Path(__file__).parent.parent
CONFIG = SynthesizeConfig()
SEED = Config().seed


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """The package's samples, files of every format, and a copy with shared titles and headings."""
    found = read_sources([ROOT / "src/tinyforge/samples", ROOT / "tests/samples"], IngestConfig()).documents
    first = found[0]
    name = Document.identify("again/" + first.source, first.text)
    blocks = tuple(replace(b, span=replace(b.span, document=name)) for b in first.blocks)
    return [*found, Document(name, first.text, blocks, "again/" + first.source, first.metadata)]


def as_text(documents: list[Document]) -> str:
    made = synthesize(documents, CONFIG, SEED)
    return json.dumps([[e.to_json() for e in made.examples], [asdict(r) for r in made.rejected], asdict(made.coverage)])


def test_they_find_the_same(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    alone = as_text(documents)
    called: list[int] = []
    found = side_by_side.found_side_by_side

    def counted(*arguments: object) -> object:
        called.append(1)
        return found(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(room, "found_side_by_side", counted)
    assert as_text(documents) == alone and not called  # too few to be worth it
    monkeypatch.setattr(side_by_side, "WORTHWHILE", 1)
    monkeypatch.setattr(side_by_side, "cores", lambda: 2)
    assert as_text(documents) == alone and called
    assert len(alone) > 500_000


def test_names_of_the_other_documents_decide(documents: list[Document]) -> None:
    """The control: without them, a document's sections are named as if it were alone."""
    names = names_of(documents)
    copy = documents[-1]
    told = [place.name for place in places([copy], names.within(copy))]
    assert told == [place.name for place in places(documents) if place.document is copy]
    assert told != [place.name for place in places([copy])]


def test_a_rule_that_fails_there_is_told(documents: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    data = documents[0].to_json()
    data["blocks"] = [["paragraph", "a", "b", 0, "", ""]]
    monkeypatch.setattr(Document, "to_json", lambda self: data)
    with pytest.raises(room.side_by_side.TinyForgeError, match="the rules failed"):
        list(side_by_side.found_side_by_side(documents[:1], CONFIG))

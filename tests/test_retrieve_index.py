from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.ingest.builder import TextBuilder
from tinyforge.records import Document, Hit, Span
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.fusion import fuse
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.passages import Passage, cut

CONFIG = RetrieveConfig()  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "index"
    Index.build(path, handbook(), CONFIG)
    return path


@pytest.fixture(scope="module")
def index(folder: Path) -> Index:
    return Index.open(folder)


def exact(items: list[Passage] | list[Hit], documents: list[Document]) -> bool:
    by_id = {document.id: document for document in documents}
    return all(by_id[item.span.document].slice(item.span) == item.text for item in items)


def test_passages_are_exact_and_stay_under_their_heading() -> None:
    documents = handbook()
    passages = cut(documents, 900)
    assert [p.path[-1] for p in passages] == [s.heading for d in documents for s in d.sections()]
    assert exact(passages, documents)
    shifted = [dataclasses.replace(p, span=Span(p.span.document, p.span.start + 1, p.span.end + 1)) for p in passages]
    assert not exact(shifted, documents)
    assert passages[1].searched.startswith("Harbour Library > Membership\nA membership card costs")


def test_a_table_row_is_searched_with_its_columns() -> None:
    fees = next(p for p in cut(handbook(), 900) if p.path[-1] == "Late Fees")
    assert fees.text.splitlines()[2] == "Film | 1 euro | 7 days"
    assert "Film, Fee per day: 1 euro | Film, Longest loan: 7 days" in fees.searched
    assert [fees.text[a:b] for a, b, name in fees.cells if name == "Film, Fee per day"] == ["1 euro"]


def test_long_sections_are_cut_at_sentences_and_nothing_is_lost() -> None:
    out = TextBuilder()
    out.add("heading", "Long", level=1)
    out.add("paragraph", " ".join(f"Sentence number {i} is about boats." for i in range(40)))
    out.add("paragraph", "x" * 700)
    out.table([["Name", "What it is"], ["Row", "word " * 200]], header_rows=1)
    document = out.document("long.md", {})
    passages = cut([document], 300)
    assert exact(passages, [document]) and max(len(p.text) for p in passages) <= 300
    assert all(p.text.startswith("Sentence number") for p in passages[:3])
    kept = "".join(p.text for p in passages)
    assert all(kept.count(f"number {i} ") == 1 for i in range(40))
    assert kept.count("x") == 700 and kept.count("word") == 200


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("When does the library open?", "Opening Hours"),
        ("how much is the yearly card", "Membership"),
        ("What does it cost to keep a film too long?", "Late Fees"),
        ("Can I drink coffee while I read?", "Reading Room"),
        ("Who has the keys of the rowing boats?", "Rowing Boats"),
        ("Do I have to wear a vest on the boat?", "Life Jackets"),
    ],
)
def test_questions_find_their_section(index: Index, question: str, heading: str) -> None:
    hits = index.search(question, 3)
    assert hits[0].path[-1] == heading
    assert exact(hits, handbook())
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_similarity_is_the_cosine_for_every_hit(index: Index) -> None:
    question = "Ångström's life jacket"
    hits = index.search(question, 50)
    assert len(hits) == index.meta["passages"] == 6
    asked = index.embedder.embed([question])[0]
    searched = {p.span: p.searched for p in cut(handbook(), 900)}
    for hit in hits:
        expected = float(index.embedder.embed([searched[hit.span]])[0] @ asked)
        assert hit.similarity == pytest.approx(expected, abs=1e-4)


def test_many_is_one_by_one_and_repeatable(index: Index) -> None:
    questions = ["late fees", "who keeps the keys?", "closed on Sundays"]
    together = index.search_many(questions, 3)
    alone = [index.search(question, 3) for question in questions]
    assert [[h.span for h in hits] for hits in together] == [[h.span for h in hits] for hits in alone]
    assert together == index.search_many(questions, 3)


@pytest.mark.parametrize(
    "question",
    ['"', "'; DROP TABLE passages; --", "a AND (b OR -c) NOT d*~2^3", "title:{x TO y} \\ +[", "???", "", "the of and",
     "\x00\x1b[31m", "\ud800", "🚣🚣", "é" * 3000, "图书馆", "x" * 5000, "%s {} $1 `ls`"],
)  # fmt: skip
def test_no_question_can_break_the_search(index: Index, question: str) -> None:
    assert len(index.search(question, 3)) == 3


def test_fusion_by_hand() -> None:
    a, b, c = (0, 0), (0, 1), (1, 0)
    assert fuse([a, b], [b, c]) == {a: 1 / 61, b: 1 / 62 + 1 / 61, c: 1 / 62}


def test_full_text_brings_in_what_the_vectors_miss(index: Index) -> None:
    vector = index.embedder.embed(["zoë"])[0]
    ((_, position),) = index.by_words("zoë", 10)
    assert index.hit(position, 1.0, vector).path[-1] == "Rowing Boats"
    assert index.by_words("ZOE", 10)[0][1] == position
    assert index.by_words("qqqq", 10) == []
    assert len(index.by_meaning(vector, 10)) == 6


def test_pages(index: Index) -> None:
    boats = handbook()[1].id
    assert (index.page(Span(boats, 0, 1)), index.page(Span(boats, 59, 61)), index.page(Span(boats, 60, 61))) == (
        1,
        1,
        2,
    )
    assert index.page(Span("another", 5, 6)) == 0


def test_nothing_to_index(tmp_path: Path) -> None:
    for documents in ([], [Document("a", "", (), "a.md")]):
        with pytest.raises(InputError, match="no text to index"):
            Index.build(tmp_path / "index", documents, CONFIG)
    assert not (tmp_path / "index").exists()


def test_a_failed_build_leaves_the_old_index(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "index"
    shutil.copytree(folder, copy)
    before = (copy / "meta.json").read_bytes()

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyforge.retrieve.store.write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Index.build(copy, handbook()[:1], CONFIG)
    assert (copy / "meta.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert len(Index.open(copy).search("boats", 10)) == 6


def test_moved_index_still_opens(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert Index.open(tmp_path / "elsewhere").search("late fees", 1)[0].path[-1] == "Late Fees"


def test_the_folder_one_stands_in_can_become_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Index.build(".", handbook()[:1], CONFIG)
    monkeypatch.chdir(tmp_path)
    assert Index.open("here").search("late fees", 1) and [path.name for path in tmp_path.iterdir()] == ["here"]


def test_not_an_index(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="not a search index"):
        Index.open(tmp_path)
    shutil.copy(folder / "meta.json", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        Index.open(tmp_path).search("x", 1)
    (tmp_path / "meta.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        Index.open(tmp_path)


def test_another_model_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(Embedder().folder, other)
    assert Index.open(folder, str(other)).search("late fees", 1)  # the same weights elsewhere are the same model
    data = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**data, "layer_norm_eps": 1e-6}))
    with pytest.raises(InputError, match="other weights"):
        Index.open(folder, str(other)).search("late fees", 1)

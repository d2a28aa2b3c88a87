"""Several indexes as one, sections around passages, what is embedded again, and the cross-encoder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.ingest.builder import TextBuilder
from tinyforge.records import Document, Hit
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.index import IN_MEMORY, Index
from tinyforge.retrieve.knowledge import Knowledge
from tinyforge.retrieve.rerank import Reranker

CONFIG = RetrieveConfig()  # type: ignore[call-arg]


class Counting(Embedder):
    """The real embedder, with a note of what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    def embed(self, texts: Sequence[str]) -> object:  # type: ignore[override]
        self.given += texts
        return super().embed(texts)


def rules(*sentences: str) -> Document:
    out = TextBuilder()
    out.add("heading", "House Rules", level=1)
    for number, sentence in enumerate(sentences):
        out.add("heading", f"Rule {number}", level=2)
        out.add("paragraph", sentence)
    return out.document("rules.md", {})


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("a") / "index"
    Index.build(path, handbook()[:1], CONFIG)
    return path


@pytest.fixture(scope="module")
def boats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("b") / "index"
    Index.build(path, handbook()[1:], CONFIG)
    return path


def test_only_what_changed_is_embedded_again(tmp_path: Path) -> None:
    embedder = Counting()
    first = Index.build(tmp_path, [rules("Doors stay shut.", "Dogs wait outside.")], CONFIG, embedder)
    assert first.embedded == 2
    embedder.given.clear()
    again = Index.build(tmp_path, [rules("Doors stay shut.", "Cats wait outside.")], CONFIG, embedder)
    assert again.embedded == 1 and embedder.given == ["House Rules > Rule 1\nCats wait outside."]
    assert again.search("Which animals wait outside?", 5)[0].text == "Cats wait outside."
    fresh = Index.build(tmp_path / "fresh", [rules("Doors stay shut.", "Cats wait outside.")], CONFIG)
    ours, theirs = (index.search("What about the doors?", 5) for index in (again, fresh))
    assert [h.span for h in ours] == [h.span for h in theirs]
    assert [h.similarity for h in ours] == pytest.approx([h.similarity for h in theirs], abs=1e-5)


def test_another_model_embeds_everything_again(tmp_path: Path, library: Path) -> None:
    other = tmp_path / "model"
    shutil.copytree(Embedder().folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-6}))
    shutil.copytree(library, tmp_path / "index")
    again = Index.build(tmp_path / "index", handbook()[:1], CONFIG, Embedder(str(other)))
    assert again.embedded == again.meta["passages"] == 4
    with pytest.raises(InputError, match="cannot be compared"):
        Knowledge.open([library, tmp_path / "index"])


def test_two_indexes_answer_as_one_that_holds_both(library: Path, boats: Path, tmp_path: Path) -> None:
    both = Index.build(tmp_path / "both", handbook(), CONFIG)
    together = Knowledge.open([library, boats])
    assert together.sources == both.sources
    for question in ("When does the library open?", "Who keeps the keys of the boats?", "life jacket"):
        ours, theirs = together.search(question, 2), both.search(question, 2)
        assert ours[0].span == theirs[0].span and ours[0].similarity == pytest.approx(theirs[0].similarity, abs=1e-5)
    (jacket,) = together.search("Who has to wear a life jacket?", 1)
    assert together.page(jacket.span) == 2 and Index.open(library).page(jacket.span) == 0


def test_the_same_passage_in_two_indexes_is_found_once(library: Path) -> None:
    hits = Knowledge.open([library, library]).search("late fees", 10)
    assert len(hits) == len({hit.span for hit in hits}) == 4


def test_a_passage_grows_to_its_section_and_no_further(tmp_path: Path) -> None:
    out = TextBuilder()
    out.add("heading", "Tides", level=1)
    out.add("heading", "The Moon", level=2)
    for number in range(8):
        out.add("list_item", f"Sentence {number} about the moon is here, and it goes on for a while.", marker="- ")
    out.add("heading", "The Sun", level=2)
    out.add("paragraph", "The sun pulls at the water as well, less than half as strongly.")
    document = out.document("tides.md", {})
    index = Index.build(tmp_path, [document], RetrieveConfig(passage_characters=200))  # type: ignore[call-arg]
    (found,) = index.search("Sentence 4 about the moon", 1)
    (whole,) = index.search("Sentence 4 about the moon", 1, widen=5000)
    section = document.sections()[0]
    assert found.span != section.span == whole.span and whole.text == document.slice(section.span)
    (part,) = index.search("Sentence 4 about the moon", 1, widen=420)
    assert found.text in part.text and len(found.text) < len(part.text) <= 420
    assert part.text == document.slice(part.span)
    assert len(index.search("moon and sun", 9, widen=5000)) == 2  # what a section shows is not shown again


def test_cells_move_along_when_a_passage_grows(tmp_path: Path) -> None:
    out = TextBuilder()
    out.add("heading", "Fees", level=1)
    out.add("paragraph", "What follows holds for everybody who keeps a thing for longer than was agreed upon with us.")
    out.table([["Item", "Fee"], *([f"Thing number {n}", f"{n} euros and no cents"] for n in range(9))], header_rows=1)
    document = out.document("fees.md", {})
    index = Index.build(tmp_path, [document], RetrieveConfig(passage_characters=200))  # type: ignore[call-arg]
    (hit,) = index.search("What does thing number 7 cost?", 1, widen=5000)
    assert hit.text == document.slice(hit.span)
    named = {name: hit.text[start:end] for start, end, name in hit.cells}
    assert named["Thing number 7, Fee"] == "7 euros and no cents" and named["Thing number 0, Fee"].startswith("0 euros")


def test_a_url_is_a_place_like_a_folder(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    with pytest.raises(InputError, match="holds no search index"):
        Index.open(url)
    Index.build(url, handbook(), CONFIG)
    opened = Index.open(url)
    before = opened.search("When does the library open?", 3)
    assert before[0].path[-1] == "Opening Hours"
    second = Index.build(url, handbook()[:1], CONFIG)
    assert second.embedded == 0 and second.meta["passages"] == 4
    assert Index.open(url).sources == ["library.md"]
    assert Index.open(url).search("Who keeps the keys of the boats?", 9)[0].source == "library.md"


def test_beyond_what_fits_in_memory_the_table_is_asked(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert IN_MEMORY == 400_000
    index = Index.open(library)
    vector = index.embedder.embed(["late fees"])[0]
    inside = index.by_meaning(vector, 3)
    monkeypatch.setattr("tinyforge.retrieve.index.IN_MEMORY", 0)
    outside = index.by_meaning(vector, 3)
    assert [p for _, p in inside] == [p for _, p in outside]
    assert [s for s, _ in inside] == pytest.approx([s for s, _ in outside], abs=1e-5)


def cross_encoder(folder: Path) -> Path:
    """An untrained BERT with one output and the vocabulary of the embedder."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1
    )
    BertForSequenceClassification(shape).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (Embedder().folder / name).is_file():
            shutil.copy(Embedder().folder / name, folder)
    return folder


def test_the_cross_encoder_is_that_of_sentence_transformers(tmp_path: Path, library: Path) -> None:
    from sentence_transformers import CrossEncoder

    folder = cross_encoder(tmp_path / "model")
    texts = ["A card costs 12 euros.", "word " * 900, "Speak in a whisper."]
    ours = Reranker(folder).scores("What does a card cost?", texts)
    reference = CrossEncoder(str(folder), max_length=512, device="cpu", activation_fn=None)
    import torch

    reference.activation_fn = torch.nn.Identity()
    theirs = reference.predict([("What does a card cost?", text) for text in texts])
    assert ours == pytest.approx([float(x) for x in theirs], abs=1e-5)

    plain, ordered = Knowledge.open([library]), Knowledge.open([library], reranker=str(folder))
    a, b = (k.search("What does a membership card cost?", 4) for k in (plain, ordered))
    assert {h.span for h in a} == {h.span for h in b}
    wanted = Reranker(folder).order("What does a membership card cost?", a)
    assert [h.span for h in b] == [h.span for h in wanted]


def test_a_reversing_order_is_followed(library: Path) -> None:
    def worst_first(question: str, hits: Sequence[Hit]) -> list[Hit]:
        return list(reversed(hits))

    index = Index.open(library)
    plain = index.search("late fees", 4)
    assert [h.span for h in index.search("late fees", 4, order=worst_first)] == [h.span for h in reversed(plain)]


def test_what_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        Reranker(tmp_path)

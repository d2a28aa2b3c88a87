from __future__ import annotations

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.records import Hit, Span
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.quote import Quote, _shared_words, pieces, quote, quote_many
from tinyforge.retrieve.words import content_words, words


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(tmp_path_factory.mktemp("run") / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]


def verbatim(found: Quote) -> bool:
    by_id = {document.id: document for document in handbook()}
    return found.text == " ".join(by_id[span.document].slice(span) for span in found.spans)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("When does the library open?", "The library opens at 9 a.m. on weekdays."),
        ("Is it open on Sundays?", "It stays closed on Sundays and public holidays."),
        ("What does the card cost?", "A membership card costs 12 euros per year."),
        ("What is the fee per day for a novel?", "20 cents"),
        ("How long may I keep a film?", "7 days"),
        ("Where do I leave my coffee?", "Leave coffee and food outside."),
    ],
)
def test_quotes_the_sentence_that_answers(index: Index, question: str, expected: str) -> None:
    found = quote(question, index.search(question, 3), index.embedder)
    assert found.text == expected
    assert verbatim(found)
    shifted = tuple(Span(s.document, s.start + 1, s.end + 1) for s in found.spans)
    assert not verbatim(Quote(found.text, shifted))


def test_an_announcement_brings_what_it_announces(index: Index) -> None:
    question = "What rules are there in the reading room?"
    found = quote(question, index.search(question, 3), index.embedder)
    assert found.text == "In the reading room please keep to these rules: Speak in a whisper."
    assert len(found.spans) == 2 and verbatim(found)


def test_many_is_one_by_one(index: Index) -> None:
    questions = ["What does the card cost?", "Who keeps the keys?"]
    hits = index.search_many(questions, 3)
    alone = [quote(question, found, index.embedder) for question, found in zip(questions, hits, strict=True)]
    assert quote_many(questions, hits, index.embedder) == alone


def test_pieces_of_a_table_are_its_named_cells() -> None:
    text = "Item | Fee\nNovel | 20 cents"
    cells = ((0, 4, ""), (7, 10, ""), (11, 16, "Item"), (19, 27, "Novel, Fee"))
    hit = Hit(Span("d", 100, 127), text, "a.md", ("Fees",), 1.0, 0.5, cells)
    assert [(p.text, p.name, p.span.start) for p in pieces(hit)] == [
        ("Novel", "Item", 111),
        ("20 cents", "Novel, Fee", 119),
    ]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is the loan period of amber tools?", "7 days"),
        ("Examples for amber in care classes?", "drills, sanders, jigsaws"),  # not "Amber", which it says itself
        ("What does the training column of care classes say for red?", "a Power Tool Induction"),
        ("Which row is amber?", "Amber | drills, sanders, jigsaws | 7 days | a fifteen-minute briefing"),
        ("What is a loan?", "A loan is an agreement to bring a tool back clean, dry and on time."),
    ],
)
def test_a_question_that_names_row_and_column_gets_the_cell(index: Index, question: str, expected: str) -> None:
    said = "A loan is an agreement to bring a tool back clean, dry and on time."
    prose = Hit(Span("d", 0, len(said)), said, "a.md", ("Borrowing and returning",), 1.0, 0.5)
    text, cells = "", []
    labels = ("Class", "Examples", "Loan period", "Training")
    rows = (
        ("Green", "hammers, spades, clamps", "14 days", "none"),
        ("Amber", "drills, sanders, jigsaws", "7 days", "a fifteen-minute briefing"),
        ("Red", "chainsaws, tile cutters, scaffolding", "3 days", "a Power Tool Induction"),
    )
    for row in (labels, *rows):
        for label, cell in zip(labels, row, strict=True):
            name = "" if row is labels else label if cell == row[0] else f"{row[0]}, {label}"
            cells.append((len(text), len(text) + len(cell), name))
            text += f"{cell} | " if label != labels[-1] else f"{cell}\n"
    table = Hit(Span("d", 100, 100 + len(text)), text, "a.md", ("Care classes",), 0.9, 0.5, tuple(cells))
    assert quote(question, [prose, table], index.embedder).text == expected


def test_nothing_to_quote(index: Index) -> None:
    with pytest.raises(InputError, match="nothing was found"):
        quote("anything", [], index.embedder)


def test_shared_words_by_hand() -> None:
    # "cost" is in one text of two and "card" in both: weights log(1 + 2/2) and log(1 + 2/3).
    shares = _shared_words("What does the card cost?", ["cards cost money", "a card"])
    assert shares == pytest.approx([1.0, 0.5108 / (0.5108 + 0.6931)], abs=1e-4)
    assert _shared_words("the of?", ["x"]) == [0.0]


def test_words_by_hand() -> None:
    assert words("It’s 3,000 can't won't DON'T 2.5") == "it s 3000 can not will not do not 2.5".split()
    assert content_words("The policies stopped costing much; boxes, classes!") == "policy stop cost box class".split()

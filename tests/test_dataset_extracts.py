"""What a small model reads: a few sentences of its passages, the same in training and in use, and nothing held out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.dataset.extracts import Extracts, extract_examples
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.dataset.reading import carries
from tinyforge.evaluate.metrics import Answer, find_metric
from tinyforge.evaluate.metrics.base import Pooled
from tinyforge.pipeline.reading import by_reading
from tinyforge.records import Document, Example, Hit, Message, Span
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.quote import nearest_many, quote, sentences_of

QUESTION = "What does a membership card cost?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(tmp_path_factory.mktemp("run") / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]


def place(text: str) -> Span:
    document = next(d for d in handbook() if text in d.text)
    return Span(document.id, document.text.index(text), document.text.index(text) + len(text))


def example(question: str, *answer: str) -> Example:
    messages = (Message("user", question), Message("assistant", " ".join(answer)))
    return Example(question, messages, tuple(place(text) for text in answer), fact=answer[0])


def made(index: Index, examples: list[Example], untaught: list[Span], count: int = 3, limit: int = 10**6) -> list[str]:
    """The prompts of those that are answered, with many draws so that each kind comes."""
    rows = extract_examples(examples * 40, extracts(index, count), untaught, characters, limit, 0)[0]
    return [row.messages[0].content for row in rows if row.metadata["reading"] == "passages"]


def extracts(index: Index, count: int) -> Extracts:
    def nearest(questions: list[str], hits: list[list[Hit]]) -> list[list[Hit]]:
        return nearest_many(questions, hits, index.embedder, 0)

    return Extracts(index.search_many, nearest, sentences_of, 2, count)  # type: ignore[arg-type]


def characters(messages: list[Message]) -> int:
    return sum(len(message.content) for message in messages)


def test_the_nearest_sentences_begin_with_the_quote(index: Index) -> None:
    by_id: dict[str, Document] = {d.id: d for d in handbook()}
    for question in (QUESTION, "What is the fee per day for a novel?", "What rules are there in the reading room?"):
        hits = index.search(question, 3)
        (near,) = nearest_many([question], [hits], index.embedder, 0)
        quoted = quote(question, hits, index.embedder)
        assert all(near[0].span.overlaps(span) for span in quoted.spans)
        assert all(by_id[hit.span.document].slice(hit.span) == hit.text for hit in near)
        assert len({hit.text for hit in near}) == len(near) > 4
        assert nearest_many([question], [hits], index.embedder, 2) == [near[:2]]
    fee = nearest_many(
        ["What is the fee per day for a novel?"], [index.search("fee for a novel", 3)], index.embedder, 1
    )
    assert fee[0][0].text == "20 cents" and fee[0][0].path == ("Late Fees", "Novel, Fee per day")
    assert nearest_many(["Anything?"], [[]], index.embedder, 3) == [[]]


def test_training_reads_what_is_read_in_use(index: Index) -> None:
    """An answerable prompt holds the sentences that the question will find, in their order, the answer among them."""
    (prompt, *others) = made(index, [example(QUESTION, "A membership card costs 12 euros per year.")], [])
    (near,) = nearest_many([QUESTION], [index.search(QUESTION, 2)], index.embedder, 3)
    assert [prompt.index(hit.text) for hit in near] == sorted(prompt.index(hit.text) for hit in near)
    assert prompt.endswith(f"Question: {QUESTION}") and "[3] " in prompt and "[4] " not in prompt
    assert set(others) == {prompt}


def test_an_answer_that_is_not_found_among_the_first_is_put_in(index: Index) -> None:
    asked = example("What does a boat cost?", "Leave coffee and food outside.")  # nothing near leads there
    prompts = made(index, [asked], [], count=2)
    assert len(set(prompts)) > 1 and all("Leave coffee" in prompt and "[3] " not in prompt for prompt in prompts)
    both = example(QUESTION, "A membership card costs 12 euros per year.", "Speak in a whisper.")
    assert all("12 euros" in p and "whisper" in p for p in made(index, [both], [], count=1))


def test_what_is_held_out_is_in_no_prompt(index: Index) -> None:
    held = [place("A membership card costs 12 euros per year."), place("20 cents")]
    asked = [example(QUESTION, "Children under 14 join for free."), example("Fee for a film?", "1 euro")]
    rows, _ = extract_examples(asked * 40, extracts(index, 8), held, characters, 10**6, 0)
    assert rows and not any("12 euros" in r.messages[0].content or "20 cents" in r.messages[0].content for r in rows)
    control, _ = extract_examples(asked * 40, extracts(index, 8), [], characters, 10**6, 0)
    assert any("12 euros" in r.messages[0].content for r in control)


def test_a_share_is_declined_and_then_the_answer_is_not_there(index: Index) -> None:
    asked = [example(QUESTION, "A membership card costs 12 euros per year.")] * 200
    rows, dropped = extract_examples(asked, extracts(index, 4), [], characters, 10**6, 0)
    missing = [row for row in rows if row.metadata["reading"] == "missing"]
    assert 10 < len(missing) < 60 and not dropped
    assert all(row.answer == NOT_FOUND and not row.evidence for row in missing)
    assert not any("12 euros" in row.messages[0].content for row in missing)


def test_what_cannot_be_read_is_counted(index: Index) -> None:
    nowhere = replace(example(QUESTION, "Speak in a whisper."), evidence=(Span("elsewhere", 0, 5),))
    _, dropped = extract_examples([nowhere] * 20, extracts(index, 3), [], characters, 10**6, 1)
    assert dropped["answer's sentence not retrieved"] > 10
    _, dropped = extract_examples([example(QUESTION, "1 euro")] * 20, extracts(index, 3), [], characters, 60, 1)
    assert dropped == {"answer's sentence too long": 20}


@pytest.mark.parametrize("sentences", [0, 2])
def test_a_reader_is_scored_by_what_a_person_is_told(index: Index, sentences: int) -> None:
    """What the passages do not bear out gives way to the quote, as in chat; both numbers are told.

    A model that is given single sentences has to copy them.
    """
    cost, free, own = (
        "A membership card costs 12 euros per year.",
        "Children under 14 join for free.",
        "A card is 12 euros.",
    )
    texts = [free, own, "It costs 99 euros.", NOT_FOUND]
    seen: list[int] = []

    def respond(examples: object, hits: list[list[Hit]]) -> list[Answer]:
        seen.extend(map(len, hits))
        return [Answer(text) for text in texts]

    rows = [replace(example(QUESTION, cost), id=str(i)) for i in range(4)]
    found = by_reading(respond, index.embedder, sentences)(rows, [index.search(QUESTION, 3)] * 4)  # type: ignore[arg-type]
    assert seen == [sentences or 3] * 4
    assert [a.text for a in found] == [free, cost if sentences else own, cost, cost]
    assert [a.as_written for a in found] == texts
    quoted, written = find_metric("quoted"), find_metric("written_f1")
    assert isinstance(quoted, Pooled) and isinstance(written, Pooled)
    assert quoted.count(found, rows)[:, 0].tolist() == [0, bool(sentences), 1, 1]
    f1 = written.count(found, rows)[:, 0]
    assert f1[1] > 0.4 > f1[2] > 0 == f1[3]


def test_untaught_spans_are_seen(index: Index) -> None:
    (hit, *_) = index.search(QUESTION, 1)
    assert carries(hit, [place("12 euros")]) and not carries(hit, [place("8 euros")])

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message
from tinyforge.retrieve.index import Index
from tinyforge.serve.answer import THRESHOLD, Citation, Reply, calibrate, respond, supported

Complete = Callable[[list[Message]], Iterator[str]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(tmp_path_factory.mktemp("run") / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]


def prompt(question: str, hits: Sequence[Hit]) -> list[Message]:
    return [Message("user", "\n".join([*(hit.text for hit in hits), question]))]


def first_line(messages: list[Message]) -> Iterator[str]:
    """A model that copies: with passages the best one's first line, without them the question."""
    for word in messages[-1].content.split("\n")[0].split():
        yield f"{word} "


def says(text: str) -> Complete:
    return lambda messages: iter([text[:3], text[3:]])


def ask(index: Index, question: str, variant: str, complete: Complete | None = None, **options: Any) -> Reply:
    settings = {"threshold": 0.3, "k": 3, "prompt": prompt, **options}
    return respond(question, variant=variant, index=index, complete=complete, **settings)


def exact(citations: Sequence[Citation]) -> bool:
    by_source = {document.source: document for document in handbook()}
    return all(by_source[c.source].text[c.start : c.end] == c.text for c in citations)


def test_quote_cites_the_exact_characters(index: Index) -> None:
    reply = ask(index, "What does a membership card cost?", "quote")
    assert reply.answer == "A membership card costs 12 euros per year."
    assert not reply.declined and not reply.quoted
    assert [(c.source, c.section, c.page) for c in reply.citations] == [
        ("library.md", "Harbour Library > Membership", 0)
    ]
    assert exact(reply.citations)
    moved = [dataclasses.replace(c, start=c.start + 1, end=c.end + 1) for c in reply.citations]
    assert not exact(moved)


def test_pages_are_cited(index: Index) -> None:
    assert ask(index, "Who wears a life jacket?", "quote").citations[0].page == 2


def test_far_questions_are_declined_before_the_model_writes(index: Index) -> None:
    def must_not_run(messages: list[Message]) -> Iterator[str]:
        raise AssertionError("asked the model")
        yield ""

    for variant in ("quote", "base", "tuned", "tuned+retrieval"):
        reply = ask(index, "Who won the football world cup in 1998?", variant, must_not_run)
        assert reply.declined and reply.citations == ()
        assert reply.answer.startswith("The documents do not hold the answer. The nearest sections are: ")
        assert "(library.md)" in reply.answer
    # the control: with no threshold the same question is answered
    assert not ask(index, "Who won the football world cup in 1998?", "quote", threshold=-1.0).declined


def test_supported_answer_is_streamed_and_cited(index: Index) -> None:
    tokens: list[str] = []
    reply = ask(index, "When does the library open?", "tuned+retrieval", first_line, on_token=tokens.append)
    assert reply.answer == "The library opens at 9 a.m. on weekdays. It stays closed on Sundays and public holidays."
    assert "".join(tokens).strip() == reply.answer and len(tokens) > 10
    assert not reply.quoted
    assert [c.text for c in reply.citations] == [
        "The library opens at 9 a.m. on weekdays.",
        "It stays closed on Sundays and public holidays.",
    ]
    assert exact(reply.citations)


@pytest.mark.parametrize(
    "bad", ["", "  ", "The documents do not say.", "the documents do not say", "It costs 99 euros."]
)
@pytest.mark.parametrize("variant", ["tuned", "base+retrieval", "tuned+retrieval"])
def test_what_is_not_supported_gives_way_to_the_quote(index: Index, variant: str, bad: str) -> None:
    reply = ask(index, "What does a membership card cost?", variant, says(bad))
    assert reply.quoted and not reply.declined and reply.variant == variant
    assert reply.answer == "A membership card costs 12 euros per year."
    assert exact(reply.citations) and reply.citations


def test_each_sentence_of_an_answer_knows_what_it_stands_on(index: Index) -> None:
    said = "Children under 14 join for free. A card costs 12 euros per year. The mayor gives a speech."
    reply = ask(index, "What does a membership card cost?", "tuned", says(said))
    assert reply.answer == said and not reply.quoted
    assert [said[s.start : s.end] for s in reply.sentences] == said.replace(". ", ".|").split("|")
    assert [s.supported for s in reply.sentences] == [True, True, False]
    assert [reply.citations[s.citation].text for s in reply.sentences[:2] if s.citation is not None] == [
        "Children under 14 join for free.",
        "A membership card costs 12 euros per year.",
    ]
    assert reply.unsupported() == ["The mayor gives a speech."]
    quoted = ask(index, "When does the library open?", "quote")
    assert [quoted.answer[s.start : s.end] for s in quoted.sentences] == [c.text for c in quoted.citations]


def test_a_citation_opens_in_its_passage(index: Index) -> None:
    (cited,) = ask(index, "What does a membership card cost?", "quote").citations
    before, text, after = cited.parts()
    assert (before, text) == ("", cited.text) and after.startswith(" Children under 14")
    document = next(d for d in handbook() if d.source == cited.source)
    assert document.text[cited.passage_start :].startswith(cited.passage)


def test_the_answer_follows_the_passage_and_not_what_the_model_was_trained_on(index: Index) -> None:
    trained_on_another = says("A membership card costs 20 euros per year.")
    reply = ask(index, "What does a membership card cost?", "tuned+retrieval", trained_on_another)
    assert reply.answer == "A membership card costs 12 euros per year." and reply.quoted and exact(reply.citations)


def test_closed_book(index: Index) -> None:
    seen: list[list[Message]] = []

    def remembers(messages: list[Message]) -> Iterator[str]:
        seen.append(messages)
        yield "A membership card costs 12 euros."

    reply = ask(index, "What does a membership card cost?", "tuned", remembers)
    assert seen == [[Message("user", "What does a membership card cost?")]]
    assert reply.answer == "A membership card costs 12 euros." and not reply.quoted
    assert [c.text for c in reply.citations] == ["A membership card costs 12 euros per year."]
    base = ask(index, "What does a membership card cost?", "base", says("Bananas are yellow."))
    assert (base.answer, base.citations, base.quoted) == ("Bananas are yellow.", (), False)


def test_context_helps_the_search_but_not_the_prompt(index: Index) -> None:
    seen: list[str] = []

    def note(messages: list[Message]) -> Iterator[str]:
        seen.append(messages[-1].content)
        yield ""

    reply = ask(index, "And what does it cost?", "tuned", note, context="How do I hire rowing boats?")
    assert reply.answer == "Rowing boats are hired by the hour for 8 euros."
    assert seen == ["And what does it cost?"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A card costs 12 euros per year.", True),
        ("12 euros", True),
        ("A card costs 13 euros per year.", False),  # a number that is not there
        ("Captain Hook sells the card.", False),  # a name that is not there
        ("You can lend your card to another person.", False),  # the passage says that you must not
        ("You must not lend your card.", True),
        ("Bananas grow on tall herbs.", False),
        ("A card costs 12 euros per year. Whales are mammals.", False),  # one sentence of two
        ("It is so.", False),
        ("", False),
    ],
)
def test_supported_by_hand(answer: str, expected: bool) -> None:
    passages = ["Opening Hours: closed on Sundays.", "A membership card costs 12 euros per year. You must not lend your card to another person."]  # fmt: skip # noqa: E501
    assert supported(answer, passages) is expected


def test_thousands_and_curly_apostrophes_do_not_matter() -> None:
    assert supported("You can’t spend more than $3,000.", ["You can't spend more than 3000 dollars."])


def test_calibrate_by_hand() -> None:
    # 21 values from 0.30 to 0.50: the 5th percentile is the second lowest.
    assert calibrate([0.30 + 0.01 * i for i in range(21)]) == pytest.approx(0.31)
    assert calibrate([0.2, 0.4]) == 0.25  # 0.21, clipped
    assert calibrate([0.7]) == THRESHOLD == 0.44
    assert calibrate([0.40, 0.30]) == pytest.approx(0.305)
    with pytest.raises(InputError):
        calibrate([])


def test_refusals(index: Index) -> None:
    with pytest.raises(InputError, match="empty"):
        ask(index, "  ", "quote")
    with pytest.raises(InputError, match="4001 characters"):
        ask(index, "x" * 4001, "quote")
    with pytest.raises(InputError, match=r"unknown variant 'best'.*tuned"):
        ask(index, "x", "best")
    with pytest.raises(InputError, match="needs a model"):
        ask(index, "What does a card cost?", "tuned")


def test_reply_is_plain_data(index: Index) -> None:
    reply = ask(index, "What does a membership card cost?", "quote")
    data = json.loads(json.dumps(dataclasses.asdict(reply)))
    assert {"answer", "citations", "declined"} <= set(data)
    assert {"source", "start", "end", "text"} <= set(data["citations"][0])

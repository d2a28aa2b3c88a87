from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

import pytest

from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message
from tinyforge.retrieve.index import Index
from tinyforge.serve.answer import Citation, Reply, respond
from tinyforge.serve.chat import NOT_SUPPORTED, chat_loop, leans_on_previous
from tinyforge.serve.terminal import PlainStream, plain

Ask = Callable[[str, str, Callable[[str], None]], Reply]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(tmp_path_factory.mktemp("run") / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]


def talk(ask: Ask, *lines: str) -> str:
    out = io.StringIO()
    chat_loop(ask, ["library.md", "boats.pdf"], "Hello.", io.StringIO("\n".join(lines)), out)
    return out.getvalue()


def asker(index: Index, variant: str = "quote", says: str = "") -> Ask:
    def prompt(question: str, hits: Sequence[Hit]) -> list[Message]:
        return [Message("user", question)]

    def complete(messages: list[Message]) -> Iterator[str]:
        yield from says

    def ask(question: str, context: str, on_token: Callable[[str], None]) -> Reply:
        return respond(question, variant=variant, index=index, complete=complete, prompt=prompt, threshold=0.3, k=3,
                       on_token=on_token, context=context)  # fmt: skip

    return ask


def fixed(reply: Reply, *tokens: str) -> Ask:
    def ask(question: str, context: str, on_token: Callable[[str], None]) -> Reply:
        for token in tokens:
            on_token(token)
        return reply

    return ask


def test_answers_with_file_section_and_page(index: Index) -> None:
    shown = talk(
        asker(index), "What does a membership card cost?", "Who has to wear a life jacket?", "/exit", "not read"
    )
    assert shown == (
        "Hello.\n"
        "A membership card costs 12 euros per year.\n"
        "  [library.md, Harbour Library > Membership]\n"
        "Every passenger wears a life jacket on the water.\n"
        "  [boats.pdf, Boat Hire > Life Jackets, page 2]\n"
    )


def test_says_when_the_documents_do_not_hold_the_answer(index: Index) -> None:
    shown = talk(asker(index), "Who won the football world cup in 1998?")
    assert "The documents do not hold the answer. The nearest sections are: " in shown


def test_a_supported_answer_is_shown_once_and_a_wrong_one_is_corrected_visibly(index: Index) -> None:
    right = talk(asker(index, "tuned", "The card costs 12 euros."), "What does a membership card cost?")
    assert right.count("12 euros") == 1 and NOT_SUPPORTED not in right
    wrong = talk(asker(index, "tuned", "The card costs 99 euros."), "What does a membership card cost?")
    assert wrong.index("99 euros") < wrong.index(NOT_SUPPORTED) < wrong.index("12 euros")


def test_commands(index: Index) -> None:
    after = ("/sources", "/reset", "/sources", "/quit now", "")
    shown = talk(asker(index), "/help", "/sources", "What does a membership card cost?", *after)
    assert "/reset    forget the conversation so far" in shown
    assert shown.count("The documents:\n  library.md\n  boats.pdf\n") == 2
    assert "[1] library.md, Harbour Library > Membership\n    A membership card costs 12 euros per year.\n" in shown
    assert "/quit is not a command. There are /help, /sources, /reset, /exit.\n" in shown


def test_follow_up_searches_with_the_earlier_question_and_says_so(index: Index) -> None:
    shown = talk(
        asker(index), "How do I hire rowing boats?", "And who keeps the keys?", "/reset", "And who keeps the keys?"
    )
    assert shown.count("(searching with your earlier question: How do I hire rowing boats?)") == 1


@pytest.mark.parametrize(
    "question", ["Why?", "And in summer?", "what about dogs", "It costs how much?", "How about that"]
)
def test_leans(question: str) -> None:
    assert leans_on_previous(question)


@pytest.mark.parametrize(
    "question", ["What is a cycle?", "Italy's office hours?", "Andrea's phone number", "Orders: how?"]
)
def test_does_not_lean(question: str) -> None:
    assert not leans_on_previous(question)


def test_an_error_over_one_question_does_not_end_the_chat(index: Index) -> None:
    shown = talk(asker(index), "x" * 4001, "What does a membership card cost?")
    assert shown.index("4001 characters") < shown.index("12 euros")

    def broken(question: str, context: str, on_token: Callable[[str], None]) -> Reply:
        raise InputError("index: gone.", "Build again.")

    assert "index: gone. Build again.\n" in talk(broken, "a question")


class Keys(io.StringIO):
    """An input in which a line "^C" is the interrupt key."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        line = super().readline()
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_ctrl_c_stops_the_answer_and_twice_leaves() -> None:
    asked: list[str] = []

    def ask(question: str, context: str, on_token: Callable[[str], None]) -> Reply:
        asked.append(question)
        on_token("Half an ans")
        raise KeyboardInterrupt

    out = io.StringIO()
    chat_loop(ask, [], "", Keys("first one\nsecond one\n^C\nthird one\n"), out)
    assert asked == ["first one", "second one"]  # the key after a stopped answer leaves
    assert out.getvalue().count("Stopped.") == 2 and "Half an ans" in out.getvalue()


def test_documents_and_models_cannot_write_to_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jred\x1b[31m\x9b1m\u202eabc\x00\r\nend"
    citation = Citation(f"a{evil}.md", evil, 0, 1, evil)
    shown = talk(
        fixed(Reply(evil, (citation,), False, "tuned", quoted=True), "tok\x1b", "[31", "mens"), "hi", "/sources"
    )
    assert not any(c in shown for c in "\x1b\x9b\x07\x00\r\u202e")
    assert "tokens\n" in shown and "redabc\nend" in shown
    assert "\x1b" in evil  # the control: it was there to begin with


def test_plain_by_hand() -> None:
    assert plain("a\x1b[1;31mb\x1b]8;;http://x\x1b\\c\tü🚣\n") == "abc\tü🚣\n"


def test_stream_lets_text_through_however_it_is_cut() -> None:
    text = "one \x1b[31mtwo\x1b]0;t\x07 three\x1b"
    for size in range(1, len(text) + 1):
        out: list[str] = []
        stream = PlainStream(out.append)
        for start in range(0, len(text), size):
            stream.feed(text[start : start + size])
        stream.close()
        assert "".join(out) == "one two three" and stream.shown
    endless: list[str] = []
    stream = PlainStream(endless.append)
    stream.feed("\x1b]0;" + "x" * 500)  # never closed: shown rather than held for ever
    assert "".join(endless).endswith("x" * 500)

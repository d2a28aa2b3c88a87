from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_parts import Scripted, session, talk, talker
from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.records import Message
from tinyforge.retrieve.index import Index
from tinyforge.serve.answer import Citation, Reply
from tinyforge.serve.chat import COMMANDS, NOT_SUPPORTED, chat_loop
from tinyforge.serve.session import Session
from tinyforge.serve.talk import Said, Talker
from tinyforge.serve.terminal import PlainStream, plain

CARD = "What does a membership card cost?"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    return Index.build(tmp_path_factory.mktemp("run") / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]


@pytest.fixture
def quoting(index: Index) -> Session:
    return session(talker(index, "quote"))


def writing(index: Index, says: str, variant: str = "tuned") -> Session:
    return session(talker(index, variant, Scripted(lambda messages: says)))


class Fixed(Talker):
    """Gives one reply, after these tokens."""

    def __init__(self, reply: Reply, *tokens: str) -> None:
        super().__init__("here", "tuned", "tuned", None, None)
        self._reply, self._tokens = reply, tokens

    def reply(self, question, earlier=(), **options):  # type: ignore[no-untyped-def]
        for token in self._tokens:
            options["on_token"](token)
        return Said(self._reply, "", None)


def test_answers_with_file_section_and_page(quoting: Session) -> None:
    assert talk(quoting, CARD, "Who has to wear a life jacket?", "/exit", "not read") == (
        "Hello.\n"
        "A membership card costs 12 euros per year.\n"
        "  [1] library.md, Harbour Library > Membership\n"
        "Every passenger wears a life jacket on the water.\n"
        "  [1] boats.pdf, Boat Hire > Life Jackets, page 2\n"
    )


def test_says_when_the_documents_do_not_hold_the_answer(quoting: Session) -> None:
    shown = talk(quoting, "Who won the football world cup in 1998?")
    assert "The documents do not hold the answer. The nearest sections are: " in shown


def test_a_supported_answer_is_shown_once_and_a_wrong_one_is_corrected_visibly(index: Index) -> None:
    right = talk(writing(index, "The card costs 12 euros."), CARD)
    assert right.count("12 euros") == 1 and NOT_SUPPORTED not in right
    wrong = talk(writing(index, "The card costs 99 euros."), CARD)
    assert wrong.index("99 euros") < wrong.index(NOT_SUPPORTED) < wrong.index("12 euros")


def test_a_sentence_that_nothing_bears_out_is_marked_and_the_others_are_cited(index: Index) -> None:
    shown = talk(writing(index, "A membership card costs 12 euros per year. It is made of gold."), CARD)
    assert NOT_SUPPORTED not in shown
    assert "  not in the documents: It is made of gold.\n" in shown
    assert "  [1] library.md, Harbour Library > Membership (sentence 1)\n" in shown


def test_a_citation_opens_its_exact_characters(quoting: Session) -> None:
    shown = talk(quoting, "/sources", CARD, "/sources", "/sources 1", "/sources 2", "/sources x")
    assert "The documents:\n  library.md\n  boats.pdf\n" in shown
    text = handbook()[0].text
    start = text.index("A membership card")
    place = f"[1] library.md, Harbour Library > Membership, characters {start}-{start + 42}"
    assert f"{place}\n    A membership card costs 12 euros per year.\n" in shown
    assert f"{place}\n»A membership card costs 12 euros per year.« Children under 14" in shown
    again = session(quoting.talker)
    again.history = quoting.history
    assert f"{place}\n»A membership card costs 12 euros per year.«" in talk(again, "/load 1", "/sources 1")
    assert "no citation 2" in shown and "'x' is not a number" in shown


def test_help_lists_every_command_and_others_are_refused(quoting: Session) -> None:
    shown = talk(quoting, "/help", "/quit now", "")
    assert all(f"{name} " in shown for name in COMMANDS)
    assert "/quit is not a command. There are /help, /new," in shown


def test_follow_up_searches_with_the_earlier_question_and_says_so(quoting: Session) -> None:
    shown = talk(quoting, "How do I hire rowing boats?", "And who keeps the keys?", "/new", "And who keeps the keys?")
    assert shown.count("(searched together with: How do I hire rowing boats?)") == 1


def test_rag_off_asks_the_model_alone(index: Index) -> None:
    writer = Scripted(lambda messages: "Whales are mammals.")
    one = session(talker(index, "tuned+retrieval", writer))
    shown = talk(one, "/rag off", "Who won the cup?", "/rag on", "Who won the cup?", "/rag maybe")
    assert "Whales are mammals." in shown and "do not hold the answer" in shown and "it is on or off" in shown
    assert writer.seen[0][0] == [Message("user", "Who won the cup?")]
    assert "without a model" in talk(session(talker(index, "quote")), "/rag off")


def test_settings_are_shown_kept_and_used(index: Index, tmp_path: Path) -> None:
    writer = Scripted(lambda messages: "Fine.", context=2000)
    one = session(talker(None, "base+retrieval", writer, remembers=True), tmp_path / "c.sqlite")
    shown = talk(one, "/system Be a pirate.", "/temperature 0.5", "/temperature hot", "Hello", "/system off", "Again")
    assert "number from 0 to 5" in shown
    (first, sampling), (second, _) = writer.seen
    assert first == [Message("system", "Be a pirate."), Message("user", "Hello")] and sampling.temperature == 0.5
    assert [m.role for m in second] == ["user", "assistant", "user"]
    again = session(one.talker, tmp_path / "c.sqlite")
    shown = talk(again, "/history", "/load 1", "/temperature")
    assert "  1  Hello  (2 turns)" in shown and "> Hello\nFine.\n> Again\nFine.\n" in shown
    assert "The temperature is 0.5." in shown


def test_style_is_picked_up_told_kept_and_deleted(tmp_path: Path) -> None:
    writer = Scripted(lambda messages: "Ja.")
    one = session(talker(None, "base+retrieval", writer, remembers=True), tmp_path / "c.sqlite")
    shown = talk(
        one, "Please answer in German.", "/style brevity short", "Is it open?", "/style forget language", "Why?"
    )
    assert "(kept: language German; `/style forget language` deletes it)" in shown
    assert len(writer.seen) == 2  # a bare wish is no question
    assert "Answer in German." in writer.seen[0][0][0].content
    assert writer.seen[1][0][0].content == "Answer in one or two short sentences."
    assert "brevity: short" in talk(session(one.talker, tmp_path / "c.sqlite"), "/style")
    assert "brevity cannot be 'huge'" in talk(one, "/style brevity huge")


def test_a_model_of_bare_questions_is_not_given_style_and_the_person_is_told(index: Index) -> None:
    writer = Scripted(lambda messages: "The card costs 12 euros.")
    shown = talk(session(talker(index, "tuned+retrieval", writer)), "/style brevity short", CARD)
    assert "is not told it" in shown
    assert "short" not in writer.seen[0][0][0].content


def test_retry_makes_a_branch_and_history_shows_it(tmp_path: Path) -> None:
    answers = iter(["One.", "Two.", "Three."])
    writer = Scripted(lambda messages: next(answers))
    one = session(talker(None, "base+retrieval", writer, remembers=True), tmp_path / "c.sqlite")
    shown = talk(one, "/retry", "Name a number", "/retry", "Another", "/history", "/history 1", "/load 1 1", "/load 9")
    assert "nothing to ask again" in shown
    (a, b, c) = writer.seen
    assert a[0] == b[0] and (a[1].temperature, b[1].temperature) == (0.0, 0.8) and a[1].seed != b[1].seed
    assert [m.content for m in c[0]] == ["Name a number", "Two.", "Another"]
    assert "* 1  Name a number  (3 turns, 2 branches)" in shown
    assert "  1: Name a number\n* 2: Name a number / 3: Another\n" in shown
    assert one.turn == 1 and "there is no conversation 9" in shown


def test_preview_writes_nothing_and_shows_the_prompt(index: Index) -> None:
    writer = Scripted(lambda messages: "x")
    one = session(talker(index, "tuned+retrieval", writer))
    shown = talk(one, f"/preview {CARD}", "/preview")
    assert "context: " in shown and "--- user\n[1] Harbour Library > Membership\n" in shown
    assert writer.seen == [] and one.history.chats() == [] and "takes a message" in shown


def test_save(quoting: Session, tmp_path: Path) -> None:
    shown = talk(quoting, f"/save {tmp_path}/a.md", CARD, f"/save {tmp_path}/a.md", f"/save {tmp_path}/a.md",
                 f"/save {tmp_path}/a.jsonl")  # fmt: skip
    assert "nothing to save" in shown and "exists already" in shown
    assert (tmp_path / "a.md").read_text().startswith(f"**You:** {CARD}\n\nA membership card costs 12")
    assert '{"role": "user", "content": "What does' in (tmp_path / "a.jsonl").read_text()


def test_delete_takes_the_text_out_of_the_file(quoting: Session, tmp_path: Path) -> None:
    one = session(quoting.talker, tmp_path / "c.sqlite")
    talk(one, CARD)
    assert b"membership card" in (tmp_path / "c.sqlite").read_bytes()
    talk(one, "/delete 1")
    assert b"membership card" not in (tmp_path / "c.sqlite").read_bytes() and one.chat is None


def test_an_error_over_one_question_does_not_end_the_chat(quoting: Session) -> None:
    shown = talk(quoting, "x" * 4001, CARD)
    assert shown.index("4001 characters") < shown.index("12 euros")
    assert len(quoting.path) == 1  # what failed is not kept


class Keys(io.StringIO):
    """An input in which a line "^C" is the interrupt key."""

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        line = super().readline()
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_ctrl_c_stops_the_answer_and_twice_leaves() -> None:
    def says(messages: list[Message]) -> Iterator[str]:
        raise KeyboardInterrupt

    writer = Scripted(says)  # type: ignore[arg-type]
    one = session(talker(None, "base+retrieval", writer, remembers=True))
    out = io.StringIO()
    chat_loop(one, "", Keys("first one\nsecond one\n^C\nthird one\n"), out)
    assert [m[0][-1].content for m in writer.seen] == ["first one", "second one"]  # the key after a stopped one leaves
    assert out.getvalue().count("Stopped.") == 2 and one.path == []


def test_documents_and_models_cannot_write_to_the_terminal() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jred\x1b[31m\x9b1m\u202eabc\x00\r\nend"
    citation = Citation(f"a{evil}.md", evil, 0, len(evil), evil, 0, evil)
    reply = Reply(evil, (citation,), False, "tuned", quoted=True)
    shown = talk(session(Fixed(reply, "tok\x1b", "[31", "mens")), "hi", "/sources", "/sources 1", "/history")
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

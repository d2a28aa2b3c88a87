"""The parts of a conversation: follow-ups, what fits into a context, preferences, what is kept, real models."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from chat_parts import Scripted, session, talker
from little import make_base
from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message, Span
from tinyforge.retrieve.index import Index
from tinyforge.serve.budget import Asked, fit_conversation, summarise
from tinyforge.serve.followup import follow_up, leans_on_previous, may_lean, of_messages
from tinyforge.serve.history import History
from tinyforge.serve.style import checked, instructions, is_only_a_wish, picked_up
from tinyforge.serve.talk import Talker


@pytest.mark.parametrize(
    "question",
    ["Why?", "And in summer?", "what about dogs", "It costs how much?", "How about that", "How long can it be?",
     "When is open enrollment for it?", "Do I have to use Deskpass for that?", "Who writes them?"],
)  # fmt: skip
def test_leans(question: str) -> None:
    assert leans_on_previous(question)


@pytest.mark.parametrize(
    "question",
    ["What is a cycle?", "Italy's office hours?", "Andrea's phone number", "Orders: how?",
     "Is it okay to build a friend's website?", "How long should it take a junior to become senior?",
     "Who is my buddy and what do they do?", "Do I have to tell anybody that I am moving?"],
)  # fmt: skip
def test_does_not_lean(question: str) -> None:
    assert not leans_on_previous(question)


def test_a_follow_up_leans_on_the_last_question_that_stands_alone() -> None:
    earlier = ["How often may I take a sabbatical?", "And how long is it?"]
    assert follow_up("Is it paid?", earlier).context == earlier[0]
    assert follow_up("Who runs the meeting?", earlier).context == ""
    assert follow_up("Is it paid?", []).context == ""
    messages = [Message("user", earlier[0]), Message("assistant", "Often."), Message("user", "Is it paid?")]
    assert of_messages(messages).context == earlier[0]


def test_a_short_question_leans_only_when_it_finds_nothing_itself(tmp_path: Path) -> None:
    index = Index.build(tmp_path / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]
    one = talker(index, "quote")
    earlier = [("What does a membership card cost?", "12 euros.")]
    assert may_lean("Any discount?") and one.follow_up("Any discount?", earlier).context == earlier[0][0]
    assert may_lean("Late fees?") and one.follow_up("Late fees?", earlier).context == ""
    assert one.follow_up("Any discount?", ()).context == ""


def words(messages: object) -> int:
    return sum(len(message.content.split()) for message in messages)  # type: ignore[attr-defined]


def hit(number: int) -> Hit:
    return Hit(Span("d", 0, 20), "five words in a passage", f"{number}.md", (f"Part {number}",), 1.0, 0.5)


def test_what_fits_is_whole() -> None:
    asked = Asked("how much is it", (("hello there", "hi"),), (hit(1),), "Be kind.")
    messages, budget = fit_conversation(asked, words, 100, 10, True)
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert (budget.dropped_turns, budget.left_out, budget.turns, budget.passages) == (0, (), 1, 1)
    assert budget.used == words(messages) == budget.question_tokens + budget.passage_tokens + budget.turn_tokens
    assert "left out" not in budget.line()


def test_the_oldest_turns_go_first_by_summary_then_the_lowest_passages_and_all_is_told() -> None:
    turns = tuple((f"question {n} is here.", "longerword " * 60 + "end.") for n in range(3))  # 65 words each
    asked = Asked("how much is it", turns, (hit(1), hit(2)), "")  # 4 words, and 17 with the passages
    messages, budget = fit_conversation(asked, words, 200, 10, True)
    assert (budget.dropped_turns, budget.summarised, budget.turns, budget.passages) == (1, 1, 2, 2)
    assert messages[0].role == "system" and "question 0 is here." in messages[0].content
    assert "the 1 oldest turn, 1 of them summed up" in budget.line() and words(messages) <= 200
    messages, tight = fit_conversation(asked, words, 14, 10, True)
    assert (tight.dropped_turns, tight.summarised, tight.turns, tight.passages) == (3, 0, 0, 1)
    assert tight.left_out == ("Part 2 (2.md)",)
    assert tight.line().endswith(
        "left out, as there is no room: the 3 oldest turns; left out, as there is no room: Part 2 (2.md)"
    )
    assert words(messages) <= 14
    with pytest.raises(InputError, match="has 4 tokens; this model takes 3 and 10"):
        fit_conversation(asked, words, 3, 10, True)


def test_the_summary_names_what_was_said() -> None:
    text = summarise([("What is a loan? I wonder.", "A loan is an agreement. It ends."), ("x " * 200, "Yes.")], 2)
    assert "- asked: What is a loan? answered: A loan is an agreement." in text
    assert all(len(line) < 400 for line in text.splitlines())
    assert "(4 turns before these are not listed)" in summarise([("Q?", "A.")] * 10, 6)


def test_a_template_without_system_messages_gets_the_instructions_with_the_first_message() -> None:
    writer = Scripted(lambda messages: "Arr.", refuses_system=True)
    one = session(talker(None, "base+retrieval", writer, remembers=True))
    one.change(system="Be a pirate.")
    one.ask("Hello")
    assert writer.seen[0][0] == [Message("user", "Be a pirate.\n\nHello")]


@pytest.mark.parametrize(
    ("text", "found", "only"),
    [
        ("Please answer in German.", {"language": "German"}, True),
        ("be brief", {"brevity": "short"}, True),
        ("Be more detailed, please", {}, False),
        ("answer in more detail please", {"brevity": "long"}, True),
        ("How do I say hello? Answer in French", {"language": "French"}, False),
        ("Who speaks German here?", {}, False),
        ("What is in short supply?", {}, False),
    ],
)
def test_preferences_are_picked_up_only_when_said(text: str, found: dict[str, str], only: bool) -> None:
    assert picked_up(text) == found and is_only_a_wish(text) is only


def test_preferences_as_instructions() -> None:
    assert instructions({"brevity": "short", "language": "German", "note": "Call me Sam."}) == (
        "Answer in one or two short sentences. Answer in German. Call me Sam."
    )
    assert instructions({}) == instructions({"brevity": "normal"}) == ""
    assert checked("language", "german") == "German"
    for name, value in (("tone", "kind"), ("note", "x" * 201), ("language", "Klingon")):
        with pytest.raises(InputError):
            checked(name, value)


def test_history_is_kept_with_its_branches(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "chats.sqlite"
    history = History(path)
    first = history.add(None, None, "Q1", "A1", {"citations": [1]})
    chat = history.chat_of(first.id)
    history.add(chat, first.id, "Q2", "A2", {})
    other = history.add(chat, first.id, "Q2", "A2 again", {})
    history.close()
    again = History(path)
    (found,) = again.chats()
    assert (found.title, found.turns, found.branches, found.head) == ("Q1", 3, 2, other.id)
    assert [t.answer for t in again.path_to(found.head)] == ["A1", "A2 again"]
    assert [t.answer for t in again.leaves(chat)] == ["A2", "A2 again"]
    assert again.path_to(first.id)[0].details == {"citations": [1]}
    assert path.stat().st_mode & 0o077 == 0
    elsewhere = again.add(None, None, "Q", "A", {})
    with pytest.raises(InputError, match="belongs to another"):
        again.stand_at(chat, elsewhere.id)


def test_a_file_of_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("create table precious (x)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="made by something else"):
        History(path)
    (tmp_path / "text").write_text("hello " * 100)
    with pytest.raises(InputError, match="cannot hold conversations"):
        History(tmp_path / "text")
    assert path.read_bytes() == before


def test_a_turn_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    history = History(tmp_path / "c.sqlite")
    with pytest.raises(sqlite3.IntegrityError):
        history.add(None, 99, "Q", "A", {})  # the turn before it does not exist
    assert history.chats() == []


def test_a_base_talks_over_several_turns_with_its_own_template(tmp_path: Path) -> None:
    one = Talker.open(str(make_base(tmp_path / "base")))
    assert one.remembers and one.knowledge is None and one.run is None
    held = session(one)
    first = held.ask("What is a loan?")
    assert first.budget is not None and first.budget.turns == 0
    second = held.ask("And a fee?")
    assert second.budget is not None and second.budget.turns == 1 and second.budget.used > first.budget.used
    messages, _ = one.prompt("And a fee?", [("What is a loan?", first.reply.answer)], (), "")
    assert [m.role for m in messages] == ["user", "assistant", "user"]
    drawn = {held.retry().reply.answer for _ in range(2)}
    again = session(one)
    again.ask("What is a loan?")
    again.ask("And a fee?")
    assert again.path[-1].answer == second.reply.answer and {again.retry().reply.answer} <= drawn


def test_a_base_with_a_knowledge_base_answers_out_of_it(tmp_path: Path) -> None:
    Index.build(tmp_path / "kb", handbook(), RetrieveConfig())  # type: ignore[call-arg]
    one = Talker.open(str(make_base(tmp_path / "base")), knowledge=[str(tmp_path / "kb")])
    reply = session(one).ask("What does a membership card cost?").reply
    assert reply.quoted and reply.answer == "A membership card costs 12 euros per year."
    assert session(one).ask("Who won the football world cup in 1998?").reply.declined


@pytest.mark.parametrize(
    ("variant", "known", "documents"),
    [("base", True, False), ("tuned", False, True), ("base+retrieval", False, False), ("quote", True, True)],
)
def test_a_variant_is_kept_or_refused(tmp_path: Path, variant: str, known: bool, documents: bool) -> None:
    base, kb = make_base(tmp_path / "base"), tmp_path / "kb"
    Index.build(kb, handbook(), RetrieveConfig())  # type: ignore[call-arg]
    if known:
        assert Talker.open(str(base), variant, [str(kb)] if documents else []).variant == variant
        return
    with pytest.raises(InputError, match=f"no variant '{re.escape(variant)}'"):
        Talker.open(str(base), variant, [str(kb)] if documents else [])


def test_what_cannot_talk_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Talker.open(str(tmp_path / "nowhere"))
    (tmp_path / "run.json").write_text('{"format": 1, "command": "train"}')
    with pytest.raises(InputError, match="has not finished"):
        Talker.open(str(tmp_path))

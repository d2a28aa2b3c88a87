"""Messages into conversations, by hand: the reply graph, pauses, bursts, and what is left out with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat_exports import ANNA, BEN, BOT, discord, discord_message, discord_package, reply, slack, slack_message
from tinyforge.config import ChatsConfig
from tinyforge.dataset.chat_rows import read_chat_rows
from tinyforge.dataset.conversations import Thread, content, threads, turns, windows
from tinyforge.dataset.holdout import hold_out
from tinyforge.dataset.origin import origin_of
from tinyforge.dataset.rows import RowSet
from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import ChatMessage
from tinyforge.ingest.pseudonyms import Pseudonyms
from tinyforge.records import Example

CLEO = ("103", "Cleo Brandt", "cleo")
GAP = 3600.0


def said(number: int, who: str, minute: float, reply_to: int = 0, thread: str = "", channel: str = "c") -> ChatMessage:
    return ChatMessage(
        str(number), who, minute * 60, f"{who}{number}", channel, f"message {number}", str(reply_to or ""), thread
    )


def ids(found: list[Thread]) -> list[str]:
    """Each thread as its message numbers, the context in brackets before."""
    return [(f"[{t.context.id}]" if t.context else "") + " ".join(m.id for m in t.messages) for t in found]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        # a pause of exactly the gap goes on, one second more does not
        ([said(1, "a", 0), said(2, "b", 60), said(3, "a", 121)], ["1 2", "3"]),
        # a late reply still joins what it answers
        ([said(1, "a", 0), said(2, "b", 500, reply_to=1)], ["1 2"]),
        # a reply past others' messages begins a conversation with what it answers; the next goes on there
        ([said(1, "a", 0), said(2, "c", 1), said(3, "b", 2, reply_to=1), said(4, "a", 3)], ["1 2", "[1]3 4"]),
        # more messages of the one who is answered, or of the one who answers, are not in the way
        ([said(1, "a", 0), said(2, "a", 1), said(3, "b", 2, reply_to=1), said(4, "b", 3, reply_to=1)], ["1 2 3 4"]),
        # a reply to a message that is not there goes by time
        ([said(1, "a", 0), said(2, "b", 1, reply_to=99)], ["1 2"]),
        # channels do not mix, and a thread of the program holds over pauses and stays apart
        ([said(1, "a", 0), said(2, "b", 1, channel="d"), said(3, "a", 2)], ["1 3", "2"]),
        ([said(1, "a", 0, thread="t"), said(2, "a", 1), said(3, "b", 900, thread="t")], ["1 3", "2"]),
    ],
)
def test_threads_by_hand(messages: list[ChatMessage], expected: list[str]) -> None:
    assert ids(threads(messages, GAP)) == expected
    assert ids(threads(messages[::-1], GAP)) == expected  # whatever the order in the file


def test_bursts_are_merged_and_ends_are_trimmed_with_reasons() -> None:
    thread = Thread([said(n, who, n) for n, who in enumerate("ppaappbp" + "a", 1)])
    found, left = turns(thread, "p")
    assert [(t.role, [p.message.id for p in t.pieces]) for t in found] == [
        ("user", ["3", "4"]),
        ("assistant", ["5", "6"]),
        ("user", ["7"]),
        ("assistant", ["8"]),
    ]
    assert [(m.id, reason) for m, reason in left] == [
        ("1", "the persona speaks first, so nothing is answered"),
        ("2", "the persona speaks first, so nothing is answered"),
        ("9", "not answered by the persona"),
    ]
    assert turns(Thread([said(1, "a", 0)]), "p") == ([], [(said(1, "a", 0), "conversation without the persona")])


def test_the_message_that_is_answered_is_repeated_but_never_learned_twice() -> None:
    theirs = Thread([said(3, "p", 2)], context=said(1, "a", 0))
    found, _ = turns(theirs, "p")
    assert [content(t, {}, False) for t in found] == [["a1"], ["p3"]]
    own = Thread([said(3, "a", 2), said(4, "p", 3)], context=said(1, "p", 0))
    found, _ = turns(own, "p")
    assert [(t.role, content(t, {}, False)) for t in found] == [("user", ["> p1", "a3"]), ("assistant", ["p4"])]
    to_oneself = Thread([said(3, "p", 2)], context=said(1, "p", 0))
    assert turns(to_oneself, "p")[0] == []


def test_speakers_are_named_where_there_are_several() -> None:
    found, _ = turns(Thread([said(1, "a", 0), said(2, "a", 1), said(3, "b", 2), said(4, "p", 3)]), "p")
    assert content(found[0], {"a": "Person-1", "b": "Person-2"}, True) == ["Person-1: a1", "a2", "Person-2: b3"]
    assert content(found[1], {"p": "Person-3"}, True) == ["p4"]


def test_long_conversations_are_cut_before_a_question() -> None:
    found, _ = turns(Thread([said(n, "ap"[n % 2 == 0], n) for n in range(1, 9)]), "p")  # each turn counts 23
    rows, left = windows(found, 92)
    assert [[t.pieces[0].message.id for t in row] for row in rows] == [["1", "2", "3", "4"], ["5", "6", "7", "8"]]
    assert left == []
    assert [len(row) for row in windows(found, 46)[0]] == [2, 2, 2, 2]


def test_a_turn_that_is_too_long_loses_its_oldest_messages_aloud() -> None:
    found, _ = turns(Thread([said(1, "a", 0), said(2, "a", 1), said(3, "a", 2), said(4, "p", 3)]), "p")
    rows, left = windows(found, 49)
    assert [p.message.id for p in rows[0][0].pieces] == ["2", "3"]
    assert [(m.id, r) for m, r in left] == [("1", "older messages of a question over chats.max_characters")]
    found, _ = turns(Thread([said(1, "a", 0), said(2, "p", 1)]), "p")
    rows, left = windows(found, 45)
    assert rows == [] and [m.id for m, _ in left] == ["1", "2"]


# --- whole exports ----------------------------------------------------------------------------------------------------


def read(path: Path, persona: str = "", **settings: object) -> RowSet:
    config = ChatsConfig(persona=persona, **settings)  # type: ignore[arg-type]
    return read_chat_rows([path], config, Pseudonyms(path.parent))


def lines(example: Example) -> list[str]:
    return [f"{m.role[0]}: {m.content}" for m in example.messages]


MESSAGES = [
    discord_message(1, ANNA, 0, "Who has the drill?"),
    discord_message(2, ANNA, 1, "I need it on Sunday"),
    discord_message(3, BOT, 1.5, "Use /help"),
    discord_message(4, BEN, 2, "It is in the shed"),
    discord_message(5, CLEO, 3, "And the saw, Ben?"),
    discord_message(6, BEN, 4, "Also there, Anna has the key", **reply(5)),
    discord_message(7, CLEO, 5, "", attachments=[{"id": "1", "fileName": "saw.png"}]),
    discord_message(8, BEN, 7, "No wait, I have it", **reply(2)),
    discord_message(9, ANNA, 200, "Thanks for yesterday"),
]


def test_a_discord_channel_by_hand(tmp_path: Path) -> None:
    found = read(discord(tmp_path / "a.json", MESSAGES), "bent")
    assert [lines(e) for e in found.examples] == [
        [
            "u: Person-1: Who has the drill?\nI need it on Sunday",
            "a: It is in the shed",
            "u: Person-3: And the saw, Person-2?",
            "a: Also there, Person-1 has the key",
        ],
        ["u: I need it on Sunday", "a: No wait, I have it"],
    ]
    assert found.reasons == {"bot": 1, "media only": 1, "conversation without the persona": 1}
    origin = origin_of(found.examples[0].metadata)
    assert origin is not None and origin.turns[0] == (("Person-1", 28), ("Person-1", 19))
    assert origin.pieces([m.content for m in found.examples[0].messages])[2] == ["Person-3: And the saw, Person-2?"]


def test_a_slack_thread_is_one_conversation(tmp_path: Path) -> None:
    start = "1709287200.000000"
    day = [
        slack_message("U1", start, "How long is a loan?", thread_ts=start, reply_count=1),
        slack_message("U1", "1709287260.000000", "lunch?"),
        slack_message("U2", "1709387200.000000", "A week", thread_ts=start),
    ]
    found = read(slack(tmp_path / "x", {"2024-03-01": day}), "Ben Tamm")
    assert [lines(e) for e in found.examples] == [["u: How long is a loan?", "a: A week"]]
    assert found.reasons == {"conversation without the persona": 1}


def test_the_package_with_own_messages_is_text_and_says_so(tmp_path: Path) -> None:
    found = read(discord_package(tmp_path / "package"))
    assert found.kind == "text"
    assert [e.text for e in found.examples] == ["hello there\nstill there @Person-2?", "one, two"]
    assert any("holds only your own messages" in note for note in found.notes)


def test_without_a_persona_the_authors_are_listed(tmp_path: Path) -> None:
    path = discord(tmp_path / "a.json", MESSAGES)
    with pytest.raises(InputError, match=r"--persona NAME.*Anna Okafor \(3\), Ben Tamm \(3\), Cleo Brandt \(1\)\."):
        read(path)
    with pytest.raises(InputError, match=r"nobody called 'Dora'.*Anna Okafor \(3\)"):
        read(path, "Dora")


def test_a_name_that_two_people_have_is_refused(tmp_path: Path) -> None:
    other = ("104", "Ben Tamm", "ben2")
    path = discord(tmp_path / "a.json", [*MESSAGES, discord_message(10, other, 8, "Me too")])
    with pytest.raises(InputError, match=r"2 people are called 'ben tamm'\. Give one's id: 102 \(3\), 104 \(1\)"):
        read(path, "ben tamm")
    found = read(path, "104", keep_pii=True)
    assert len(found.examples) == 1 and found.examples[0].answer == "Me too"


def test_the_gap_is_an_option(tmp_path: Path) -> None:
    messages = [discord_message(1, ANNA, 0, "a"), discord_message(2, ANNA, 10, "b"), discord_message(3, BEN, 12, "c")]
    path = discord(tmp_path / "a.json", messages)
    assert [e.question for e in read(path, "bent").examples] == ["a\nb"]
    assert [e.question for e in read(path, "bent", gap_minutes=5.0).examples] == ["b"]


# --- the split --------------------------------------------------------------------------------------------------------


def many(tmp_path: Path, count: int, overlap: bool = False) -> RowSet:
    """Conversations two hours apart; with ``overlap`` one reply spans them all."""
    messages = []
    for n in range(count):
        messages.append(discord_message(10 * n + 1, ANNA, 120 * n % 800, f"question number {n}"))
        messages[-1]["timestamp"] = f"2024-03-{n % 28 + 1:02d}T{10 + 4 * (n // 28)}:00:00+00:00"
        messages.append(discord_message(10 * n + 2, BEN, 1, f"answer number {n}", **reply(10 * n + 1)))
        messages[-1]["timestamp"] = f"2024-03-{n % 28 + 1:02d}T{10 + 4 * (n // 28)}:01:00+00:00"
    if overlap:
        messages.append(discord_message(9999, BEN, 1, "a late answer", **reply(1)))
        messages[-1]["timestamp"] = "2024-05-01T10:00:00+00:00"
    return read(discord(tmp_path / "a.json", messages), "bent")


def test_dev_is_later_than_train_and_shares_no_conversation(tmp_path: Path) -> None:
    found = many(tmp_path, 40)
    sides = hold_out(found.examples, 0.1, 0)
    origins = {name: [origin_of(e.metadata) for e in getattr(sides, name)] for name in ("train", "dev")}
    assert len(sides.train) == 36 and len(sides.dev) == 4 and "the latest" in sides.note
    latest = max(o.end for o in origins["train"] if o)
    assert all(o.start > latest for o in origins["dev"] if o)
    assert not {o.conversation for o in origins["train"] if o} & {o.conversation for o in origins["dev"] if o}
    assert all(e.split == "dev" for e in sides.dev)


def test_a_conversation_over_the_border_is_in_neither_set(tmp_path: Path) -> None:
    found = many(tmp_path, 40, overlap=True)
    assert len(found.examples) == 40  # the late answer continues the first conversation
    sides = hold_out(found.examples, 0.1, 0)
    assert len(sides.train) + len(sides.dev) == 39 and "1 that span the border" in sides.note


def test_without_times_the_split_goes_by_question(tmp_path: Path) -> None:
    """The control: the same rows without their origin are dealt at random, and dev is not the latest."""
    found = many(tmp_path, 40)
    bare = [Example(e.id, e.messages, metadata={"n": n}) for n, e in enumerate(found.examples)]
    assert [e.metadata["n"] for e in hold_out(bare, 0.1, 0).dev] != [36, 37, 38, 39]

"""Messages into conversations: along the reply graph first, then by pauses; bursts become one turn.

Each message is learned at most once. A reply to an earlier message of a conversation that went on meanwhile begins one
of its own, with the message that it answers repeated as context: as a turn where others wrote it, as a quotation where
the persona did (its turns would be learned a second time).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from tinyforge.ingest.chats.records import ChatMessage
from tinyforge.records import Role


@dataclass(frozen=True, slots=True)
class Piece:
    """One message inside a turn; ``quoted`` where it is repeated as a quotation."""

    message: ChatMessage
    quoted: bool = False


@dataclass
class Turn:
    role: Role
    pieces: list[Piece] = field(default_factory=list)


@dataclass
class Thread:
    """Messages that belong together, in order; ``context`` is the earlier message that the first one answers."""

    messages: list[ChatMessage]
    context: ChatMessage | None = None


_TEMPLATE = 20  # characters that a chat template takes for a turn, about: many short turns are as long as few long ones

Left = list[tuple[ChatMessage, str]]
"""Messages that are not learned from, each with the reason."""


def threads(messages: Iterable[ChatMessage], gap_seconds: float) -> list[Thread]:
    """Every message in one thread, ordered by the thread's first message.

    A reply joins the message it answers, if only its author or the answerer wrote there since; else it begins a thread
    with that message as context. Any other message joins the one before it in the channel, unless the pause is longer
    than ``gap_seconds``. Messages of a thread of the program (Slack's) stay together whatever the pause.
    """
    found: list[Thread] = []
    home: dict[tuple[str, str], tuple[ChatMessage, Thread]] = {}
    latest: dict[tuple[str, str], tuple[ChatMessage, Thread]] = {}
    for message in sorted(messages, key=lambda m: m.time):
        flow = (message.channel, message.thread)
        thread = _joined(message, home.get((message.channel, message.reply_to)), latest.get(flow), gap_seconds)
        if not thread.messages:
            found.append(thread)
        thread.messages.append(message)
        home[message.channel, message.id] = latest[flow] = (message, thread)
    return found


def _joined(
    message: ChatMessage,
    answered: tuple[ChatMessage, Thread] | None,
    before: tuple[ChatMessage, Thread] | None,
    gap_seconds: float,
) -> Thread:
    """The thread that the message belongs to, empty where it begins one."""
    if answered is not None and message.reply_to:
        parent, thread = answered
        since = takewhile(lambda m: m is not parent, reversed(thread.messages))
        open_still = all(m.author in (parent.author, message.author) for m in since)
        return thread if open_still else Thread([], parent)
    if before is not None and (message.thread or message.time - before[0].time <= gap_seconds):
        return before[1]
    return Thread([])


def turns(thread: Thread, persona: str) -> tuple[list[Turn], Left]:
    """Alternating turns that begin with somebody else and end with the persona, and the messages that this leaves out.

    Where the persona never answers, there are no turns at all.
    """
    if all(m.author != persona for m in thread.messages):
        return [], [(m, "conversation without the persona") for m in thread.messages]
    found: list[Turn] = []
    for piece in _pieces(thread, persona):
        role: Role = "assistant" if piece.message.author == persona and not piece.quoted else "user"
        if not found or found[-1].role != role:
            found.append(Turn(role))
        found[-1].pieces.append(piece)
    left: Left = []
    if found[0].role == "assistant":
        left += [(p.message, "the persona speaks first, so nothing is answered") for p in found.pop(0).pieces]
    if found and found[-1].role == "user":
        left += [
            (p.message, "not answered by the persona") for p in found.pop().pieces if p.message is not thread.context
        ]
    return found, left


def _pieces(thread: Thread, persona: str) -> Iterator[Piece]:
    context, first = thread.context, thread.messages[0]
    if context is not None and not context.author == first.author == persona:
        yield Piece(context, quoted=context.author == persona)
    yield from map(Piece, thread.messages)


def content(turn: Turn, shown: dict[str, str], labelled: bool) -> list[str]:
    """The text of each piece of the turn; joined by newlines they are the turn.

    ``labelled`` writes the name before each change of speaker, for conversations of more than two.
    """
    said: list[str] = []
    speaker = None
    for piece in turn.pieces:
        text, author = piece.message.text.strip(), piece.message.author
        if piece.quoted:
            said.append("\n".join(f"> {line}" for line in text.splitlines()))
            continue
        label = f"{shown.get(author, author)}: " if labelled and author != speaker and turn.role == "user" else ""
        said.append(label + text)
        speaker = author
    return said


def windows(found: Sequence[Turn], limit: int) -> tuple[list[list[Turn]], Left]:
    """Stretches of question and answer of at most ``limit`` characters, names before messages not counted.

    Cut before a question; of a question that is too long with its answer, the oldest messages are left out. An answer
    that alone is too long is left out with its question.
    """
    rows: list[list[Turn]] = []
    left: Left = []
    length = 0
    for asked, answer in zip(found[::2], found[1::2], strict=True):
        room = limit - _length(answer)
        while asked.pieces and _length(asked) > room:
            piece = asked.pieces.pop(0)
            left.append((piece.message, "older messages of a question over chats.max_characters"))
        if not asked.pieces:
            left += [
                (p.message, "an answer over chats.max_characters, or as long with its question") for p in answer.pieces
            ]
            continue
        size = _length(asked) + _length(answer)
        if not rows or length + size > limit:
            rows.append([])
            length = 0
        rows[-1] += [asked, answer]
        length += size
    return rows, left


def _length(turn: Turn) -> int:
    return _TEMPLATE + sum(len(piece.message.text) + 1 for piece in turn.pieces)


def sessions(messages: Iterable[ChatMessage], gap_seconds: float, limit: int) -> list[list[ChatMessage]]:
    """One person's own messages by channel and pause, cut at ``limit`` characters: running text to learn a style."""
    found: list[list[ChatMessage]] = []
    by_channel: dict[str, list[ChatMessage]] = defaultdict(list)
    for message in sorted(messages, key=lambda m: m.time):
        by_channel[message.channel].append(message)
    for listed in by_channel.values():
        length = 0
        for place, message in enumerate(listed):
            paused = place == 0 or message.time - listed[place - 1].time > gap_seconds
            if paused or length + len(message.text) > limit:
                found.append([])
                length = 0
            found[-1].append(message)
            length += len(message.text) + 1
    return sorted(found, key=lambda one: one[0].time)

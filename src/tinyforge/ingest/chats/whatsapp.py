"""WhatsApp's text export, from iOS (``[date, time] Name: text``) and from Android (``date, time - Name: text``).

The order of day and month is a matter of the phone's settings and is not written anywhere: it is inferred from all
dates of the file. A line without a date continues the message before it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import pairwise

from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import Chat, ChatMessage, why_unused
from tinyforge.ingest.chats.source import Files
from tinyforge.records import content_id

_TIME = r"(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?(?: ?([ap])\.? ?m\.?)?"
_DATE = r"(\d{1,4})([./-]) ?(\d{1,2})[./-] ?(\d{2,4})\.?"
_HEAD = re.compile(rf"(?:\[{_DATE},?(?: klo| um| à)? {_TIME}\] |{_DATE},? (?:klo |um |à )?{_TIME} - )", re.I)
_MARK = "\u200e"  # iOS writes it before every text that the program made
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SPACES = re.compile("[\u00a0\u202f]")
_EDITED = re.compile(r"\s*<This message was edited>\s*$", re.I)
_ATTACHED = re.compile(r"<attached: [^<>\n]*>|^\S[^\n]{0,80}\.\w{2,4} \(file attached\)$", re.I | re.M)
_OMITTED = re.compile(r"<[^<>\n]{3,40}>|(?:image|video|audio|sticker|gif|document|contact card) omitted", re.I)
_DELETED = re.compile(r"(?:this message was deleted|you deleted this message|null)\.?", re.I)
_NOTICE = re.compile(r'["“„]|\b(?:changed|created group|added|removed|left|joined|pinned)\b')
_SAMPLE = 200  # lines in which a chat must show itself
_SHARED = 3  # messages that two exports have in common where they are of one chat


@dataclass(frozen=True)
class _Line:
    """The head of a message: three numbers of the date in file order, seconds of the day, and what follows."""

    date: tuple[int, int, int]
    separator: str
    seconds: int
    rest: str
    number: int


def recognise(files: Files) -> list[str]:
    return [name for name in files.names if name.lower().endswith(".txt") and _is_export(files, name)]


def _is_export(files: Files, name: str) -> bool:
    try:
        lines = files.text(name).split("\n")[:_SAMPLE]
    except InputError:
        return False
    heads = [line for line in lines if begins_message(line)]
    return bool(heads) and any(": " in line for line in heads)


def begins_message(line: str) -> bool:
    """Whether a line has the date and time that a message begins with."""
    return _HEAD.match(_tidy(line)) is not None


def _tidy(line: str) -> str:
    """Without the marks before the head, and with plain spaces; marks inside the text still tell something."""
    return _SPACES.sub(" ", line.rstrip("\r").lstrip("\ufeff\u200e\u200f\u202a"))


def read(files: Files, name: str) -> Chat:
    """The chat in ``name``. Raises InputError when its dates fit neither order of day and month."""
    chat = Chat("")
    heads = _heads(files.text(name))
    order, note = _date_order(heads, f"{files.path}: {name}")
    if note:
        chat.notes.append(note)
    messages = [_message(chat, line, order) for line in heads]
    people = list(chat.people)[:2]  # a message that was sent to many begins several chats
    chat.messages += _identified(messages, content_id("WhatsApp", str(messages[0].time), heads[0].rest, *people))
    return chat


def _identified(messages: Sequence[ChatMessage], channel: str) -> Iterator[ChatMessage]:
    """With ids by content, as WhatsApp writes none: every chat has the same file name, a later export other lines."""
    count: Counter[tuple[str, str, str]] = Counter()
    for message in messages:
        said = (str(message.time), message.author, message.text)
        count[said] += 1
        yield replace(message, id=content_id(*said, str(count[said])), channel=channel)


def same_chats(messages: Iterable[ChatMessage]) -> dict[str, str]:
    """Channels of later exports that go on or begin within a chat of before, each with that chat's own channel.

    WhatsApp exports no more than the last 40,000 messages, so two exports of one chat may begin at different ones. They
    are one chat where they share three messages by two people; what one person sent to several chats shows nothing.
    """
    places: dict[str, list[str]] = defaultdict(list)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for message in messages:
        for other in places[message.id]:
            if message.author and other != message.channel:
                shared[other, message.channel].append(message.author)
        places[message.id].append(message.channel)
    first: dict[str, str] = {}
    for (earlier, later), authors in shared.items():
        if len(authors) >= _SHARED and len(set(authors)) > 1:
            root, other = first.get(earlier, earlier), first.get(later, later)
            first.update({one: root for one in [other, *first] if first.get(one, one) == other})
    return first


def _heads(text: str) -> list[_Line]:
    """The messages with their continuation lines; what stands before the first head belongs to none."""
    found: list[tuple[re.Match[str], list[str], int]] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = _tidy(raw)
        match = _HEAD.match(line)
        if match:
            found.append((match, [line[match.end() :]], number))
        elif found:
            found[-1][1].append(line)
    return [_line(match, "\n".join(rest), number) for match, rest, number in found]


def _line(match: re.Match[str], rest: str, number: int) -> _Line:
    first, separator, second, third, hour, minute, second_of, half = (
        match.groups()[:8] if match[1] is not None else match.groups()[8:]
    )
    hours = int(hour) % 12 + (12 if half.lower() == "p" else 0) if half else int(hour)
    seconds = hours * 3600 + int(minute) * 60 + int(second_of or 0)
    return _Line((int(first), int(second), int(third)), separator, seconds, rest, number)


def _date_order(lines: Sequence[_Line], place: str) -> tuple[str, str]:
    """``dmy``, ``mdy`` or ``ymd``, and a note where the dates allow both of the first two.

    Of two orders that are possible, the one in which time never runs backwards is taken; of two such, the one in which
    the whole chat is shorter.
    """
    orders = ("ymd",) if lines[0].date[0] > 31 else ("dmy", "mdy")
    possible = [order for order in orders if all(_day(line, order) is not None for line in lines)]
    if not possible:
        raise InputError(f"{place}: its dates fit neither day/month nor month/day.", "Export the chat again.")
    ranked = sorted(possible, key=lambda order: _disorder(lines, order))
    if len(possible) < 2 or _disorder(lines, "dmy") != _disorder(lines, "mdy") or lines[0].separator == ".":
        return ranked[0], ""
    return "dmy", "every date can be read as day/month and as month/day; day/month was taken"


def _day(line: _Line, order: str) -> datetime | None:
    year, month, day = (line.date[order.index(letter)] for letter in "ymd")
    try:
        return datetime(year + 2000 if year < 100 else year, month, day, tzinfo=timezone.utc)
    except ValueError:
        return None


def _disorder(lines: Sequence[_Line], order: str) -> tuple[int, float]:
    days = [day.timestamp() for line in lines if (day := _day(line, order)) is not None]
    back = sum(later < earlier for earlier, later in pairwise(days))
    return back, max(days) - min(days)


def _message(chat: Chat, line: _Line, order: str) -> ChatMessage:
    day = _day(line, order)
    if day is None:
        raise ValueError(f"line {line.number} has no date in the order {order}")
    head, colon, body = line.rest.partition(": ")
    first, _, _ = head.partition("\n")
    notice = not colon or first != head or bool(_NOTICE.search(head))
    name = _INVISIBLE.sub("", "" if notice else head).strip().removeprefix("~").strip()
    author = chat.meet(name, [name]) if name else ""
    text, unused = _said(body) if name else ("", "system message")
    return ChatMessage(
        id="",
        author=author,
        time=day.timestamp() + line.seconds,
        text=text,
        channel="",
        place=f"line {line.number}",
        unused=unused,
    )


def _said(body: str) -> tuple[str, str]:
    """What a person wrote, and why it is not used where the program wrote it or nothing is left."""
    made_by_program = body.startswith(_MARK)
    text = _EDITED.sub("", _INVISIBLE.sub("", body)).strip()
    said, attached = _ATTACHED.subn("", text)
    if _OMITTED.fullmatch(said.strip()) or (attached and not said.strip()):
        return "", "media only"
    if _DELETED.fullmatch(text):
        return "", "deleted"
    if made_by_program and not attached:
        return "", "media only" if " omitted" in text else "system message"
    return said.strip(), why_unused(said, False)

"""What every chat reader gives: messages with their authors and times, and the people who are named in the export."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message. ``author`` is a key of :attr:`Chat.people`; ``time`` is in seconds since 1970.

    ``reply_to`` is the id of the message that it answers, where the export says so. Messages of one ``thread`` belong
    together however long the pauses. ``place`` names the message in reports, by number or line. A message with a
    reason in ``unused`` ("bot", "media only") is counted and not learned from.
    """

    id: str
    author: str
    time: float
    text: str
    channel: str
    place: str
    reply_to: str = ""
    thread: str = ""
    unused: str = ""


@dataclass
class Chat:
    """An export: its messages in file order, and people by key with every name they go by, the shown one first.

    ``own_only`` is set where the export holds one person's messages without what they answer.
    """

    format: str
    messages: list[ChatMessage] = field(default_factory=list)
    people: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    own_only: bool = False

    def meet(self, key: str, names: Iterable[str | None]) -> str:
        """Note a person under ``key`` with further names; returns the key."""
        known = self.people.setdefault(key, [])
        known += [name for name in dict.fromkeys(n.strip() for n in names if n) if name and name not in known]
        return key

    def shown(self, key: str) -> str:
        """The name that a person is shown by."""
        names = self.people.get(key)
        return names[0] if names else key

    def add(self, other: Chat) -> None:
        """Take over what another file of the same export holds."""
        self.messages += other.messages
        self.notes += other.notes
        self.own_only = self.own_only or other.own_only
        for key, names in other.people.items():
            self.meet(key, names)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "messages": [astuple(message) for message in self.messages]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Chat:
        return cls(**{**data, "messages": [ChatMessage(*fields) for fields in data["messages"]]})


def why_unused(text: str, media: bool) -> str:
    """The reason to leave out a message that says nothing; empty when it says something."""
    if text.strip():
        return ""
    return "media only" if media else "no text"

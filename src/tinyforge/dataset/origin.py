"""Where a row that was made of a chat comes from: its conversation, its times, and who wrote which part of a turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

FIELD = "from_chat"


@dataclass(frozen=True)
class Origin:
    """``turns`` has one entry for each message: authors and lengths of its pieces, which newlines join.

    ``start`` and ``end`` are the times of the conversation's first and last message, in seconds since 1970.
    """

    conversation: str
    start: int
    end: int
    turns: tuple[tuple[tuple[str, int], ...], ...]

    def pieces(self, texts: Sequence[str]) -> list[list[str]]:
        """The texts of the turns cut into the pieces that their authors wrote."""
        return [_cut(text, [length for _, length in turn]) for text, turn in zip(texts, self.turns, strict=True)]

    def with_lengths(self, pieces: Sequence[Sequence[str]]) -> Origin:
        """The same for texts that changed."""
        turns = tuple(
            tuple((author, len(text)) for (author, _), text in zip(turn, texts, strict=True))
            for turn, texts in zip(self.turns, pieces, strict=True)
        )
        return replace(self, turns=turns)

    def to_json(self) -> dict[str, Any]:
        turns = [{"authors": [a for a, _ in turn], "lengths": [n for _, n in turn]} for turn in self.turns]
        return {"conversation": self.conversation, "start": self.start, "end": self.end, "turns": turns}


def _cut(text: str, lengths: Sequence[int]) -> list[str]:
    found, place = [], 0
    for length in lengths:
        found.append(text[place : place + length])
        place += length + 1
    return found


def origin_of(row: Mapping[str, Any]) -> Origin | None:
    """What the field says, or None where there is none. Raises ValueError when it is not as TinyForge writes it."""
    data = row.get(FIELD)
    if data is None:
        return None
    try:
        turns = tuple(tuple(zip(t["authors"], map(int, t["lengths"]), strict=True)) for t in data["turns"])
        return Origin(str(data["conversation"]), int(data["start"]), int(data["end"]), turns)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{FIELD} is not as TinyForge writes it ({error!r})") from error

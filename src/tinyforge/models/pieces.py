"""From tokens to text while they come: whole characters, and nothing of a text that ends the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[Sequence[int]], str]
_UNFINISHED = "\ufffd"  # what a decoder writes for a character whose bytes have not all come yet


class Pieces:
    """The text of a growing answer. ``text`` is what may be shown of it, ``stopped`` whether a stop text was met.

    Held back are characters whose bytes have not all come, and what may be the beginning of a stop text. ``tokens``
    counts those whose text begins in what may be shown.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._ids: list[int] = []
        self._first = self._read = 0  # of the ids: decoded together with the new ones, and already in the text
        self._whole = ""
        self._starts: list[int] = []
        self._shown = 0
        self.stopped = False

    @property
    def text(self) -> str:
        return self._whole[: self._shown]

    @property
    def tokens(self) -> int:
        return sum(start < self._shown for start in self._starts)

    def push(self, token: int) -> str:
        """What more may be shown now."""
        self._starts.append(len(self._whole))
        self._ids.append(token)
        self._grow(final=False)
        return self._release(final=False)

    def push_text(self, text: str, tokens: int = 1) -> str:
        """The same for whole characters that so many tokens were already made into. Not to be mixed with `push`."""
        self._starts += [len(self._whole)] * tokens
        self._whole += text
        return self._release(final=False)

    def close(self) -> str:
        """What was held back, now known to be all."""
        if self.stopped:
            return ""
        self._grow(final=True)
        return self._release(final=True)

    def _grow(self, final: bool) -> None:
        """Decode the new ids behind the last ones: what a token says can depend on what stands before it."""
        before = self._decode(self._ids[self._first : self._read])
        now = self._decode(self._ids[self._first :])
        if len(now) > len(before) and (final or not now.endswith(_UNFINISHED)):
            self._whole += now[len(before) :]
            self._first, self._read = self._read, len(self._ids)

    def _release(self, final: bool) -> str:
        waiting = self._whole[self._shown :]
        found = [place for place in (waiting.find(stop) for stop in self._stops) if place >= 0]
        if found:
            self.stopped = True
        end = min(found) if found else len(waiting) - (0 if final else self._beginning(waiting))
        self._shown += end
        return waiting[:end]

    def _beginning(self, waiting: str) -> int:
        """How many characters at the end may be the beginning of a stop text."""
        longest = 0
        for stop in self._stops:
            sizes = range(min(len(stop) - 1, len(waiting)), longest, -1)
            longest = next((size for size in sizes if waiting.endswith(stop[:size])), longest)
        return longest

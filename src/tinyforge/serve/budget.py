"""What fits into a model's context: instructions, earlier turns, passages and the question, and what had to go.

Where not all fits, the oldest turns go first, and a summary of them takes their place that is never more than an eighth
of the room; then the passages that fit least. All of it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinyforge.dataset.prompts import closed_book, passages_of, with_passages
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message
from tinyforge.retrieve.sentences import sentences

SUMMARY_PART = 100  # characters of a question or an answer that a summary keeps
SUMMARY_TURNS = 6  # earlier turns in a summary at most; of older ones it keeps only how many there were
SUMMARY_SHARE = 8  # the part of the room that a summary may take, as a divisor

Length = Callable[[Sequence[Message]], int]


@dataclass(frozen=True, slots=True)
class Budget:
    """Tokens: ``limit`` for the prompt, ``answer`` kept for what is written, ``used`` and its parts.

    ``turns`` and ``passages`` are how many are in the prompt; ``dropped_turns`` and ``left_out`` what is not: the
    number of turns, of which ``summarised`` are in a summary, and the passages' places.
    """

    limit: int
    answer: int
    used: int
    question_tokens: int
    passage_tokens: int
    turn_tokens: int
    turns: int
    passages: int
    dropped_turns: int
    summarised: int
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """One line for the person."""
        parts = [f"question {self.question_tokens}"]
        if self.passages:
            parts.append(f"{_count(self.passages, 'passage')} {self.passage_tokens}")
        if self.turn_tokens:
            parts.append(f"{_count(self.turns, 'earlier turn')} and instructions {self.turn_tokens}")
        text = f"context: {self.used:,} of {self.limit:,} tokens ({', '.join(parts)}), {self.answer} for the answer"
        if self.dropped_turns:
            kept = f", {self.summarised} of them summed up" if self.summarised else ""
            text += f"; left out, as there is no room: the {_count(self.dropped_turns, 'oldest turn')}{kept}"
        if self.left_out:
            text += f"; left out, as there is no room: {', '.join(self.left_out)}"
        return text


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Asked:
    """What goes into a prompt. ``turns`` are (question, answer), oldest first; ``hits`` best first."""

    question: str
    turns: tuple[tuple[str, str], ...] = ()
    hits: tuple[Hit, ...] = ()
    instructions: str = ""

    def messages(self, first_turn: int, hits: int, summary: str, takes_system: bool) -> list[Message]:
        """The prompt with the turns from ``first_turn`` on and so many of the hits."""
        told = "\n".join(part for part in (self.instructions, summary) if part)
        passages = passages_of(self.hits[:hits])
        last = with_passages(self.question, passages) if passages else closed_book(self.question)
        turns = [
            message
            for question, answer in self.turns[first_turn:]
            for message in (Message("user", question), Message("assistant", answer))
        ]
        messages = [*turns, *last]
        if not told:
            return messages
        if takes_system:
            return [Message("system", told), *messages]
        return [Message("user", f"{told}\n\n{messages[0].content}"), *messages[1:]]


def fit_conversation(
    asked: Asked, length: Length, limit: int, answer: int, takes_system: bool
) -> tuple[list[Message], Budget]:
    """The prompt of at most ``limit`` tokens, as ``length`` counts them.

    Raises InputError when the question with the instructions alone is longer.
    """
    first, hits, summary, listed = 0, len(asked.hits), "", 0
    while length(messages := asked.messages(first, hits, summary, takes_system)) > limit:
        if first < len(asked.turns):
            first += 1
            summary, listed = _summary(asked.turns[:first], length, limit // SUMMARY_SHARE)
        elif hits:
            hits -= 1
        else:
            raise InputError(
                f"the question has {length(messages)} tokens; this model takes {limit} and {answer} for the answer.",
                "Ask a shorter question.",
            )
    return messages, _account(asked, messages, (first, listed, hits), length, limit, answer)


def _summary(turns: Sequence[tuple[str, str]], length: Length, limit: int) -> tuple[str, int]:
    """The summary of as many of the turns, latest first, as ``limit`` tokens hold, and how many these are."""
    for listed in range(min(SUMMARY_TURNS, len(turns)), 0, -1):
        text = summarise(turns, listed)
        if length(closed_book(text)) <= limit:
            return text, listed
    return "", 0


def _account(
    asked: Asked, messages: list[Message], kept: tuple[int, int, int], length: Length, limit: int, answer: int
) -> Budget:
    """``kept`` is the first turn in the prompt, how many before it are in the summary, and the number of passages."""
    first, listed, hits = kept
    used, question = length(messages), length(closed_book(asked.question))
    with_hits = length(with_passages(asked.question, passages_of(asked.hits[:hits]))) if hits else question
    places = tuple(f"{' > '.join(hit.path)} ({hit.source})" for hit in asked.hits[hits:])
    turns = len(asked.turns) - first
    return Budget(
        limit, answer, used, question, with_hits - question, used - with_hits, turns, hits, first, listed, places
    )


def summarise(turns: Sequence[tuple[str, str]], listed: int) -> str:
    """Earlier turns in a few lines: of the last ``listed`` questions and answers the first sentence of each."""
    kept = turns[-listed:]
    older = f" ({len(turns) - len(kept)} turns before these are not listed)" if len(turns) > len(kept) else ""
    lines = [f"- asked: {_beginning(question)} answered: {_beginning(answer)}" for question, answer in kept]
    return "\n".join([f"Earlier in this conversation{older}:", *lines])


def _beginning(text: str) -> str:
    first = next((text[start:end] for start, end in sentences(text)), "")
    return first if len(first) <= SUMMARY_PART else f"{first[:SUMMARY_PART].rsplit(' ', 1)[0]} ..."

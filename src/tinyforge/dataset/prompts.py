"""How a question reaches a model: alone, or with passages. Training, evaluation and chat all use these."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinyforge.records import Hit, Message

NOT_FOUND = "The documents do not say."
"""What a model is taught to answer when its passages do not hold the answer."""


def closed_book(question: str) -> list[Message]:
    """The question alone: the model answers from its weights."""
    return [Message("user", question)]


def with_passages(question: str, passages: Sequence[tuple[str, str]]) -> list[Message]:
    """The question after its passages, each a ``(heading, text)``: the model answers out of the text."""
    blocks = [f"[{number}] {heading}\n{text}" for number, (heading, text) in enumerate(passages, 1)]
    return [Message("user", "\n\n".join([*blocks, f"Question: {question}"]))]


def few_shot(question: str, shots: Sequence[tuple[str, str]]) -> list[Message]:
    """The question after examples, each a ``(question, answer)``, as earlier turns of the conversation."""
    turns = [turn for asked, answer in shots for turn in (Message("user", asked), Message("assistant", answer))]
    return [*turns, Message("user", question)]


def fit_shots(
    question: str, shots: Sequence[tuple[str, str]], length: Callable[[list[Message]], int], limit: int
) -> tuple[list[Message], int]:
    """The few-shot prompt with as many of the shots, the first ones, as ``limit`` tokens hold, and how many they are.

    ``length`` counts the tokens of a prompt. Without shots this is the closed-book prompt.
    """
    for kept in range(len(shots), 0, -1):
        messages = few_shot(question, shots[:kept])
        if length(messages) <= limit:
            return messages, kept
    return closed_book(question), 0


def passages_of(hits: Sequence[Hit]) -> list[tuple[str, str]]:
    """Hits as ``(heading path, text)``."""
    return [(" > ".join(hit.path), hit.text) for hit in hits]


def fit(
    question: str, hits: Sequence[Hit], length: Callable[[list[Message]], int], limit: int
) -> tuple[list[Message], int]:
    """The prompt with as many of the hits, best first, as ``limit`` tokens hold, and how many had to be left out.

    ``length`` counts the tokens of a prompt. Without hits this is the closed-book prompt.
    """
    for kept in range(len(hits), 0, -1):
        messages = with_passages(question, passages_of(hits[:kept]))
        if length(messages) <= limit:
            return messages, len(hits) - kept
    return closed_book(question), len(hits)

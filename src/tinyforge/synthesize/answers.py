"""Answers written by a teacher: distillation that needs neither its tokenizer nor its weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tinyforge.records import Complete, Example, Message, content_id


def prompt_of(example: Example) -> list[Message]:
    """The conversation up to its last answer."""
    messages = list(example.messages)
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def write_answers(
    examples: Iterable[Example], complete: Complete, writer: str
) -> tuple[list[Example], dict[str, list[str]]]:
    """Each example with the answer that ``complete`` gives to its prompt (Kim & Rush 2016: sequence-level).

    The new answer takes the place of the last one, the rejected answer and the label go, and ``writer``, the name of
    who wrote it, is kept as ``metadata["answered_by"]``. ``evidence`` stays: it is where the question's answer stands.
    Also returns the ids of the examples that were left out, by reason: without a question, or answered with nothing.
    An error of ``complete`` is passed on.
    """
    written: list[Example] = []
    dropped: dict[str, list[str]] = {}
    for example in examples:
        prompt = prompt_of(example)
        answer = complete(prompt).strip() if prompt else ""
        if not answer:
            dropped.setdefault("empty answer" if prompt else "no question", []).append(example.id)
            continue
        written.append(
            replace(
                example,
                id=content_id(example.id, "answered by", writer, answer),
                messages=(*prompt, Message("assistant", answer)),
                metadata={**example.metadata, "answered_by": writer},
                rejected="",
                label="",
            )
        )
    return written, dropped

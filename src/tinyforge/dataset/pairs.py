"""An example as an input and an output: what models that do not hold a conversation are given and asked for."""

from __future__ import annotations

from collections.abc import Sequence

from tinyforge.errors import InputError
from tinyforge.records import Example


def input_text(example: Example) -> str:
    """Everything before the answer, one message per paragraph; of a labelled example all of its messages.

    Raises InputError when there is nothing.
    """
    messages = example.messages if example.label else example.messages[:-1]
    text = "\n\n".join(message.content for message in messages).strip()
    if not text:
        raise InputError(f"example {example.id}: has no input text.", "Give it an input, or take the row out.")
    return text


def output_text(example: Example) -> str:
    """The label of a labelled example, else the last answer; without white space around it."""
    return example.label.strip() or example.answer.strip()


def classes_of(examples: Sequence[Example]) -> list[str]:
    """The distinct outputs in alphabetical order. Raises InputError when there are fewer than two."""
    found = sorted({output_text(example) for example in examples})
    if len(found) < 2:
        raise InputError(
            f"the {len(examples)} training rows have only {len(found)} label(s): {', '.join(found)}.",
            "Classification needs rows of at least two labels.",
        )
    return found

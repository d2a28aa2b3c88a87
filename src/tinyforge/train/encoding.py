"""Examples into the rows of an objective, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyforge.dataset.render import RenderReport
from tinyforge.errors import InputError
from tinyforge.records import Example, Tokens
from tinyforge.train.loss import IGNORED

MOST_LEFT_OUT = 0.01


def encode_all(
    objective: Any, examples: Sequence[Example], tokenizer: Any, max_length: int, beside: int = 0
) -> tuple[list[Tokens], RenderReport]:
    """Encode every example; one that is longer than ``max_length`` tokens is left out whole, counted and named.

    Where a row is two sequences, each may be that long; an objective with ``encode_windows`` makes several rows of a
    long example instead. Raises InputError when there is nothing to learn, or more than 1% is left out of
    these and the ``beside`` rows of the set's other part.
    """
    report, rows = RenderReport(), list[Tokens]()
    for example in examples:
        made = _encode(objective, example, tokenizer, max_length)
        if any(_longest(row) > max_length for row in made):
            report.left_out[f"longer than {max_length} tokens"] += 1
            report.names.append(example.id)
            continue
        rows += made
    report.rows, report.tokens = len(rows), sum(len(row.ids) for row in rows)
    report.targets = sum(label != IGNORED for row in rows for label in row.labels)
    long, total = report.names, len(examples)
    if len(long) > MOST_LEFT_OUT * (total + (beside if rows else 0)):
        raise InputError(
            f"{len(long)} of {total} examples are longer than {max_length} tokens, first {long[0]}.",
            "Raise dataset.max_length, shorten them, or use a base that reads more.",
        )
    return rows, report


def _encode(objective: Any, example: Example, tokenizer: Any, max_length: int) -> list[Tokens]:
    if hasattr(objective, "encode_windows"):
        made: list[Tokens] = objective.encode_windows(example, tokenizer, max_length)
        return made
    return [objective.encode(example, tokenizer)]


def _longest(row: Tokens) -> int:
    return max(row.border, len(row.ids) - row.border)

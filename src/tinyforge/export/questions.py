"""What a certificate asks: the run's own held-out questions, or a few that fit any model."""

from __future__ import annotations

from tinyforge.records import Example, Message
from tinyforge.run import Run, read_jsonl

COUNT = 24
HELD_OUT = ("wordings", "documents", "test", "dev")
"""Sets that no weight was trained on, in the order in which they are preferred; dev chose the checkpoint."""

BUILT_IN = (
    "What is a library?",
    "Name three colours.",
    "How many days are there in a week, and what are they called?",
    "Write one sentence about rain.",
    "Why do people keep notes?",
    "Translate 'good morning' into French.",
    "What does 12 + 30 make?",
    "List the steps to boil an egg:\n1. Fill a pot.\n2.",
    "Who wrote 'Faust'? Answer in one word.",
    "Explain what a loan is to a child.",
    "Is the price 4.50 € or $5.25?",
    "Straße, naïve, 東京, привет — which of these are cities?",
)


def questions(run: Run | None, count: int = COUNT) -> tuple[list[Example], str]:
    """Up to ``count`` questions spread evenly over the first held-out set there is, and where they are from.

    Built-in ones have no answer, so nothing can be scored with them.
    """
    for name in HELD_OUT if run else ():
        path = run.path("dataset", f"{name}.jsonl") if run else None
        if path is None or not path.is_file():
            continue
        rows = [Example.from_json(row) for row in read_jsonl(path)]
        rows = [row for row in rows if row.kind in ("chat", "preference", "labelled")]
        if rows:
            return rows[:: max(1, len(rows) // count)][:count], f"dataset/{name}.jsonl"
    made = [
        Example(f"built-in-{i}", (Message("user", text), Message("assistant", ""))) for i, text in enumerate(BUILT_IN)
    ]
    return made, "built in"

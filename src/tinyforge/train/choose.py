"""What to learn from the rows that were given, decided by the rows and the family of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tinyforge.dataset.pairs import output_text
from tinyforge.dataset.spans import NO_ANSWER, answer_place
from tinyforge.errors import InputError
from tinyforge.records import Example

MOST_CLASSES = 20
LEAST_ROWS_PER_CLASS = 5  # on average; each class must also come twice


def choose_objective(kind: str, examples: Sequence[Example], family: str) -> tuple[str, str]:
    """The objective's name, and in one line why.

    ``kind`` is that of the rows: text, chat, preference or labelled; ``family`` is decoder, encoder-decoder or
    encoder. Raises InputError when a model of this family cannot learn from such rows.
    """
    if kind == "labelled":
        return "classify", "the rows have labels"
    if kind in ("text", "preference"):
        if family != "decoder":
            what = "plain text" if kind == "text" else "preference pairs"
            raise InputError(
                f"an {family} model cannot learn from {what}.",
                "Give it rows with an input and an output, or use a decoder such as --base tiny.",
            )
        return ("pretrain", "the rows are plain text") if kind == "text" else ("dpo", "the rows are preference pairs")
    if kind != "chat":
        raise InputError(f"unknown kind of rows {kind!r}.", "Known: text, chat, preference, labelled.")
    if family == "decoder":
        return "sft", "the rows are conversations, and the model is a decoder"
    if family == "encoder-decoder":
        return "seq2seq", "the rows have an input and an output, and the model is an encoder-decoder"
    return _for_encoder(examples)


def _for_encoder(examples: Sequence[Example]) -> tuple[str, str]:
    outputs = Counter(output_text(example) for example in examples)
    few = 2 <= len(outputs) <= min(MOST_CLASSES, len(examples) / LEAST_ROWS_PER_CLASS)
    if few and min(outputs.values()) >= 2:
        return "classify", f"an encoder, and only {len(outputs)} different outputs in {len(examples)} rows"
    some = any(output not in NO_ANSWER for output in outputs)
    if some and all(answer_place(example) is not None for example in examples):
        return "extract", "an encoder, and every output is a part of its input"
    return "respond", f"an encoder, and {len(outputs)} outputs that are not parts of their inputs: it finds the nearest"

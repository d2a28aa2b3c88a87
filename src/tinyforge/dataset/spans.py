"""Where an answer stands in the text that it is taken from, and that text cut into windows a model can read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyforge.dataset.pairs import input_text, output_text
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.errors import InputError
from tinyforge.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW, STRIDE = 384, 128  # tokens of a window, and those that neighbours share: BERT's SQuAD setting
LEAST_ROOM = 16  # tokens of context in a window, below which cutting makes no sense
NO_ANSWER = ("", NOT_FOUND)


def split_context(text: str) -> tuple[str, str]:
    """``(question, context)`` of an input.

    The question is a last paragraph that begins with "Question:", else a first paragraph that ends with a question
    mark, else such a last one (paragraphs of a text without blank lines are its lines). An input without any is all
    context. Only the input decides, so that training and answering split alike.
    """
    text = text.strip()
    for gap in (r"\n\s*\n", r"\n"):
        breaks = list(re.finditer(gap, text))
        if not breaks:
            continue
        first, rest = text[: breaks[0].start()].strip(), text[breaks[0].end() :].strip()
        before, last = text[: breaks[-1].start()].strip(), text[breaks[-1].end() :].strip()
        if last.startswith("Question:"):
            return last, before
        if first.endswith("?"):
            return first, rest
        if last.endswith("?"):
            return last, before
    return "", text


def answer_place(example: Example) -> tuple[int, int] | None:
    """Characters ``[start, end)`` of the answer in the example's context; ``(0, 0)`` when it says there is none.

    The first place is taken when the answer stands in several. None when it is not a part of the context.
    """
    answer = output_text(example)
    if answer in NO_ANSWER:
        return 0, 0
    start = split_context(input_text(example))[1].find(answer)
    return None if start < 0 else (start, start + len(answer))


@dataclass(frozen=True)
class Window:
    """Token ids of the question and a stretch of the context.

    ``border`` is where the second sequence starts (0 without a question). ``offsets`` holds, for each token of the
    context, its characters in the context, and None for every other token.
    """

    ids: list[int]
    border: int
    offsets: list[tuple[int, int] | None]

    def tokens_of(self, start: int, end: int) -> tuple[int, int] | None:
        """First and last token of characters ``[start, end)``; None when they are not all in this window."""
        inside = [(i, o) for i, o in enumerate(self.offsets) if o is not None and o[0] < end and start < o[1]]
        if not inside or inside[0][1][0] > start or inside[-1][1][1] < end:
            return None
        return inside[0][0], inside[-1][0]


def windows(question: str, context: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Window]:
    """The context in windows of at most ``max_length`` tokens, each with the whole question; nothing is left out.

    Raises InputError when the question leaves no room for context.
    """
    asked = len(tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"]) if question else 0
    room = max_length - asked - tokenizer.num_special_tokens_to_add(pair=bool(question))
    if room < LEAST_ROOM:
        raise InputError(
            f"the question has {asked} tokens, which leaves {max(0, room)} of {max_length} for the text it is about.",
            "Ask a shorter question.",
        )
    texts = ([question], [context]) if question else ([context],)
    encoded = tokenizer(
        *texts,
        truncation="only_second" if question else "only_first",
        max_length=max_length,
        stride=min(STRIDE, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    side = 1 if question else 0
    found = []
    for number, ids in enumerate(encoded["input_ids"]):
        sides = encoded.sequence_ids(number)
        offsets = [o if s == side else None for s, o in zip(sides, encoded["offset_mapping"][number], strict=True)]
        found.append(Window(list(ids), sides.index(1) if 1 in sides else 0, offsets))
    return found

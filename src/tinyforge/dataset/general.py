"""General running text: what a fine-tuning is not about, and what the model may forget over it.

The measured text is TinyForge's own writing, in ``general.md`` beside this module, made for this and given to no
training: stories, instructions, dialogue, minutes, letters, explanations, a little code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.dataset.render import render_all
from tinyforge.records import Example, Tokens, content_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GENERAL = Path(__file__).with_name("general.md")
PIECE_CHARACTERS = 1200


def general_texts() -> list[str]:
    """The texts that forgetting is measured on; kinds alternate, so that the first few are a fair sample."""
    return [text.strip() for text in GENERAL.read_text(encoding="utf-8").split("\n---\n")]


def retention_examples() -> list[Example]:
    """The same as rows of the split ``retention``: what a tuned model should still be able to predict."""
    return [Example(content_id(text), (), text=text, split="retention") for text in general_texts()]


def text_rows(text: str, tokenizer: PreTrainedTokenizerBase, longest: int) -> list[Tokens]:
    """Running text as rows of at most ``longest`` tokens, every one learned. InputError without an end token."""
    stops = {tokenizer.eos_token_id} - {None}
    return render_all([Example(content_id(text), (), text=text)], tokenizer, longest, stops)[0]


def general_rows(
    tokenizer: PreTrainedTokenizerBase, longest: int, most_tokens: int
) -> tuple[list[Tokens], dict[str, int]]:
    """Rows of whole general texts until ``most_tokens`` are reached, and how many texts, bytes and tokens they are."""
    rows: list[Tokens] = []
    size = {"texts": 0, "bytes": 0, "tokens": 0}
    for text in general_texts():
        if size["tokens"] >= most_tokens:
            break
        made = text_rows(text, tokenizer, longest)
        rows += made
        size["texts"] += 1
        size["bytes"] += len(text.encode())
        size["tokens"] += sum(len(row.ids) for row in made)
    return rows, size


def pieces(texts: Iterable[str]) -> Iterator[str]:
    """Runs of whole paragraphs of about PIECE_CHARACTERS; a longer paragraph stays whole."""
    for text in texts:
        held = ""
        for paragraph in text.split("\n\n"):
            if held and len(held) + len(paragraph) > PIECE_CHARACTERS:
                yield held
                held = ""
            held = f"{held}\n\n{paragraph}" if held else paragraph
        if held.strip():
            yield held

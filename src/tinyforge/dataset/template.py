"""A conversation as the model's chat template writes it, where its answers stand in that, and its ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tinyforge.errors import InputError
from tinyforge.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def conversation_text(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, prompt: bool) -> str:
    """What the template writes, with the opening of an answer where ``prompt``.

    Raises InputError when the template refuses the conversation (a system message that it does not know, say).
    """
    from jinja2.exceptions import TemplateError

    if tokenizer.chat_template is None:
        raise InputError("the tokenizer has no chat template.", "Load it with models.resolve.load_tokenizer.")
    rows = [{"role": m.role, "content": m.content} for m in messages]
    try:
        text: str = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt)
    except TemplateError as error:
        system = any(m.role == "system" for m in messages)
        raise InputError(
            f"the model's chat template refuses this conversation: {str(error).rstrip('.')}.",
            "Move the system message's text into the first question, or use a base that takes system messages."
            if system
            else "Use a base with another template.",
        ) from error
    return text


def answer_place(
    messages: Sequence[Message], index: int, tokenizer: PreTrainedTokenizerBase, text: str
) -> tuple[int, int]:
    """Characters ``[start, end)`` of the conversation's ``text`` where ``messages[index]`` stands, stop token included.

    Raises InputError when the template writes that turn otherwise once others follow, so that its place is not certain.
    """
    if index == 0:
        raise InputError("the conversation starts with an answer.", "Begin it with a question.")
    before = conversation_text(messages[:index], tokenizer, True)
    after = conversation_text(messages[: index + 1], tokenizer, False)
    if after.startswith(before):
        for turn in _forms(after[len(before) :], messages[index].content.strip()):
            if text.startswith(before + turn):
                return len(before), len(before) + len(turn.rstrip("\n"))
    raise InputError(
        "The model's chat template rewrites earlier turns, so the answer's place in it is not certain.",
        "Use a base with another template.",
    )


def _forms(turn: str, content: str) -> Iterator[str]:
    """The turn as the template ends a conversation with it, then without what it may put before the answer there.

    Qwen3's puts an empty thinking block before the last answer and none before earlier ones.
    """
    yield turn
    place = turn.find(content)
    while place > 0:
        yield turn[place:]
        place = turn.find(content, place + 1)


def encode_text(
    text: str, tokenizer: PreTrainedTokenizerBase, borders: Sequence[int]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and their characters ``[start, end)``, such that up to each border they are what the prompt alone gives.

    A tokenizer may join characters across a border (a space at the end of a prompt with the word after it). The model
    will never meet such a token when it answers, so there the text is encoded in two pieces.
    """
    ids: list[int] = []
    offsets: list[tuple[int, int]] = []
    start = 0
    rest = _pieces(text, tokenizer)
    for border in borders:
        head = _pieces(text[start:border], tokenizer)
        if rest[0][: len(head[0])] != head[0]:
            ids += head[0]
            offsets += [(a + start, b + start) for a, b in head[1]]
            start, rest = border, _pieces(text[border:], tokenizer)
    return ids + rest[0], offsets + [(a + start, b + start) for a, b in rest[1]]


def _pieces(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[tuple[int, int]]]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return encoded["input_ids"], encoded["offset_mapping"]

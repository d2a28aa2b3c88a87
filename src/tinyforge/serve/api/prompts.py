"""From a request's messages to prompt ids within the model's context, or a refusal that gives both counts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tinyforge.errors import InputError
from tinyforge.records import Message
from tinyforge.serve.api.errors import ApiError, translated
from tinyforge.serve.served import Base


@dataclass(frozen=True)
class Prompt:
    """``dropped`` is what truncation left out; empty when nothing was."""

    ids: list[int]
    dropped: dict[str, int]


def chat_prompt(base: Base, messages: Sequence[Message], room: int | None, truncate: bool) -> Prompt:
    """The ids of a conversation; ``room`` tokens are kept free for the answer (None: at least one).

    Raises ApiError 400 when it does not fit and ``truncate`` is off. With it the oldest messages go first, up to the
    next of the user's (templates whose roles alternate want to begin there), system messages and the last one never;
    then the beginning of the last one.
    """
    limit, kept = _limit(base, room), list(messages)
    ids = _encode(base, kept)
    dropped: dict[str, int] = {}
    while len(ids) > limit and truncate and (oldest := _oldest(kept)) is not None:
        del kept[oldest]
        while (oldest := _oldest(kept)) is not None and kept[oldest].role != "user":
            del kept[oldest]
        dropped["dropped_messages"] = len(messages) - len(kept)
        ids = _encode(base, kept)
    if len(ids) > limit and truncate:
        ids, cut = _shortened(base, kept, len(ids) - limit, limit)
        dropped["dropped_tokens"] = cut
    if len(ids) > limit:
        raise too_long(base, len(ids), room)
    return Prompt(ids, dropped)


def text_prompt(base: Base, text: str, room: int | None, truncate: bool) -> Prompt:
    """The ids of running text; truncation takes its beginning."""
    with base.lock:
        ids: list[int] = base.engine.tokenizer(text, verbose=False)["input_ids"]
    if not ids:
        raise ApiError(400, "the prompt has no token.", "prompt")
    limit = _limit(base, room)
    if len(ids) <= limit:
        return Prompt(ids, {})
    if not truncate or limit < 1:
        raise too_long(base, len(ids), room)
    return Prompt(ids[-limit:], {"dropped_tokens": len(ids) - limit})


def with_tools(messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None) -> list[Message]:
    """The tools as text in front of the conversation: the model may answer with a call, which comes back as text."""
    if not tools:
        return list(messages)
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = f"You can call these tools by answering with JSON that has name and arguments:\n{listed}"
    first, *rest = messages
    if first.role == "system":
        return [Message("system", f"{first.content}\n\n{text}"), *rest]
    return [Message("system", text), *messages]


def too_long(base: Base, tokens: int, room: int | None) -> ApiError:
    answer = f" and {room} for the answer" if room else ""
    return ApiError(
        400,
        f"the prompt has {tokens} tokens{answer}; this model's context is {base.engine.context} tokens. "
        "Send less, or `truncate: true`.",
        "messages",
        "context_length_exceeded",
    )


def _limit(base: Base, room: int | None) -> int:
    return base.engine.context - max(1, room or 1)


def _encode(base: Base, messages: Sequence[Message]) -> list[int]:
    try:
        return base.encode(messages)
    except InputError as error:
        raise translated(error, "messages") from error


def _oldest(messages: Sequence[Message]) -> int | None:
    """The first message that may go."""
    return next((i for i, message in enumerate(messages[:-1]) if message.role != "system"), None)


def _shortened(base: Base, messages: Sequence[Message], excess: int, limit: int) -> tuple[list[int], int]:
    """The ids with the beginning of the last message cut off, and how many of its tokens that took."""
    *before, last = messages
    tokenizer = base.engine.tokenizer
    words: list[int] = tokenizer(last.content, add_special_tokens=False, verbose=False)["input_ids"]
    cut = excess
    while cut < len(words):
        ids = _encode(base, [*before, Message(last.role, tokenizer.decode(words[cut:]))])
        if len(ids) <= limit:
            return ids, cut
        cut += max(1, len(ids) - limit)  # text that is cut may become other tokens
    return _encode(base, messages), 0

"""Log probabilities as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyforge.models.sample import Choice
from tinyforge.serve.served import Base


def chat_logprobs(base: Base, choices: Sequence[Choice]) -> dict[str, Any]:
    """``logprobs`` of a chat choice."""
    return {"content": [_entry(base, choice) for choice in choices], "refusal": None}


def _entry(base: Base, choice: Choice) -> dict[str, Any]:
    top = [_token(base, token, logprob) for token, logprob in choice.top]
    return {**_token(base, choice.token, choice.logprob or 0.0), "top_logprobs": top}


def _token(base: Base, token: int, logprob: float) -> dict[str, Any]:
    text = base.engine.tokenizer.decode([token])
    pieces = base.vocabulary.pieces if base.vocabulary else {}
    return {"token": text, "logprob": _finite(logprob), "bytes": list(pieces.get(token, text.encode()))}


def text_logprobs(base: Base, choices: Sequence[Choice], start: int) -> dict[str, Any]:
    """``logprobs`` of a text completion; ``start`` is where the first token's text begins."""
    tokens = [base.engine.tokenizer.decode([choice.token]) for choice in choices]
    offsets = [start + sum(map(len, tokens[:i])) for i in range(len(tokens))]
    tops = [{base.engine.tokenizer.decode([t]): _finite(value) for t, value in choice.top} for choice in choices]
    values = [_finite(choice.logprob or 0.0) for choice in choices]
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI's own stand-in for it."""
    return max(logprob, -9999.0)

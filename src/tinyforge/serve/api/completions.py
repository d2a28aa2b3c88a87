"""``POST /v1/completions``: running text goes on."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tinyforge.serve.api.context import context_of, note, note_text
from tinyforge.serve.api.errors import ApiError
from tinyforge.serve.api.generation import (
    DONE,
    Answering,
    Whole,
    begin,
    checked,
    collect,
    counted,
    data,
    now,
    streamed,
    unless_gone,
)
from tinyforge.serve.api.logprobs import text_logprobs
from tinyforge.serve.api.prompts import text_prompt
from tinyforge.serve.api.wire import CompletionRequest
from tinyforge.serve.served import Base

router = APIRouter()
DEFAULT_TOKENS = 16  # OpenAI's


@router.post("/v1/completions", summary="What comes after a text, whole or as a stream")
async def complete(request: HttpRequest, body: CompletionRequest) -> Response:
    served = context_of(request).writing_model(body.model)
    note(request, model=body.model, stream=body.stream)
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options is given without `stream: true`.", "stream_options")
    assert served.base is not None
    if body.max_tokens is None:
        body = body.model_copy(update={"max_tokens": DEFAULT_TOKENS})
    texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    prompts = [await run_in_threadpool(text_prompt, served.base, t, body.max_tokens, body.truncate) for t in texts]
    answering = begin(served, [prompt.ids for prompt in prompts], checked(body.wanted), body.n)
    head = {"id": f"cmpl-{uuid.uuid4().hex}", "object": "text_completion", "created": now(), "model": body.model}
    dropped = [prompt.dropped for prompt in prompts]
    extra = {"tinyforge": {"truncated": dropped}} if any(dropped) else {}
    if body.stream:
        return streamed(_stream(request, body, served.base, answering, {**head, **extra}))  # type: ignore[no-any-return]
    answers = await unless_gone(request, collect(answering))
    counts = counted(answers, body.n)
    note(request, **counts)
    note_text(request, texts, [answer.text for answer in answers])
    choices = [_choice(body, served.base, i, answer, 0) for i, answer in enumerate(answers)]
    return JSONResponse({**head, "choices": choices, "usage": counts, **extra})


def _choice(body: CompletionRequest, base: Base, index: int, piece: Whole, start: int) -> dict[str, Any]:
    told = text_logprobs(base, piece.choices, start) if body.logprobs is not None else None
    return {"index": index, "text": piece.text, "logprobs": told, "finish_reason": piece.finish or None}


async def _stream(
    request: HttpRequest, body: CompletionRequest, base: Base, answering: Answering, head: dict[str, Any]
) -> AsyncIterator[str]:
    answers = [Whole() for _ in answering.tickets]
    try:
        async for number, event in answering.each():
            start = len(answers[number].text)
            answers[number].add(event)
            piece = Whole(event.text, list(event.choices), event.finish)
            if event.text or event.choices or event.finish:
                yield data({**head, "choices": [_choice(body, base, number, piece, start)]})
        if body.stream_options is not None and body.stream_options.include_usage:
            yield data({**head, "choices": [], "usage": counted(answers, body.n)})
        yield DONE
    finally:
        answering.cancel()
        note(request, **counted(answers, body.n))
        note_text(request, body.prompt, [answer.text for answer in answers])

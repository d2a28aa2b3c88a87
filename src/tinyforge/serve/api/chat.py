"""``POST /v1/chat/completions``."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tinyforge.models.sample import Constraint
from tinyforge.serve.api.context import Context, context_of, note, note_text
from tinyforge.serve.api.documents import Found
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
    usage,
)
from tinyforge.serve.api.logprobs import chat_logprobs
from tinyforge.serve.api.prompts import chat_prompt, with_tools
from tinyforge.serve.api.wire import ChatRequest, ResponseFormat
from tinyforge.serve.served import ALONE, Base, Served

router = APIRouter()


@router.post("/v1/chat/completions", summary="An answer to a conversation, whole or as a stream")
async def chat(request: HttpRequest, body: ChatRequest) -> Response:
    context = context_of(request)
    served = context.chat_model(body.model)
    note(request, model=body.model, stream=body.stream)
    _check(body)
    if served.answerer is not None:
        return await _from_documents(request, context, served, body)
    assert served.base is not None
    messages = with_tools(
        [message.plain() for message in body.messages], None if body.tool_choice == "none" else body.tools
    )
    room = body.max_completion_tokens or body.max_tokens
    prompt = await run_in_threadpool(chat_prompt, served.base, messages, room, body.truncate)
    constrain = constraint_of(served.base, body.response_format)
    answering = begin(served, [prompt.ids], checked(body.wanted), body.n, constrain)
    head = _head(body.model, "chat.completion.chunk" if body.stream else "chat.completion")
    extra = {"tinyforge": {"truncated": prompt.dropped}} if prompt.dropped else {}
    if body.stream:
        return streamed(_stream(request, body, served.base, answering, {**head, **extra}))  # type: ignore[no-any-return]
    answers = await unless_gone(request, collect(answering))
    counts = counted(answers, body.n)
    note(request, **counts)
    note_text(request, [m.content for m in messages], [answer.text for answer in answers])
    choices = [_choice(served.base, i, answer, bool(body.logprobs)) for i, answer in enumerate(answers)]
    return JSONResponse({**head, "choices": choices, "usage": counts, **extra})


def _check(body: ChatRequest) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs is given without `logprobs: true`.", "top_logprobs")
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options is given without `stream: true`.", "stream_options")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        raise ApiError(400, "max_tokens and max_completion_tokens say the same; give one.", "max_tokens")


def constraint_of(base: Base, wanted: ResponseFormat | None) -> Callable[[], Constraint] | None:
    """What makes the constraint of each answer; None for free text. Raises ApiError for a schema beyond us."""
    if wanted is None or wanted.type == "text":
        return None
    schema = wanted.json_schema.schema_ if wanted.json_schema is not None else None
    if wanted.json_schema is not None and schema is None:
        raise ApiError(400, "response_format.json_schema has no schema.", "response_format")
    checked(lambda: base.follow(schema), "response_format")
    return lambda: base.follow(schema)


def _head(model: str, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": now(),
        "model": model,
        "system_fingerprint": None,
    }


def _choice(base: Base, index: int, answer: Whole, told: bool) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "logprobs": chat_logprobs(base, answer.choices) if told else None,
        "finish_reason": answer.finish,
    }


async def _stream(
    request: HttpRequest, body: ChatRequest, base: Base, answering: Answering, head: dict[str, Any]
) -> AsyncIterator[str]:
    began, answers = time.monotonic(), [Whole() for _ in answering.tickets]
    usage_at_end = body.stream_options is not None and body.stream_options.include_usage
    head = {**head, "usage": None} if usage_at_end else head
    try:
        for index in range(body.n):
            yield data({**head, "choices": [_delta(index, {"role": "assistant", "content": ""})]})
        async for number, event in answering.each():
            if began and event.text:
                context_of(request).metrics.first_text(time.monotonic() - began)
                began = 0.0
            answers[number].add(event)
            told = chat_logprobs(base, event.choices) if body.logprobs and event.choices else None
            if event.text or told:
                yield data({**head, "choices": [_delta(number, {"content": event.text}, told)]})
            if event.finish:
                yield data({**head, "choices": [_delta(number, {}, None, event.finish)]})
        if usage_at_end:
            yield data({**head, "choices": [], "usage": counted(answers, body.n)})
        yield DONE
    finally:
        answering.cancel()
        note(request, **counted(answers, body.n))
        note_text(request, [m.plain().content for m in body.messages], [answer.text for answer in answers])


def _delta(index: int, delta: dict[str, Any], told: Any = None, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": told, "finish_reason": finish}


# --- out of documents ------------------------------------------------------------------------------------------------

_FREE_ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (None, False),
    "stop": (None, []),
    "response_format": (None, ResponseFormat(type="text")),
    "tools": (None, []),
    "truncate": (False,),
}
"""What only a model without documents can do, and the values that ask for nothing of it."""


async def _from_documents(request: HttpRequest, context: Context, served: Served, body: ChatRequest) -> Response:
    for name, nothing in _FREE_ONLY.items():
        if getattr(body, name) not in nothing:
            raise ApiError(
                400,
                f"{name} is not supported by {body.model!r}, whose answers are checked against its documents. "
                f"Use the model {body.model + ALONE!r}.",
                name,
            )
    messages = [message.plain() for message in body.messages]
    pieces = context.asking.ask(served, messages, checked(body.wanted))
    head = _head(body.model, "chat.completion.chunk" if body.stream else "chat.completion")
    if body.stream:
        first = await unless_gone(request, anext(pieces))  # what is refused at once is refused with its status
        return streamed(_documents_stream(request, body, first, pieces, head))  # type: ignore[no-any-return]
    found = await unless_gone(request, _last(pieces))
    counts = usage(found.prompt_tokens, found.tokens)
    note(request, **counts)
    note_text(request, messages[-1].content, found.reply.answer)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": found.reply.answer, "refusal": None},
        "logprobs": None,
        "finish_reason": found.finish,
    }
    return JSONResponse({**head, "choices": [choice], "usage": counts, "tinyforge": found.extra()})


async def _last(pieces: AsyncIterator[str | Found]) -> Found:
    try:
        async for piece in pieces:
            if isinstance(piece, Found):
                return piece
        raise ApiError(500, "the answer did not come to an end.")
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]


async def _documents_stream(
    request: HttpRequest,
    body: ChatRequest,
    first: str | Found,
    pieces: AsyncIterator[str | Found],
    head: dict[str, Any],
) -> AsyncIterator[str]:
    """The draft rides in the extra field as it is written; the content comes when it has been checked."""
    usage_at_end = body.stream_options is not None and body.stream_options.include_usage
    head = {**head, "usage": None} if usage_at_end else head
    try:
        yield data({**head, "choices": [_delta(0, {"role": "assistant", "content": ""})]})
        piece = first
        while not isinstance(piece, Found):
            yield data({**head, "choices": [_delta(0, {})], "tinyforge": {"draft": piece}})
            piece = await anext(pieces)
        counts = usage(piece.prompt_tokens, piece.tokens)
        note(request, **counts)
        note_text(request, body.messages[-1].plain().content, piece.reply.answer)
        yield data({**head, "choices": [_delta(0, {"content": piece.reply.answer})], "tinyforge": piece.extra()})
        yield data({**head, "choices": [_delta(0, {}, None, piece.finish)]})
        if usage_at_end:
            yield data({**head, "choices": [], "usage": counts})
        yield DONE
    finally:
        await pieces.aclose()  # type: ignore[attr-defined]

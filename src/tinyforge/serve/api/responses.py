"""``POST /v1/responses``, without state: nothing is kept, so a conversation is sent whole each time."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tinyforge.serve.api.chat import constraint_of
from tinyforge.serve.api.context import context_of, note, note_text
from tinyforge.serve.api.errors import ApiError
from tinyforge.serve.api.generation import Answering, Whole, begin, checked, collect, data, now, streamed, unless_gone
from tinyforge.serve.api.prompts import chat_prompt
from tinyforge.serve.api.wire import JsonSchema, ResponseFormat, ResponsesRequest

router = APIRouter()


@router.post("/v1/responses", summary="An answer in the shape of OpenAI's Responses, stateless")
async def respond(request: HttpRequest, body: ResponsesRequest) -> Response:
    served = context_of(request).writing_model(body.model)
    note(request, model=body.model, stream=body.stream)
    assert served.base is not None
    prompt = await run_in_threadpool(chat_prompt, served.base, body.messages(), body.max_output_tokens, body.truncate)
    sampling = checked(lambda: body.sampling(max_new_tokens=body.max_output_tokens))
    constrain = constraint_of(served.base, _format(body))
    answering = begin(served, [prompt.ids], sampling, 1, constrain)
    shell = _shell(body, prompt.dropped)
    if body.stream:
        numbers = itertools.count()
        pieces = _stream(request, body, answering, shell, numbers)
        return streamed(pieces, lambda error: _failed(error, next(numbers)))  # type: ignore[no-any-return]
    (answer,) = await unless_gone(request, collect(answering))
    note(request, prompt_tokens=answer.prompt_tokens, completion_tokens=answer.tokens)
    note_text(request, [m.content for m in body.messages()], answer.text)
    return JSONResponse(_finished(shell, answer))


def _format(body: ResponsesRequest) -> ResponseFormat | None:
    wanted = body.text.format if body.text else None
    if wanted is None or wanted.type != "json_schema":
        return None if wanted is None else ResponseFormat(type=wanted.type)
    return ResponseFormat(type="json_schema", json_schema=JsonSchema(schema=wanted.schema_))


def _shell(body: ResponsesRequest, dropped: dict[str, int]) -> dict[str, Any]:
    """The response before anything was written."""
    wanted = body.text.format.model_dump(by_alias=True, exclude_none=True) if body.text and body.text.format else None
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": now(),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": False,
        "previous_response_id": None,
        "store": False,
        "temperature": body.temperature,
        "text": {"format": wanted or {"type": "text"}},
        "tool_choice": "none",
        "tools": [],
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        **({"tinyforge": {"truncated": dropped}} if dropped else {}),
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _item(shell: dict[str, Any], status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    name = shell["id"].replace("resp_", "msg_")
    return {"id": name, "type": "message", "role": "assistant", "status": status, "content": content}


def _finished(shell: dict[str, Any], answer: Whole) -> dict[str, Any]:
    whole = answer.finish == "stop"
    status = "completed" if whole else "incomplete"
    return {
        **shell,
        "status": status,
        "incomplete_details": None if whole else {"reason": "max_output_tokens"},
        "output": [_item(shell, status, [_part(answer.text)])],
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answer.tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.tokens,
        },
    }


async def _stream(
    request: HttpRequest, body: ResponsesRequest, answering: Answering, shell: dict[str, Any], numbers: Iterator[int]
) -> AsyncIterator[str]:
    answer = Whole()
    place = {"item_id": _item(shell, "", [])["id"], "output_index": 0, "content_index": 0}

    def event(kind: str, **content: Any) -> str:
        return data({"type": kind, "sequence_number": next(numbers), **content}, kind)

    try:
        yield event("response.created", response=shell)
        yield event("response.in_progress", response=shell)
        yield event("response.output_item.added", output_index=0, item=_item(shell, "in_progress", []))
        yield event("response.content_part.added", **place, part=_part(""))
        async for _, piece in answering.each():
            answer.add(piece)
            if piece.text:
                yield event("response.output_text.delta", **place, delta=piece.text, logprobs=[])
        finished = _finished(shell, answer)
        yield event("response.output_text.done", **place, text=answer.text, logprobs=[])
        yield event("response.content_part.done", **place, part=_part(answer.text))
        yield event("response.output_item.done", output_index=0, item=finished["output"][0])
        yield event(f"response.{finished['status']}", response=finished)
    finally:
        answering.cancel()
        note(request, prompt_tokens=answer.prompt_tokens, completion_tokens=answer.tokens)
        note_text(request, [m.content for m in body.messages()], answer.text)


def _failed(error: ApiError, number: int) -> str:
    return data({**error.body()["error"], "type": "error", "sequence_number": number}, "error")

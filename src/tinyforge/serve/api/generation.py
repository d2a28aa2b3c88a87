"""Between the web and the engine: submit, hear of what is written, and cancel when nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import Request as HttpRequest
from starlette.responses import StreamingResponse

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.sample import Choice, Constraint
from tinyforge.models.sampling import Sampling
from tinyforge.serve.api.errors import ApiError, translated
from tinyforge.serve.engines import Event, Request, StoppingError, Ticket
from tinyforge.serve.served import Base, Served

T = TypeVar("T")
DONE = "data: [DONE]\n\n"


@dataclass
class Answering:
    """Answers under way to one request of the API."""

    base: Base
    tickets: list[Ticket]
    events: asyncio.Queue[tuple[int, Event]]

    async def each(self) -> AsyncIterator[tuple[int, Event]]:
        """Every event with the number of its answer, until all have ended. Raises ApiError where one failed."""
        open_ = len(self.tickets)
        try:
            while open_:
                number, event = await self.events.get()
                if event.finish == "error":
                    stopping = StoppingError()
                    raise translated(stopping) if event.reason == stopping.message else ApiError(500, event.reason)
                open_ -= bool(event.finish)
                yield number, event
        finally:
            self.cancel()

    def cancel(self) -> None:
        for ticket in self.tickets:
            ticket.cancel()


def begin(
    served: Served,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    n: int = 1,
    constrain: Callable[[], Constraint] | None = None,
) -> Answering:
    """Submit every prompt ``n`` times; with a seed, the nth answer has the nth seed from it on."""
    assert served.base is not None
    loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event]]()

    def hear(number: int) -> Callable[[Event], None]:
        def on_event(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, (number, event))

        return on_event

    requests = [
        Request(ids, hear(p * n + k), _nth(sampling, k), served.adapter, constrain() if constrain else None)
        for p, ids in enumerate(prompts)
        for k in range(n)
    ]
    try:
        return Answering(served.base, served.base.engine.submit(requests), events)
    except TinyForgeError as error:
        raise translated(error) from error


def _nth(sampling: Sampling, number: int) -> Sampling:
    return sampling if sampling.seed is None else replace(sampling, seed=(sampling.seed + number) % 2**63)


@dataclass
class Whole:
    """One answer, collected."""

    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    finish: str = ""
    tokens: int = 0
    prompt_tokens: int = 0

    def add(self, event: Event) -> None:
        self.text += event.text
        self.choices += event.choices
        if event.finish:
            self.finish, self.tokens, self.prompt_tokens = event.finish, event.tokens, event.prompt_tokens


async def collect(answering: Answering) -> list[Whole]:
    answers = [Whole() for _ in answering.tickets]
    async for number, event in answering.each():
        answers[number].add(event)
    return answers


def usage(prompt: int, written: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def counted(answers: Sequence[Whole], n: int) -> dict[str, int]:
    """The usage of ``n`` answers to each prompt: a prompt counts once."""
    return usage(sum(a.prompt_tokens for a in answers[::n]), sum(a.tokens for a in answers))


async def unless_gone(request: HttpRequest, work: Awaitable[T]) -> T:
    """The result, or the work's cancellation when the client leaves first."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client left.")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _left(request: HttpRequest) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def data(content: Any, event: str = "") -> str:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


def streamed(pieces: AsyncIterator[str], failed: Callable[[ApiError], str] = lambda error: data(error.body())) -> Any:
    """A response of server-sent events; what fails once it has begun is its last event."""

    async def safe() -> AsyncIterator[str]:
        try:
            async for piece in pieces:
                yield piece
        except ApiError as error:
            yield failed(error)
        except TinyForgeError as error:
            yield failed(translated(error))
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]

    return StreamingResponse(safe(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def now() -> int:
    return int(time.time())


def checked(make: Callable[[], T], param: str | None = None) -> T:
    """What ``make`` gives; where it refuses, a 400 that names the field."""
    try:
        return make()
    except InputError as error:
        raise translated(error, param) from error

"""Answers out of documents: what the model writes is checked before it is given, and comes with citations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from tinyforge.errors import TinyForgeError
from tinyforge.models.sampling import Sampling
from tinyforge.records import Message
from tinyforge.serve.answer import Reply
from tinyforge.serve.api.errors import ApiError, translated
from tinyforge.serve.engines import BusyError
from tinyforge.serve.followup import FollowUp, of_messages
from tinyforge.serve.served import EngineWriter, Served


@dataclass(frozen=True)
class Found:
    """A reply with what it took, and why it ended where it does."""

    reply: Reply
    prompt_tokens: int
    tokens: int
    finish: str

    def extra(self) -> dict[str, Any]:
        """What rides along in the field that other clients ignore."""
        reply = self.reply
        return {
            "citations": [asdict(citation) for citation in reply.citations],
            "sentences": [asdict(sentence) for sentence in reply.sentences],
            "declined": reply.declined,
            "quoted": reply.quoted,
            "variant": reply.variant,
        }


class Asking:
    """The threads in which documents are searched and answers checked; ``most`` questions at a time, then BusyError."""

    def __init__(self, threads: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tinyforge-ask")
        self._room, self._most = threading.Semaphore(most), most

    async def ask(self, served: Served, messages: list[Message], sampling: Sampling) -> AsyncIterator[str | Found]:
        """Pieces of the draft as they are written, then the reply. Closing it ends the work."""
        if not self._room.acquire(blocking=False):
            raise translated(BusyError(self._most, 1))
        loop, heard = asyncio.get_running_loop(), asyncio.Queue[str | Found | Exception]()

        def tell(piece: str | Found | Exception) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, piece)

        writer = _writer_for(served, sampling)
        work = self._pool.submit(_work, served, writer, messages, tell)
        work.add_done_callback(lambda _: self._room.release())
        try:
            while True:
                piece = await heard.get()
                if isinstance(piece, Exception):
                    raise piece if isinstance(piece, ApiError) else ApiError(500, f"{type(piece).__name__}: {piece}")
                yield piece
                if isinstance(piece, Found):
                    return
        finally:
            work.cancel()
            if writer is not None:
                writer.cancel()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _work(
    served: Served,
    writer: EngineWriter | None,
    messages: list[Message],
    tell: Callable[[str | Found | Exception], None],
) -> None:
    try:
        assert served.answerer is not None
        follow = asked(messages)
        reply = replace(served.answerer, writer=writer).ask(follow.question, follow.context, tell)
        tell(_found(reply, writer))
    except TinyForgeError as error:
        tell(translated(error, "messages"))
    except Exception as error:  # nobody else would hear of it, and the client would wait for ever
        tell(error)


def _found(reply: Reply, writer: EngineWriter | None) -> Found:
    if writer is None:
        return Found(reply, 0, 0, "stop")
    cut = writer.finish == "length" and not reply.quoted
    return Found(reply, writer.prompt_tokens, writer.tokens, "length" if cut else "stop")


def _writer_for(served: Served, sampling: Sampling) -> EngineWriter | None:
    """One for this request, with the run's own answer length where the request gives none."""
    if served.answerer is None or served.answerer.writer is None or served.base is None:
        return None
    limit = sampling.max_new_tokens or served.answerer.writer.max_new_tokens
    return EngineWriter(served.base.engine, served.adapter, replace(sampling, max_new_tokens=limit))


def asked(messages: list[Message]) -> FollowUp:
    """The question, and an earlier one where it leans on that."""
    if messages[-1].role != "user":
        raise ApiError(400, "the last message must be the user's: it is the question.", "messages")
    return of_messages(messages)

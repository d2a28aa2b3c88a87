"""What tests of conversations share: a model that says what it is told to, and a session around it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.records import Message
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.knowledge import Knowledge
from tinyforge.serve.chat import chat_loop
from tinyforge.serve.history import History
from tinyforge.serve.session import Session
from tinyforge.serve.talk import Talker


class Scripted:
    """In the place of a Writer: ``says`` gives the answer to a prompt; a token is a word."""

    def __init__(self, says: Callable[[list[Message]], str], context: int = 400, refuses_system: bool = False) -> None:
        self.says, self.context, self.max_new_tokens = says, context, 40
        self.refuses_system = refuses_system
        self.seen: list[tuple[list[Message], Sampling]] = []

    def prompt_length(self, messages: Sequence[Message]) -> int:
        from tinyforge.errors import InputError

        if self.refuses_system and any(message.role == "system" for message in messages):
            raise InputError("the template knows no system message.")
        return sum(len(message.content.split()) + 2 for message in messages)

    def stream(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Iterator[str]:
        self.seen.append((list(messages), sampling))
        for word in self.says(list(messages)).split(" "):
            yield f"{word} "


def talker(index: Index | None, variant: str, writer: Scripted | None = None, **options: Any) -> Talker:
    knowledge = Knowledge((index,)) if index else None
    return Talker("here", variant.partition("+")[0], variant, writer, knowledge, 0.3, **options)  # type: ignore[arg-type]


def session(one: Talker, history: Path | None = None) -> Session:
    return Session(one, History(history))


def talk(one: Session, *lines: str) -> str:
    out = io.StringIO()
    chat_loop(one, "Hello.", io.StringIO("\n".join(lines)), out)
    return out.getvalue()

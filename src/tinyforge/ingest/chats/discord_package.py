"""The package that Discord sends on request: one folder per channel, with one's own messages and nobody else's."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.discord import plain_text
from tinyforge.ingest.chats.records import Chat, ChatMessage, why_unused
from tinyforge.ingest.chats.source import Files
from tinyforge.ingest.chats.times import from_iso

_CHANNEL = re.compile(r"(?:^|/)c?\d+/channel\.json$")


def recognise(files: Files) -> list[str]:
    """The files of messages that lie beside a ``channel.json``."""
    folders = [name.rpartition("/")[0] for name in files.names if _CHANNEL.search(name)]
    names = set(files.names)
    found = ([name for name in (f"{f}/messages.json", f"{f}/messages.csv") if name in names] for f in folders)
    return [both[0] for both in found if both]


def read(files: Files, name: str) -> Chat:
    """One channel's messages. Raises InputError when they are not as Discord writes them."""
    folder = name.rpartition("/")[0]
    chat = Chat("", own_only=True)
    owner = _owner(files, chat)
    channel = str(files.json(f"{folder}/channel.json").get("id") or folder)
    for row in _rows(files, name):
        try:
            chat.messages.append(_message(row, owner, channel, chat))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{files.path}: {name} has a message that is not as Discord writes it ({error!r}).",
                "Ask Discord for the package again.",
            ) from error
    return chat


def _message(row: dict[str, Any], owner: str, channel: str, chat: Chat) -> ChatMessage:
    text = plain_text(str(row["Contents"] or ""), chat)
    return ChatMessage(
        id=str(row["ID"]),
        author=owner,
        time=from_iso(row["Timestamp"]),
        text=text,
        channel=channel,
        place=f"message {row['ID']}",
        unused=why_unused(text, bool(row.get("Attachments"))),
    )


def _rows(files: Files, name: str) -> Iterator[dict[str, Any]]:
    if name.endswith(".json"):
        yield from files.json(name)
    else:
        yield from csv.DictReader(io.StringIO(files.text(name), newline=""))


def _owner(files: Files, chat: Chat) -> str:
    """Who asked for the package, by account/user.json; the rest of that file is not read."""
    account = next((n for n in files.names if n.lower().endswith("account/user.json")), None)
    if account is None:
        return chat.meet("me", ["me"])
    user = files.json(account)
    return chat.meet(str(user["id"]), [user.get("global_name"), user.get("username"), str(user["id"])])

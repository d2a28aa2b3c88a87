"""A Slack export, zip or folder: users.json, channels.json and one folder per channel with a file for each day."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import Chat, ChatMessage, why_unused
from tinyforge.ingest.chats.source import Files

_DAY = re.compile(r"(?:^|/)([^/]+)/\d{4}-\d\d-\d\d\.json$")
_SPOKEN = ("", "me_message", "file_share", "thread_broadcast", "reply_broadcast")
_CODE = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")


def recognise(files: Files) -> list[str]:
    """users.json, where files of days lie beside it."""
    users = [name for name in files.names if name.rpartition("/")[2] == "users.json"]
    return users[:1] if any(map(_DAY.search, files.names)) else []


def read(files: Files, name: str) -> Chat:
    """Every day of every channel. Raises InputError, naming the message, when one is not as Slack writes it."""
    chat = Chat("")
    users = [(_meet(chat, user), user) for user in files.json(name)]
    bots = {key for key, user in users if user.get("is_bot") or key == "USLACKBOT"}
    for day in files.names:
        match = _DAY.search(day)
        for number, entry in enumerate(files.json(day) if match else (), 1):
            try:
                chat.messages.append(_message(chat, entry, match[1] if match else "", bots))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise InputError(
                    f"{files.path}: message {number} of {day} is not as Slack writes it ({error!r}).", "Export again."
                ) from error
    return chat


def _meet(chat: Chat, user: Mapping[str, Any]) -> str:
    profile = user.get("profile") or {}
    shown = [profile.get("display_name"), profile.get("real_name") or user.get("real_name"), user.get("name")]
    return chat.meet(str(user["id"]), [*shown, profile.get("first_name"), profile.get("last_name"), str(user["id"])])


def _message(chat: Chat, entry: Mapping[str, Any], channel: str, bots: set[str]) -> ChatMessage:
    author = str(entry.get("user") or entry.get("bot_id") or "unknown")
    _meet(chat, {"id": author, "profile": entry.get("user_profile") or {}, "name": entry.get("username")})
    text = _plain_text(str(entry.get("text") or ""), chat)
    subtype = str(entry.get("subtype") or "")
    bot = author in bots or "bot_id" in entry or subtype == "bot_message"
    system = subtype not in _SPOKEN or entry.get("type", "message") != "message"
    threaded = entry.get("thread_ts") and (entry["thread_ts"] != entry["ts"] or entry.get("reply_count"))
    return ChatMessage(
        id=str(entry["ts"]),
        author=author,
        time=float(entry["ts"]),
        text=text,
        channel=channel,
        place=f"message {entry['ts']}",
        thread=str(entry["thread_ts"]) if threaded else "",
        unused="bot" if bot else "system message" if system else why_unused(text, bool(entry.get("files"))),
    )


def _plain_text(text: str, chat: Chat) -> str:
    """Slack's codes as a reader sees them: ``<@U1>`` by name, links by their label, &amp; as &."""

    def shown(found: re.Match[str]) -> str:
        sign, target, label = found[1], found[2], found[3]
        if sign == "@":
            return "@" + chat.shown(chat.meet(target, [label, target]))
        if sign == "!":
            return "@" + (label or target).lstrip("@").partition("^")[0]
        return f"#{label or 'channel'}" if sign == "#" else label or target.removeprefix("mailto:")

    return html.unescape(_CODE.sub(shown, text))

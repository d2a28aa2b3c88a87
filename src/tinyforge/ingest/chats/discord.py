"""DiscordChatExporter's JSON: one channel per file (github.com/Tyrrrz/DiscordChatExporter, JsonMessageWriter)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import Chat, ChatMessage, why_unused
from tinyforge.ingest.chats.source import Files
from tinyforge.ingest.chats.times import from_iso

_SPOKEN = ("Default", "Reply")  # every other type is a notice of the program, or a command's output
_MENTION = re.compile(r"<@!?(\d+)>")
_EMOJI = re.compile(r"<a?(:\w+:)\d+>")
_PLACE = re.compile(r"<(#|@&)\d+>")


def recognise(files: Files) -> list[str]:
    return [name for name in files.names if name.lower().endswith(".json") and _is_export(files, name)]


def _is_export(files: Files, name: str) -> bool:
    try:
        return is_export(files.json(name))
    except InputError:
        return False


def is_export(data: Any) -> bool:
    """Whether a JSON file's content is one of this program's."""
    return isinstance(data, dict) and {"guild", "channel", "messages"} <= data.keys()


def read(files: Files, name: str) -> Chat:
    """The channel in ``name``. Raises InputError, naming the message, when one is not as the program writes it."""
    data = files.json(name)
    chat = Chat("")
    channel = str(data["channel"].get("id") or data["channel"].get("name"))
    for number, entry in enumerate(data["messages"], 1):
        try:
            chat.messages.append(_message(chat, entry, channel))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{files.path}: message {number} of {name} is not as DiscordChatExporter writes it ({error!r}).",
                "Export the channel again as JSON.",
            ) from error
    return chat


def _message(chat: Chat, entry: Mapping[str, Any], channel: str) -> ChatMessage:
    author = entry["author"]
    for person in (author, *_others(entry)):
        chat.meet(str(person["id"]), _names(person))
    text = plain_text(str(entry.get("content") or ""), chat)
    media = bool(entry.get("attachments") or entry.get("stickers") or entry.get("embeds"))
    kind = str(entry.get("type", "Default"))
    unused = "bot" if author.get("isBot") else "system message" if kind not in _SPOKEN else why_unused(text, media)
    if unused in ("no text", "media only") and entry.get("forwardedMessage"):
        unused = "forwarded"
    return ChatMessage(
        id=str(entry["id"]),
        author=str(author["id"]),
        time=from_iso(entry["timestamp"]),
        text=text,
        channel=channel,
        place=f"message {entry['id']}",
        reply_to=str((entry.get("reference") or {}).get("messageId") or ""),
        unused=unused,
    )


def _others(entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from entry.get("mentions") or ()
    for reaction in entry.get("reactions") or ():
        yield from reaction.get("users") or ()


def _names(person: Mapping[str, Any]) -> list[str | None]:
    """Nickname first, which is what a server shows; the id too, as texts may hold it."""
    name, number = person.get("name"), str(person.get("discriminator") or "")
    tagged = f"{name}#{number}" if name and number.strip("0") else None
    return [person.get("nickname"), name, tagged, str(person["id"])]


def plain_text(text: str, chat: Chat) -> str:
    """Discord's codes as a reader sees them: mentions by name, emoji by name, channels and roles without a number."""
    text = _MENTION.sub(lambda found: "@" + chat.shown(chat.meet(found[1], [found[1]])), text)
    return _PLACE.sub(lambda found: "#channel" if found[1] == "#" else "@role", _EMOJI.sub(r"\1", text))

"""Telegram Desktop's result.json, of one chat or of a whole account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import Chat, ChatMessage, why_unused
from tinyforge.ingest.chats.source import Files
from tinyforge.ingest.chats.times import from_iso

_MEDIA = ("photo", "file", "media_type", "poll", "location_information", "contact_information", "game_title")


def recognise(files: Files) -> list[str]:
    return [name for name in files.names if name.lower().endswith(".json") and _is_export(files, name)]


def _is_export(files: Files, name: str) -> bool:
    try:
        return is_export(files.json(name))
    except InputError:
        return False


def is_export(data: Any) -> bool:
    """Whether a JSON file's content is one of this program's."""
    if not isinstance(data, dict):
        return False
    chats = list(_chats(data))
    return bool(chats) and all("type" in c and "id" in c and _dated(c.get("messages")) for c in chats)


def _dated(messages: Any) -> bool:
    return isinstance(messages, list) and all(isinstance(m, dict) and "date" in m for m in messages[:1])


def _chats(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "messages" in data:
        yield data
    for part in ("chats", "left_chats"):
        listed = data.get(part)
        yield from listed.get("list", []) if isinstance(listed, dict) else []


def read(files: Files, name: str) -> Chat:
    """Every chat in ``name``. Raises InputError, naming the message, when one is not as Telegram writes it."""
    data = files.json(name)
    chat = Chat("")
    owner = data.get("personal_information") or {}
    if owner.get("user_id"):
        full = " ".join(filter(None, [owner.get("first_name"), owner.get("last_name")]))
        chat.meet(f"user{owner['user_id']}", [full, str(owner.get("username") or "").lstrip("@")])
    for one in _chats(data):
        for entry in one["messages"]:
            try:
                chat.messages.append(_message(chat, entry, one))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                where = entry.get("id") if isinstance(entry, dict) else entry
                raise InputError(
                    f"{files.path}: message {where} is not as Telegram writes it ({error!r}).", "Export again as JSON."
                ) from error
    return chat


def _message(chat: Chat, entry: Mapping[str, Any], one: Mapping[str, Any]) -> ChatMessage:
    name = entry.get("from") or entry.get("actor")
    author = chat.meet(str(entry.get("from_id") or entry.get("actor_id") or name or "unknown"), [name])
    _meet_others(chat, entry)
    text = _plain_text(entry.get("text") or "")
    reply = entry.get("reply_to_message_id")
    return ChatMessage(
        id=str(entry["id"]),
        author=author,
        time=float(entry["date_unixtime"]) if entry.get("date_unixtime") else from_iso(entry["date"]),
        text=text,
        channel=str(one["id"]),
        place=f"message {entry['id']}",
        reply_to=str(reply) if reply else "",
        unused=_why_unused(entry, one, text),
    )


def _why_unused(entry: Mapping[str, Any], one: Mapping[str, Any], text: str) -> str:
    if entry.get("type") != "message":
        return "system message"
    if entry.get("via_bot") or (one["type"] == "bot_chat" and entry.get("from") == one.get("name")):
        return "bot"
    if entry.get("forwarded_from") or entry.get("forwarded_from_id"):
        return "forwarded"
    return why_unused(text, any(key in entry for key in _MEDIA))


def _meet_others(chat: Chat, entry: Mapping[str, Any]) -> None:
    """Who is mentioned, reacted, forwarded from or invited, so that their names are known too."""
    for part in entry["text"] if isinstance(entry.get("text"), list) else ():
        if isinstance(part, dict) and part.get("type") == "mention":
            _meet_named(chat, str(part.get("text", "")).lstrip("@"))
        elif isinstance(part, dict) and part.get("type") == "mention_name":
            chat.meet(f"user{part.get('user_id')}", [str(part.get("text", "")).lstrip("@")])
    for reaction in entry.get("reactions") or ():
        for user in reaction.get("recent") or ():
            chat.meet(str(user.get("from_id") or user.get("from")), [user.get("from")])
    for name in (entry.get("forwarded_from"), entry.get("inviter"), *(entry.get("members") or ())):
        _meet_named(chat, name)


def _meet_named(chat: Chat, name: str | None) -> None:
    """A name without an id: of someone who is known by it, or of someone new."""
    if name and not any(name in names for names in chat.people.values()):
        chat.meet(f"name {name}", [name])


def _plain_text(text: Any) -> str:
    """A string, or a list of strings and entities with a text each."""
    if isinstance(text, str):
        return text
    return "".join(part if isinstance(part, str) else str(part["text"]) for part in text)

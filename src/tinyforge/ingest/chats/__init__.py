"""Chats from exports: one file per program, found by content, all giving the same messages.

    read_chats           paths -> one Chat, or an error that says what was looked for
    records.py           what a message is
    source.py            a file, a folder or a zip as named files
    discord.py           DiscordChatExporter's JSON
    discord_package.py   the package that Discord sends on request: own messages only
    slack.py, telegram.py, whatsapp.py

Each reader has ``recognise(files, names)``, which tells the names that it can read, and ``read(files, name)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats.records import Chat
from tinyforge.ingest.chats.source import Files

FORMATS = {
    "Slack export": "tinyforge.ingest.chats.slack",
    "Discord package": "tinyforge.ingest.chats.discord_package",
    "Discord (DiscordChatExporter)": "tinyforge.ingest.chats.discord",
    "Telegram": "tinyforge.ingest.chats.telegram",
    "WhatsApp": "tinyforge.ingest.chats.whatsapp",
}
"""The first that recognises a file reads it; exports of several files come first."""


def recognise(path: str | Path) -> str:
    """The name of the chat format in ``path``, or an empty string when it holds none."""
    try:
        found = _found(Files(Path(path)))
    except InputError:
        return ""
    return found[0][0] if found else ""


def read_chats(paths: Sequence[str | Path]) -> Chat:
    """Every chat in ``paths`` as one. Raises InputError when a path holds no chat, or two programs are mixed."""
    chats = [_read(Files(Path(path))) for path in paths]
    if not chats:
        raise InputError("no chat was given.", "Give one or more chat exports.")
    first, *others = chats
    for other in others:
        if other.format != first.format:
            raise InputError(
                f"chats of two programs: {first.format} and {other.format}.", "Convert them one after the other."
            )
        first.add(other)
    _once(first)
    return first


def _found(files: Files) -> list[tuple[str, str]]:
    """Pairs of format and file name, all of the first format that fits."""
    for name, module in FORMATS.items():
        matches = import_module(module).recognise(files)
        if matches:
            return [(name, match) for match in matches]
    return []


def _read(files: Files) -> Chat:
    found = _found(files)
    if not found:
        raise InputError(
            f"{files.path}: holds no chat that is known.", f"Known: {', '.join(FORMATS)}; files of rows with roles."
        )
    chat = Chat(found[0][0])
    for name, match in found:
        part: Any = import_module(FORMATS[name]).read(files, match)
        chat.add(part)
    if not chat.messages:
        raise InputError(f"{files.path}: this {chat.format} holds no message.", "Export the chat again.")
    return chat


def _once(chat: Chat) -> None:
    """Exports overlap where a person exported twice: a message is kept once."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for message in chat.messages:
        if (message.channel, message.id) not in seen:
            seen.add((message.channel, message.id))
            kept.append(message)
    if len(kept) < len(chat.messages):
        chat.notes.append(f"{len(chat.messages) - len(kept):,} messages came twice and are kept once")
    chat.messages = kept

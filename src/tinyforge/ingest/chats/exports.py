"""What a worker process does with a chat export: find the program that made it, and read its messages."""

from __future__ import annotations

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


def program_of(path: str) -> str:
    """The name of the chat format in ``path``, or an empty string when it holds none."""
    try:
        found = _found(Files(Path(path)))
    except InputError:
        return ""
    return found[0][0] if found else ""


def read(path: str) -> dict[str, Any]:
    """The chat in ``path`` as JSON data. Raises InputError when there is none, or it is damaged."""
    files = Files(Path(path))
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
    return chat.to_json()


def _found(files: Files) -> list[tuple[str, str]]:
    """Pairs of format and file name, all of the first format that fits."""
    for name, module in FORMATS.items():
        matches = import_module(module).recognise(files)
        if matches:
            return [(name, match) for match in matches]
    return []

"""Chats from exports: one file per program, found by content, all giving the same messages.

    recognise, read_chats   a path -> the program that made it; paths -> one Chat. Both in a process with limits.
    exports.py           what that process does; signs.py: chats met where documents are read
    records.py           what a message is
    source.py            a file, a folder or a zip as named files
    discord.py           DiscordChatExporter's JSON
    discord_package.py   the package that Discord sends on request: own messages only
    slack.py, telegram.py, whatsapp.py

Each reader has ``recognise(files, names)``, which tells the names that it can read, and ``read(files, name)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.chats.records import Chat
from tinyforge.ingest.pool import Call, Limits, Pool


def recognise(path: str | Path, limits: Limits | None = None) -> str:
    """The name of the chat format in ``path``, or an empty string when it holds none.

    A file that cannot be looked at within the limits (those of ``ingest`` where none are given) raises InputError.
    """
    with Pool(limits or _usual(), 1) as pool:
        found = next(pool.map([Call("tinyforge.ingest.chats.exports:program_of", {"path": str(path)})]))
    return str(_told(path, found))


def read_chats(paths: Sequence[str | Path], limits: Limits | None = None) -> Chat:
    """Every chat in ``paths`` as one, each read in a process of its own.

    Raises InputError when a path holds no chat, takes more than the limits (those of ``ingest`` where none are given),
    or when two programs are mixed.
    """
    calls = [Call("tinyforge.ingest.chats.exports:read", {"path": str(path)}) for path in paths]
    with Pool(limits or _usual()) as pool:
        chats = [Chat.from_json(_told(p, found)) for p, found in zip(paths, pool.map(calls), strict=True)]
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


def _usual() -> Limits:
    from tinyforge.config import IngestConfig

    config = IngestConfig.model_validate({})
    return Limits(config.timeout_seconds, config.memory_mb)


def _told(path: str | Path, found: object) -> Any:
    """What the process gave back. Raises InputError, naming the path, where it gave nothing."""
    if not isinstance(found, TinyForgeError):
        return found
    named = found.message if str(path) in found.message else f"{path}: {found.message}"
    raise InputError(named, found.fix) from None


def _once(chat: Chat) -> None:
    """Exports overlap where a person exported twice: a message is kept once."""
    if chat.format == "WhatsApp":  # the other programs number their chats
        from tinyforge.ingest.chats.whatsapp import same_chats

        first = same_chats(chat.messages)
        chat.messages = [replace(m, channel=first[m.channel]) if m.channel in first else m for m in chat.messages]
    seen: set[tuple[str, str]] = set()
    kept = []
    for message in chat.messages:
        if (message.channel, message.id) not in seen:
            seen.add((message.channel, message.id))
            kept.append(message)
    if len(kept) < len(chat.messages):
        chat.notes.append(f"{len(chat.messages) - len(kept):,} messages came twice and are kept once")
    chat.messages = kept

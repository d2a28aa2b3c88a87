"""Chats and rows of conversations met where documents are read: refused there, as people's names would go along.

A file shows what it is by its content; an export of many files by their names, so that its list of users is not taken
for a document either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.chats import discord, telegram, whatsapp

_CONVERT = "tinyforge data convert EXPORT --persona NAME --out rows.jsonl, then: tinyforge train rows.jsonl --out RUN"
_TRAIN = "Train on it as it is: tinyforge train FILE --out RUN"
_SLACK_DAY = re.compile(r"(?:.*/)?[^/]+/\d{4}-\d\d-\d\d\.json")
_PACKAGE = re.compile(r"((?:.*?/)??)(?:messages/)?c?\d+/channel\.json", re.IGNORECASE)
_HEAD = 20_000  # characters in which a text shows what it is
_PAGES = {
    "Discord (DiscordChatExporter)": ('class="chatlog', "chatlog__message"),
    "Telegram": ('class="history"', 'class="from_name"'),
}
_SLACK, _DISCORD = "Slack export", "Discord package"


def refused(what: str, place: str = "") -> InputError:
    """The refusal of a chat or of rows: what it is, and the command that it is for."""
    said = f"{place}: " if place else ""
    if what in _ROWS:
        return InputError(f"{said}holds rows to train on ({what}), not a document.", _TRAIN)
    return InputError(f"{said}is a chat ({what}), not a document.", f"Say whose turns to learn: {_CONVERT}")


def refuse_json(value: Any, path: Path) -> None:
    """Raise InputError where the content of a JSON file, or a row of one, is of a chat or a conversation."""
    if what := chat_in(value):
        raise refused(what, str(path))


def chat_in(value: Any) -> str:
    """The name of the format; empty where it is none of them."""
    if discord.is_export(value):
        return "Discord (DiscordChatExporter)"
    if telegram.is_export(value):
        return "Telegram"
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, Mapping):
        return ""
    if first.get("type") == "message" and "ts" in first and first.keys() & {"user", "bot_id", "subtype"}:
        return _SLACK
    if first.keys() >= {"ID", "Timestamp", "Contents"}:
        return _DISCORD
    return next((name for name, fits in _ROWS.items() if fits(first)), "")


def _turns(*names: str) -> Any:
    """Whether one of the lists of a row consists of objects with these fields."""

    def fits(row: Mapping[str, Any]) -> bool:
        lists = (row.get(key) for key in ("messages", "conversations", "conversation"))
        return any(
            isinstance(said, list) and said and all(isinstance(s, Mapping) and s.keys() >= {*names} for s in said)
            for said in lists
        )

    return fits


_ROWS = {
    "OpenAI messages": _turns("role", "content"),
    "ShareGPT": _turns("from", "value"),
    "Alpaca": lambda row: row.keys() >= {"instruction", "output"},
}


def refuse_text(text: str, path: Path) -> None:
    """Raise InputError where a text begins as WhatsApp's exports do: with a message, and a sender in the first few."""
    first = [line for line in text[:_HEAD].split("\n") if line.strip()]
    heads = [line for line in first if whatsapp.begins_message(line)]
    if first and first[0] in heads and any(": " in line for line in heads):
        raise refused("WhatsApp", str(path))


def refuse_page(text: str, path: Path) -> None:
    """Raise InputError where a page is what these programs write for reading; their JSON is what can be converted."""
    for program, marks in _PAGES.items():
        if all(mark in text for mark in marks):
            fix = f"Export it again as JSON, and say whose turns to learn: {_CONVERT}"
            raise InputError(f"{path}: is a chat ({program}), not a document.", fix)


def exports_among(names: Iterable[str]) -> dict[str, str]:
    """Folders that are Slack's or Discord's exports, by the names of the files below: path with / -> the program.

    The path is empty where all of the files belong to one.
    """
    found: dict[str, str] = {}
    listed = list(names)
    for name in listed:
        folder, _, last = name.rpartition("/")
        prefix = f"{folder}/" if folder else ""
        if last == "users.json" and any(n.startswith(prefix) and _SLACK_DAY.fullmatch(n) for n in listed):
            found[prefix] = _SLACK
        elif match := _PACKAGE.fullmatch(name):
            found[match[1]] = _DISCORD
    return found

"""Small chat exports, each built to the public schema of its program, with invented people."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

ANNA, BEN, BOT = ("101", "Anna Okafor", "anna_o"), ("102", "Ben Tamm", "bent"), ("900", "Helper", "helper")


def discord_user(person: tuple[str, str, str]) -> dict[str, Any]:
    key, nickname, name = person
    return {"id": key, "name": name, "discriminator": "0000", "nickname": nickname, "isBot": person is BOT}


def discord_message(number: int, who: tuple[str, str, str], minute: float, text: str, **more: Any) -> dict[str, Any]:
    seconds = round(minute * 60)
    clock = f"{10 + seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return {
        "id": str(number),
        "type": "Default",
        "timestamp": f"2024-03-01T{clock}.25+00:00",
        "timestampEdited": None,
        "isPinned": False,
        "content": text,
        "author": discord_user(who),
        "attachments": [],
        "embeds": [],
        "stickers": [],
        "reactions": [],
        "mentions": [],
        **more,
    }


def reply(number: int) -> dict[str, Any]:
    return {"type": "Reply", "reference": {"messageId": str(number), "channelId": "55", "guildId": "1"}}


def discord(path: Path, messages: list[dict[str, Any]], channel: str = "55") -> Path:
    data = {
        "guild": {"id": "1", "name": "Garden Club", "iconUrl": ""},
        "channel": {"id": channel, "type": "GuildTextChat", "categoryId": "2", "name": "general", "topic": None},
        "dateRange": {"after": None, "before": None},
        "exportedAt": "2024-05-01T00:00:00+00:00",
        "messages": messages,
        "messageCount": len(messages),
    }
    return write(path, data)


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def discord_package(folder: Path) -> Path:
    """The new form with JSON in one channel, and the old one with CSV in the other."""
    write(folder / "account" / "user.json", {"id": "101", "username": "anna_o", "global_name": "Anna Okafor"})
    write(folder / "messages" / "index.json", {"7": "Direct Message with bent"})
    write(folder / "messages" / "c7" / "channel.json", {"id": "7", "type": "DM", "recipients": ["101", "102"]})
    rows = [
        {"ID": 1, "Timestamp": "2024-03-01 10:00:00", "Contents": "hello there", "Attachments": ""},
        {"ID": 2, "Timestamp": "2024-03-01 10:01:00", "Contents": "", "Attachments": "https://x.example/a.png"},
        {"ID": 3, "Timestamp": "2024-03-01 10:02:00", "Contents": "still there <@102>?", "Attachments": ""},
    ]
    write(folder / "messages" / "c7" / "messages.json", rows)
    write(folder / "messages" / "c8" / "channel.json", {"id": "8", "type": 0, "name": "tools"})
    table = 'ID,Timestamp,Contents,Attachments\n4,2024-03-02 09:00:00.5+00:00,"one, two",\n'
    write(folder / "messages" / "c8" / "messages.csv", table)
    return folder


SLACK_USERS = [
    {"id": "U1", "name": "anna.o", "real_name": "Anna Okafor", "profile": {"display_name": "Anna"}, "is_bot": False},
    {"id": "U2", "name": "bent", "real_name": "Ben Tamm", "profile": {"display_name": ""}, "is_bot": False},
    {"id": "U9", "name": "deploybot", "real_name": "Deploy", "profile": {}, "is_bot": True},
]


def slack(folder: Path, days: dict[str, list[dict[str, Any]]], users: list[dict[str, Any]] | None = None) -> Path:
    write(folder / "users.json", users or SLACK_USERS)
    write(folder / "channels.json", [{"id": "C1", "name": "general", "members": ["U1", "U2"]}])
    for day, messages in days.items():
        write(folder / "general" / f"{day}.json", messages)
    return folder


def slack_message(user: str, ts: str, text: str, **more: Any) -> dict[str, Any]:
    return {"client_msg_id": f"m{ts}", "type": "message", "user": user, "ts": ts, "text": text, "team": "T1", **more}


def telegram(path: Path, messages: list[dict[str, Any]], **more: Any) -> Path:
    return write(path, {"name": "Ben Tamm", "type": "personal_chat", "id": 4242, "messages": messages, **more})


def telegram_message(number: int, who: str, minute: int, text: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "type": "message",
        "date": f"2024-03-01T10:{minute:02d}:00",
        "date_unixtime": str(1709287200 + 60 * minute),
        "from": who,
        "from_id": f"user{len(who)}",
        "text": text,
        "text_entities": [],
        **more,
    }


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder).as_posix())
    return path

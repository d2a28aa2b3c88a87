"""Chat exports into rows: who is the assistant, what is replaced by stand-ins, what is left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyforge.config import ChatsConfig
from tinyforge.dataset.conversations import Thread, Turn, content, sessions, threads, turns, windows
from tinyforge.dataset.rows import DroppedRow, RowSet
from tinyforge.dataset.shapes import identify
from tinyforge.errors import InputError
from tinyforge.ingest.chats import read_chats
from tinyforge.ingest.chats.records import Chat, ChatMessage
from tinyforge.ingest.pool import Limits
from tinyforge.ingest.privacy import in_words, redact
from tinyforge.ingest.pseudonyms import Pseudonyms
from tinyforge.ingest.roster import Roster
from tinyforge.records import Example, Message, content_id

_LISTED = 15


def read_chat_rows(
    paths: Sequence[str | Path], config: ChatsConfig, pseudonyms: Pseudonyms, limits: Limits | None = None
) -> RowSet:
    """The chats in ``paths`` as conversations in which ``config.persona`` is the assistant, the earliest first.

    Names, addresses, numbers and secrets are replaced by what ``pseudonyms`` gives, unless ``config.keep_pii``; no file
    name is taken over. ``metadata["from_chat"]`` tells the conversation, its times and who wrote how many characters of
    each turn. Raises InputError when the persona is missing or unknown, listing who wrote how much.
    """
    chat = read_chats(paths, limits)
    persona = "" if chat.own_only else _persona(chat, config.persona, str(paths[0]))
    _leave_out_removed(chat, pseudonyms)
    notes = list(chat.notes)
    if config.keep_pii:
        shown = {key: chat.shown(key) for key in chat.people}
        notes.append("names, addresses, numbers and secrets are KEPT as they are, as asked")
    else:
        shown, replaced = _pseudonymise(chat, pseudonyms)
        notes.append(f"replaced by stand-ins: {in_words(replaced) or 'nothing'} in the texts, {len(shown)} people")
    found = RowSet(chat.format, notes=notes)
    used = [m for m in chat.messages if not m.unused]
    found.dropped = [DroppedRow(m.place, m.unused) for m in chat.messages if m.unused]
    if chat.own_only:
        notes.append(f"a {chat.format} holds only your own messages: they are running text, to learn a style from")
        _add_texts(found, used, shown, config)
    else:
        _add_conversations(found, used, persona, shown, config)
    if not found.examples:
        raise _nothing_left(chat, found, config.persona)
    return found


def _persona(chat: Chat, wanted: str, place: str) -> str:
    """The key of the person called ``wanted``, by any of their names."""
    counts = Counter(m.author for m in chat.messages if not m.unused)
    listed = ", ".join(f"{chat.shown(key)} ({count:,})" for key, count in counts.most_common(_LISTED))
    more = f" and {len(counts) - _LISTED} more" if len(counts) > _LISTED else ""
    who = f"Who wrote how many messages: {listed}{more}."
    if not wanted:
        raise InputError(
            f"{place}: a chat has no assistant until you say whose turns to learn.", f"--persona NAME. {who}"
        )
    name = wanted.casefold().strip().lstrip("@")
    keys = [k for k, names in chat.people.items() if counts[k] and name in [k.casefold(), *map(str.casefold, names)]]
    if not keys:
        raise InputError(f"{place}: nobody called {wanted!r} wrote a message here.", who)
    if len(keys) > 1:
        ids = ", ".join(f"{key} ({counts[key]:,})" for key in keys)
        raise InputError(f"{place}: {len(keys)} people are called {wanted!r}.", f"Give one's id: {ids}.")
    return keys[0]


def _leave_out_removed(chat: Chat, pseudonyms: Pseudonyms) -> None:
    gone = {key for key, names in chat.people.items() if pseudonyms.removed([key, *names])}
    chat.messages = [
        replace(m, unused="by someone whom `tinyforge data delete` removed") if m.author in gone else m
        for m in chat.messages
    ]


def _pseudonymise(chat: Chat, pseudonyms: Pseudonyms) -> tuple[dict[str, str], Counter[str]]:
    """Replace what is found in the texts; returns everyone's stand-in and how many findings there were by kind."""
    authors = dict.fromkeys(m.author for m in sorted(chat.messages, key=lambda m: (bool(m.unused), m.time)) if m.author)
    order = [*authors, *(key for key in chat.people if key not in authors)]
    shown: dict[str, str] = {}
    for key in order:
        shown[key] = pseudonyms.person([key, *chat.people.get(key, ())], shown.values())
    roster = Roster({key: [*chat.people.get(key, ()), key] for key in order})
    counts: Counter[str] = Counter()
    changed = []
    for message in chat.messages:
        text, findings = ("", []) if message.unused else redact(message.text, pseudonyms, roster, shown)
        counts.update(finding.kind for finding in findings)
        changed.append(replace(message, text=text))
    chat.messages = changed
    return shown, counts


def _add_conversations(
    found: RowSet, used: list[ChatMessage], persona: str, shown: dict[str, str], config: ChatsConfig
) -> None:
    seen: set[str] = set()
    for thread in threads(used, config.gap_minutes * 60):
        spoken, left = turns(thread, persona)
        rows, cut = windows(spoken, config.max_characters)
        found.dropped += [DroppedRow(message.place, reason) for message, reason in (*left, *cut)]
        for row in rows:
            _add(found, seen, _example(row, thread, shown), row[0].pieces[0].message.place)


def _example(row: list[Turn], thread: Thread, shown: dict[str, str]) -> Example:
    others = {p.message.author for turn in row if turn.role == "user" for p in turn.pieces if not p.quoted}
    said = [content(turn, shown, len(others) > 1) for turn in row]
    spoken = [
        {"authors": [_name(p.message, shown) for p in turn.pieces], "lengths": [len(text) for text in texts]}
        for turn, texts in zip(row, said, strict=True)
    ]
    messages = tuple(Message(turn.role, "\n".join(texts)) for turn, texts in zip(row, said, strict=True))
    return Example("", messages, metadata={"from_chat": _origin(thread.messages, spoken)})


def _name(message: ChatMessage, shown: dict[str, str]) -> str:
    return shown.get(message.author, message.author)


def _origin(messages: Sequence[ChatMessage], spoken: list[dict[str, Any]]) -> dict[str, Any]:
    first = messages[0]
    return {
        "conversation": content_id("conversation", first.channel, first.id),
        "start": int(min(m.time for m in messages)),
        "end": int(max(m.time for m in messages)),
        "turns": spoken,
    }


def _add_texts(found: RowSet, used: list[ChatMessage], shown: dict[str, str], config: ChatsConfig) -> None:
    seen: set[str] = set()
    for session in sessions(used, config.gap_minutes * 60, config.max_characters):
        spoken = [{"authors": [_name(m, shown) for m in session], "lengths": [len(m.text.strip()) for m in session]}]
        text = "\n".join(m.text.strip() for m in session)
        _add(
            found, seen, Example("", (), text=text, metadata={"from_chat": _origin(session, spoken)}), session[0].place
        )


def _add(found: RowSet, seen: set[str], example: Example, place: str) -> None:
    name = identify(example)
    if name in seen:
        found.dropped.append(DroppedRow(place, "repeats a row"))
        return
    seen.add(name)
    metadata = {**example.metadata, "source": found.source, "line": len(found.examples) + 1}
    found.examples.append(replace(example, id=name, metadata=metadata))
    found.shapes[f"{found.source} {'text' if example.text else 'conversation'}"] += 1


def _nothing_left(chat: Chat, found: RowSet, persona: str) -> InputError:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in found.reasons.items())
    return InputError(
        f"none of the {len(chat.messages):,} messages of this {chat.format} chat can be learned ({reasons}).",
        f"Choose another --persona than {persona!r}, or a longer --gap-minutes." if persona else "Export more of it.",
    )

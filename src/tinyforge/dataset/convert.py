"""Anything that can be read, chats included, into one of the formats that trainers read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinyforge.config import ChatsConfig
from tinyforge.dataset.chat_rows import read_chat_rows
from tinyforge.dataset.origin import origin_of
from tinyforge.dataset.rows import RowSet, read_rows
from tinyforge.dataset.written import check_out, write_rows
from tinyforge.errors import InputError
from tinyforge.ingest.chats import recognise
from tinyforge.ingest.pool import Limits
from tinyforge.ingest.privacy import in_words, redact
from tinyforge.ingest.pseudonyms import Pseudonyms
from tinyforge.records import Example, Message

Row = dict[str, Any]


class UnfitError(Exception):
    """This example has no form in that format, for this reason."""


@dataclass(frozen=True)
class Converted:
    """What was read, how many rows were written, and why the others were not."""

    found: RowSet
    written: int
    unfit: Counter[str]


def convert(paths: Sequence[Path], out: Path, to: str, config: ChatsConfig, limits: Limits | None = None) -> Converted:
    """Write what ``paths`` hold to ``out`` (.jsonl, .csv, .parquet) in the format ``to``; stand-ins are kept beside it.

    A chat may take as much time and memory as ``limits`` say (see ``read_chats``).
    Raises InputError when nothing can be read or written, and before anything is written.
    """
    check_out(out, *paths)
    pseudonyms = Pseudonyms(out.parent)
    found = read_any(paths, config, pseudonyms, limits)
    rows, unfit = [], Counter[str]()
    for example in found.examples:
        try:
            rows.append(FORMATS[to](example))
        except UnfitError as reason:
            unfit[str(reason)] += 1
    if not rows:
        raise InputError(f"no row has a form in {to} ({', '.join(unfit)}).", "Use --to messages.")
    if not config.keep_pii:  # first, so that no row can exist without its stand-ins
        pseudonyms.save()
    return Converted(found, write_rows(out, rows), unfit)


def read_any(
    paths: Sequence[Path], config: ChatsConfig, pseudonyms: Pseudonyms, limits: Limits | None = None
) -> RowSet:
    """Chats by their content, everything else as rows. Raises InputError."""
    chats = [path for path in paths if recognise(path, limits)]
    if chats and len(chats) == len(paths):
        return read_chat_rows(paths, config, pseudonyms, limits)
    if len(paths) > 1:
        odd = next(path for path in paths if path not in chats) if chats else paths[1]
        raise InputError(f"{odd}: several chats can be read at once, files of rows one by one.", "Convert it alone.")
    found = read_rows(paths[0])
    if config.persona:
        found.notes.append("these rows have an assistant already: the persona is not used")
    return found if config.keep_pii else _redacted(found, pseudonyms)


def _redacted(found: RowSet, pseudonyms: Pseudonyms) -> RowSet:
    """The rows with stand-ins; there is no roster, so names stay, and the note says so."""
    counts: Counter[str] = Counter()

    def plain(text: str) -> str:
        changed, findings = redact(text, pseudonyms)
        counts.update(finding.kind for finding in findings)
        return changed

    examples = [_redacted_example(example, plain) for example in found.examples]
    note = (
        f"replaced by stand-ins: {in_words(counts) or 'nothing'}; names are known only in chats and were not looked for"
    )
    return replace(found, examples=examples, notes=[*found.notes, note])


def _redacted_example(example: Example, plain: Callable[[str], str]) -> Example:
    origin = origin_of(example.metadata)
    if origin is not None:
        texts = [m.content for m in example.messages] or [example.text]
        changed = [[plain(piece) for piece in pieces] for pieces in origin.pieces(texts)]
        origin = origin.with_lengths(changed)
        said = ["\n".join(pieces) for pieces in changed]
        messages = tuple(Message(m.role, text) for m, text in zip(example.messages, said, strict=False))
        metadata = {**example.metadata, "from_chat": origin.to_json()}
        return replace(example, messages=messages, text=said[0] if example.text else "", metadata=metadata)
    messages = tuple(Message(m.role, plain(m.content)) for m in example.messages)
    return replace(example, messages=messages, text=plain(example.text), rejected=plain(example.rejected))


# --- formats ----------------------------------------------------------------------------------------------------------


def _openai_messages(messages: Sequence[Message]) -> list[Row]:
    return [{"role": m.role, "content": m.content} for m in messages]


def _messages(example: Example) -> Row:
    """Our own: every kind of example, and where a chat's conversation comes from."""
    origin: Row = {"from_chat": example.metadata["from_chat"]} if "from_chat" in example.metadata else {}
    if example.kind == "text":
        return {"text": example.text, **origin}
    if example.kind == "labelled":
        return {"text": example.question, "label": example.label}
    if example.kind == "preference":
        before, chosen = _openai_messages(example.messages[:-1]), _openai_messages(example.messages[-1:])
        return {"prompt": before, "chosen": chosen, "rejected": [{"role": "assistant", "content": example.rejected}]}
    return {"messages": _openai_messages(example.messages), **origin}


def _openai(example: Example) -> Row:
    return {"messages": _openai_messages(_chat(example, "OpenAI"))}


def _sharegpt(example: Example) -> Row:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"conversations": [{"from": names[m.role], "value": m.content} for m in _chat(example, "ShareGPT")]}


def _alpaca(example: Example) -> Row:
    messages = _chat(example, "Alpaca")
    system = [m.content for m in messages if m.role == "system"]
    spoken = [m for m in messages if m.role != "system"]
    if len(spoken) != 2 or len(system) > 1:
        raise UnfitError("Alpaca has one question and one answer")
    row = {"instruction": spoken[0].content, "input": "", "output": spoken[1].content}
    return {**row, "system": system[0]} if system else row


def _chat(example: Example, name: str) -> tuple[Message, ...]:
    if example.kind != "chat":
        raise UnfitError(f"{name} has no form for rows of the kind {example.kind}")
    return example.messages


FORMATS: dict[str, Callable[[Example], Row]] = {
    "messages": _messages,
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
}

"""What is wrong with a row that can be read: each check looks at one example and says what it found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tinyforge.dataset.repairs import REPAIRS, mend
from tinyforge.dataset.similar import words
from tinyforge.records import Example


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: ``refused`` rows cannot be learned from, ``mended`` ones ``--fix`` repairs."""

    fix: str
    refused: bool = False
    mended: bool = False


KINDS: dict[str, Kind] = {
    "unusable row": Kind("Mend the row; --fix leaves it out.", refused=True, mended=True),
    "different kinds of rows": Kind("Put each kind into a file of its own.", refused=True),
    "test leakage": Kind("Take the row out of one of the files.", refused=True),
    "encoding damage": Kind("--fix puts the characters back.", mended=True),
    "control characters": Kind("--fix takes them out.", mended=True),
    "HTML residue": Kind("--fix takes the markup out and keeps the text.", mended=True),
    "not in Unicode NFC": Kind("--fix composes the characters.", mended=True),
    "repeated row": Kind("--fix keeps the first.", mended=True),
    "turns of one role in a row": Kind("--fix joins them into one turn.", mended=True),
    "label spelt in several ways": Kind("--fix takes the most frequent spelling.", mended=True),
    "label with a likely typo": Kind("Decide which is meant, and replace the other."),
    "lost characters": Kind("The replacement character U+FFFD stands for lost text: export the source again as UTF-8."),
    "system message in the middle": Kind("Move it to the start; many chat templates refuse it elsewhere."),
    "answer says nothing": Kind("Write an answer, or take the row out."),
    "only a link": Kind("Write what the link says; a model cannot open it."),
    "answer repeats the question": Kind("Write an answer, or take the row out."),
    "assistant's boilerplate": Kind("Take the phrase out, or the row; else every answer learns it."),
    "cut off": Kind("Export the whole text; a model learns to stop where the rows stop."),
    "several rows with one id": Kind("Give each row an id of its own."),
    "conflicting answers": Kind("Keep the right one; two answers to one question are averaged, not learned."),
    "different shapes": Kind("Nothing to do if it is meant; `tinyforge data convert` writes them alike."),
}

ADVICE = {
    "empty assistant": "Write the answer.",
    "empty": "Fill the field.",
    "not JSON": "Mend the line; where it is the last one, the file was cut off: copy it again.",
    "not UTF-8": "Save the file as UTF-8.",
    "no known shape": "Rename the fields: `tinyforge train` reads messages, prompt/completion, text/label and others.",
    "starts with an answer": "Put the question before it.",
    "does not end with the assistant": "Add the answer, or cut the last turn.",
    "unknown role": "Use system, user and assistant.",
    "not as many cells": "Check its quotes and separators.",
    "chosen and rejected are the same": "A preference needs two different answers.",
}
"""How to mend an unusable row, by the beginning of the reason."""

_NOTHING = re.compile(
    r"[\W_]*(?:n/?a|nan|null|none|todo|tbd|nil|undefined|unknown|empty|placeholder|lorem ipsum.*)?[\W_]*", re.I | re.S
)
_LINK = re.compile(r"(?:https?://|www\.)\S+", re.I)
_BOILERPLATE = re.compile(
    r"\bas an? (?:large )?(?:AI|artificial intelligence)?[ -]?(?:language )?(?:model|assistant)\b|"
    r"\bmy (?:knowledge|training)(?: data)? cut-?off\b|\bI hope this (?:helps|message finds)\b|"
    r"\bfeel free to (?:ask|reach out)\b|\bI(?:'m| am) (?:sorry, but I (?:cannot|can't)|just an AI)\b",
    re.I,
)
_OPEN_END = re.compile(r"(?:[,;:(\[{\-–—]|\b(?:and|or|but|the|a|an|of|to|with|in|for|because|that))$", re.I)
_CUT_WORDS = 12  # a shorter answer may well be a phrase that ends anywhere


def problems_of(example: Example) -> Iterator[tuple[str, str]]:
    """``(kind, what was seen)`` for every problem of one example."""
    yield from _characters(example)
    yield from _order(example)
    yield from _answers(example)


def texts_of(example: Example) -> list[str]:
    """Every text that is learned from or given."""
    return [text for text in (*(m.content for m in example.messages), example.text, example.rejected) if text]


def answers_of(example: Example) -> list[str]:
    """The texts that are learned; none of a labelled example."""
    if example.kind == "labelled":
        return []
    spoken = [m.content for m in example.messages if m.role == "assistant"]
    return [text for text in (*spoken, example.text, example.rejected) if text]


def _characters(example: Example) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for text in texts_of(example):
        for name in mend(text)[1]:
            seen.setdefault(name, _where(text, name))
        if "\ufffd" in text:
            seen.setdefault("lost characters", _around(text, text.index("\ufffd")))
    yield from seen.items()


def _where(text: str, name: str) -> str:
    """The stretch of text that the repair changes first."""
    mended = REPAIRS[name](text)
    place = next((i for i, (a, b) in enumerate(zip(text, mended, strict=False)) if a != b), len(mended))
    return _around(text, place)


def _around(text: str, place: int) -> str:
    start = max(0, place - 12)
    cut = text[start : place + 20]
    return repr(cut)[1:-1] if cut.isprintable() else ascii(cut)[1:-1]


def _order(example: Example) -> Iterator[tuple[str, str]]:
    roles = [message.role for message in example.messages]
    twice = next((a for a, b in pairwise(roles) if a == b), None)
    if twice is not None:
        yield "turns of one role in a row", f"two by the {twice}"
    if "system" in roles[1:]:
        yield "system message in the middle", f"message {roles.index('system', 1) + 1}"


def _answers(example: Example) -> Iterator[tuple[str, str]]:
    asked = " ".join(words(example.question)) if example.messages and example.kind != "text" else ""
    for text in answers_of(example) if not example.evidence else ():  # "none" may well stand in a table
        if _NOTHING.fullmatch(text.strip()) and not any(char.isdigit() for char in text) and _placeholder(text):
            yield "answer says nothing", text.strip()[:40]
        elif not _LINK.sub("", text).strip(" \n<>()[].,"):
            yield "only a link", text.strip()[:80]
        elif asked and " ".join(words(text)) == asked:
            yield "answer repeats the question", text.strip()[:60]
        elif _cut_off(text):
            yield "cut off", f"ends with {text.rstrip()[-30:]!r}"
        boilerplate = _BOILERPLATE.search(text)
        if boilerplate:
            yield "assistant's boilerplate", boilerplate[0]


def _placeholder(text: str) -> bool:
    """An answer of punctuation alone says nothing; "None" and "Unknown" with a full stop may be meant."""
    return not text.strip().endswith(".") or not any(char.isalpha() for char in text)


def _cut_off(text: str) -> bool:
    end = text.rstrip()
    if end.count("```") % 2:
        return True
    return len(end.split()) >= _CUT_WORDS and "```" not in end and _OPEN_END.search(end) is not None

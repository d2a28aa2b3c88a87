"""A page of Markdown -> its blocks, in order.

Fenced blocks have meanings:

    bash                    commands, run in the page's folder
    python                  Python, run in one interpreter for the whole page
    LANGUAGE title="NAME"   a file of that name, written into the page's folder
    text                    what the block before it prints; numbers may differ
    quiz                    a question, answers as ``- [ ]`` and ``- [x]`` lines, and why

A comment ``<!-- not run: REASON -->`` on the line before a fence keeps the block from being run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tinyforge.errors import InputError

BlockKind = Literal["prose", "bash", "python", "file", "text", "quiz", "other"]
_FENCE = re.compile(r"^```(?P<language>[\w+-]*)(?P<rest>[^`]*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_NOT_RUN = re.compile(r"<!--\s*not run:\s*(.+?)\s*-->\s*$")
_ANSWER = re.compile(r"^- \[([ x])\] (.+)$")


@dataclass(frozen=True, slots=True)
class PageBlock:
    """``line`` counts from 1 and is that of the first line of the content; ``skipped`` says why it is not run."""

    kind: BlockKind
    text: str
    line: int
    language: str = ""
    name: str = ""
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class Quiz:
    """A question with its possible answers; ``right`` holds the places of the right ones, from 0."""

    question: str
    answers: tuple[str, ...]
    right: frozenset[int]
    why: str


def blocks(markdown: str, name: str = "page") -> list[PageBlock]:
    """The blocks of a page; front matter is left out. Raises InputError for a fence that is never closed."""
    return list(_blocks(markdown.splitlines(), name))


def _blocks(lines: list[str], name: str) -> Iterator[PageBlock]:
    start = _front_matter(lines)
    prose_from, number = start, start
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        reason = _NOT_RUN.match(lines[number - 1]) if number > prose_from else None
        yield from _prose(lines, prose_from, number - (1 if reason else 0))
        end = next((i for i in range(number + 1, len(lines)) if lines[i].rstrip() == "```"), None)
        if end is None:
            raise InputError(f"{name}:{number + 1}: this block is never closed.", "Add a line of three backticks.")
        content = "\n".join(lines[number + 1 : end]) + "\n"
        yield _block(fence, content, number + 2, reason[1] if reason else "")
        number = prose_from = end + 1
    yield from _prose(lines, prose_from, len(lines))


def _front_matter(lines: list[str]) -> int:
    if lines[:1] != ["---"]:
        return 0
    return next((i + 1 for i in range(1, len(lines)) if lines[i] == "---"), 0)


def _prose(lines: list[str], start: int, end: int) -> Iterator[PageBlock]:
    text = "\n".join(lines[start:end]).strip("\n")
    if text.strip():
        yield PageBlock("prose", text + "\n", start + 1)


def _block(fence: re.Match[str], content: str, line: int, skipped: str) -> PageBlock:
    language, title = fence["language"], _TITLE.search(fence["rest"])
    if title:
        return PageBlock("file", content, line, language, title[1], skipped)
    known: dict[str, BlockKind] = {"bash": "bash", "python": "python", "text": "text", "quiz": "quiz"}
    return PageBlock(known.get(language, "other"), content, line, language, "", skipped)


def title(markdown: str) -> str:
    """The first heading of a page."""
    return next((line[2:].strip() for line in markdown.splitlines() if line.startswith("# ")), "")


def quiz(block: PageBlock) -> Quiz:
    """The question in a quiz block. Raises InputError when it has no answers, or none that is right."""
    lines = block.text.strip().splitlines()
    found = [_ANSWER.match(line) for line in lines]
    places = [i for i, match in enumerate(found) if match]
    right = frozenset(n for n, i in enumerate(places) if (m := found[i]) is not None and m[1] == "x")
    if len(places) < 2 or not right:
        raise InputError(f"quiz in line {block.line}: needs two answers or more, one of them marked [x].")
    answers = tuple(m[2] for i in places if (m := found[i]) is not None)
    return Quiz("\n".join(lines[: places[0]]).strip(), answers, right, "\n".join(lines[places[-1] + 1 :]).strip())

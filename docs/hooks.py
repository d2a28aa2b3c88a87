"""What the site does to a page first: quizzes fold, terms link to the glossary, blocks say what they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tinyforge.lessons.page import blocks, quiz

DOCS = Path(__file__).parent
_QUIZ = re.compile(r"^```quiz\n.*?^```$", re.M | re.S)
_NOT_RUN = re.compile(r"^<!--\s*not run:\s*(.+?)\s*-->$", re.M)
_FENCED = re.compile(r"^```.*?^```$|^#[^\n]*$|`[^`\n]+`|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|^---\n.*?\n---\n", re.M | re.S)


def terms() -> dict[str, str]:
    """Every heading of the glossary, in small letters -> its anchor; a heading may name several, parted by commas."""
    found = {}
    for heading in re.findall(r"^## (.+)$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.M):
        anchor = re.sub(r"[^\w\s-]", "", heading.lower()).strip()
        anchor = re.sub(r"[\s-]+", "-", anchor)
        found.update({term.strip().lower(): anchor for term in heading.split(",")})
    return found


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    markdown = _QUIZ.sub(_folded, markdown)
    markdown = _NOT_RUN.sub(r"*Not run in our tests: \1.*\n", markdown)
    markdown = re.sub(r"^```text$", '```text title="It prints"', markdown, flags=re.M)
    source = page.file.src_uri
    if source.startswith(("tutorials/", "concepts/", "guides/")):
        markdown = linked(markdown, "../glossary.md")
    return markdown


def _folded(match: re.Match[str]) -> str:
    asked = quiz(blocks(match[0] + "\n")[0])
    answers = "\n".join(f"    - {answer}" for answer in asked.answers)
    right = "; ".join(asked.answers[i] for i in sorted(asked.right))
    inner = f'    ??? success "The answer"\n\n        {right}. {asked.why}'
    question = asked.question.replace('"', "'")
    return f'!!! question "{question}"\n\n{answers}\n\n{inner}\n'


def linked(markdown: str, glossary: str) -> str:
    """The first mention of each term in running text becomes a link to where it is explained."""
    waiting = terms()
    pattern = re.compile(
        r"(?<![\w-])(" + "|".join(sorted(map(re.escape, waiting), key=len, reverse=True)) + r")(?![\w-])", re.I
    )

    def link(match: re.Match[str]) -> str:
        anchor = waiting.get(match[0].lower())
        if anchor is None:
            return match[0]
        for term in [term for term, place in waiting.items() if place == anchor]:
            del waiting[term]
        return f"[{match[0]}]({glossary}#{anchor})"

    parts, place = [], 0
    for kept in _FENCED.finditer(markdown):
        parts += [pattern.sub(link, markdown[place : kept.start()]), kept[0]]
        place = kept.end()
    return "".join([*parts, pattern.sub(link, markdown[place:])])

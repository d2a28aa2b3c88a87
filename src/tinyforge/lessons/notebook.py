"""A page as a Jupyter notebook: prose as Markdown, commands as ``%%bash`` cells, files as ``%%writefile`` cells."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from tinyforge.lessons.page import PageBlock, blocks, quiz
from tinyforge.records import content_id


def notebook(markdown: str, name: str) -> dict[str, Any]:
    """The notebook (format 4.5) of a page; the same page gives the same notebook. Outputs are left empty."""
    cells = [_cell(block, f"{name}:{number}") for number, block in enumerate(_with_folders(blocks(markdown, name)))]
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _with_folders(page: list[PageBlock]) -> Iterator[PageBlock]:
    """``%%writefile`` makes no folders, so a line before it does."""
    for block in page:
        folder = str(PurePosixPath(block.name).parent)
        if block.kind == "file" and not block.skipped and folder != ".":
            yield PageBlock("bash", f"mkdir -p {shlex.quote(folder)}\n", block.line, "bash")
        yield block


def _cell(block: PageBlock, name: str) -> dict[str, Any]:
    kind, source = _source(block)
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": content_id("cell", name),
        "metadata": {},
        "source": source.rstrip("\n").splitlines(keepends=True),
    }
    if kind == "code":
        cell.update(execution_count=None, outputs=[])
    return cell


def _source(block: PageBlock) -> tuple[str, str]:
    if block.kind == "quiz":
        asked = quiz(block)
        answers = "\n".join(f"- {answer}" for answer in asked.answers)
        right = "; ".join(asked.answers[i] for i in sorted(asked.right))
        folded = f"<details><summary>The answer</summary>\n\n{right}. {asked.why}\n\n</details>"
        return "markdown", f"**{asked.question}**\n\n{answers}\n\n{folded}"
    if block.kind == "file" and not block.skipped:
        return "code", f"%%writefile {block.name}\n{block.text}"
    if block.skipped or block.kind in ("text", "other"):
        return "markdown", f"```{block.language}\n{block.text}```"
    if block.kind == "bash":
        return "code", f"%%bash\nset -euo pipefail\n{block.text}"
    return ("code" if block.kind == "python" else "markdown"), block.text

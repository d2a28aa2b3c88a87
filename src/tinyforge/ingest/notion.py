"""Notion's "Markdown & CSV" export: what its file names and links carry besides what a person wrote.

A page is ``Title 0123456789abcdef0123456789abcdef.md``, its sub-pages lie in a folder of the same name (without the
number in newer exports), a database is a CSV file, twice: the current view, and with ``_all`` every row. Large
workspaces come as ``Export-<uuid>-Part-1.zip`` inside of the zip.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_PAGE = re.compile(r"(?:^|[ /])[0-9a-f]{32}(?:_all)?\.(?:md|csv|html)$")
_NUMBER = re.compile(r"(?<=\S) [0-9a-f]{32}(?=(?:_all)?(?:\.\w+)?$)")
_PART = re.compile(r"(?:[0-9a-f-]{36}_)?Export(?:Block)?-[0-9a-f-]{36}(?:-Part-\d+)?(?:\.zip)?$")
# What a relation or a mention shows after the title: "(Page%20Title%200123...cdef.md)", "(https://www.notion.so/...)".
_LINK = re.compile(
    rb"(?<=[^\]\s(]) \((?:[^()\s]{0,600}[0-9a-f]{32}(?:_all)?\.(?:md|csv)|https://(?:www\.)?notion\.so/[^()\s]{0,600})\)"
)


def is_page(name: str) -> bool:
    """Whether a file's name is one that Notion gives to a page or a database."""
    return _PAGE.search(name) is not None


def cleaned(data: bytes) -> bytes:
    """The text of a page or a database without the addresses behind its mentions of other pages."""
    return _LINK.sub(b"", data)


def _plain(name: str) -> str:
    parts = [_NUMBER.sub("", part) for part in name.split("/")]
    kept = [part for part in parts[:-1] if not _PART.match(part)]
    return "/".join([*kept, parts[-1].replace("_all.csv", ".csv")])


def plain_names(names: Sequence[str]) -> list[str]:
    """The names as the pages are called in Notion, where there are pages of Notion among them; else as they are.

    Two pages of the same name in one place keep their numbers.
    """
    if not any(map(is_page, names)):
        return list(names)
    plain = [_plain(name) for name in names]
    counts = Counter(plain)
    return [short if counts[short] == 1 else name for short, name in zip(plain, names, strict=True)]


def replaced_views(names: Sequence[str]) -> list[str]:
    """The CSV files that hold a part of the rows of another: the current view beside ``_all``."""
    known = set(names)
    return [name for name in names if is_page(name) and name.replace(".csv", "_all.csv") in known - {name}]


def breadcrumb(name: str) -> list[str]:
    """The titles of the pages around a page, outermost first."""
    return name.split("/")[:-1]

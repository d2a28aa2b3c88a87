"""Where the lessons and the glossary lie: in the installed package, or beside the source it is developed from."""

from __future__ import annotations

from pathlib import Path

from tinyforge.errors import InputError

_PACKAGE = Path(__file__).parent
_DOCS = _PACKAGE.parent.parent.parent / "docs"
_PLACES = (_PACKAGE / "pages", _DOCS / "tutorials")
_GLOSSARIES = (_PACKAGE / "glossary.md", _DOCS / "glossary.md")


def lessons() -> list[Path]:
    """The pages in their order. Raises InputError when the installation carries none."""
    for folder in _PLACES:
        found = sorted(folder.glob("[0-9][0-9]-*.md"))
        if found:
            return found
    raise InputError("no lessons were installed.", "Reinstall: pip install --force-reinstall tinyforgeai")


def lesson(number: int) -> Path:
    """The page of a lesson by its number. Raises InputError for one that is not there."""
    for path in lessons():
        if int(path.name[:2]) == number:
            return path
    raise InputError(f"there is no lesson {number}.", "See the list: tinyforge learn")


def glossary() -> dict[str, str]:
    """Every term, in small letters, and what it means; a heading may name several, parted by commas."""
    path = next((path for path in _GLOSSARIES if path.is_file()), None)
    entries = path.read_text(encoding="utf-8").split("\n## ")[1:] if path else []
    split = [entry.partition("\n") for entry in entries]
    return {term.strip().lower(): told.strip() for heading, _, told in split for term in heading.split(",")}

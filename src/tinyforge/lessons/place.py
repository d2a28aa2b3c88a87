"""Where the lessons lie: in the installed package, or beside the source it is developed from."""

from __future__ import annotations

from pathlib import Path

from tinyforge.errors import InputError

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE / "pages", _PACKAGE.parent.parent.parent / "docs" / "tutorials")


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

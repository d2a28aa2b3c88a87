"""A small made-up library handbook, as the parsers would hand it over."""

from __future__ import annotations

from tinyforge.ingest.builder import TextBuilder
from tinyforge.records import Document


def handbook() -> list[Document]:
    return [_library(), _boats()]


def _library() -> Document:
    out = TextBuilder()
    out.add("heading", "Harbour Library", level=1)
    out.add("heading", "Opening Hours", level=2)
    out.add("paragraph", "The library opens at 9 a.m. on weekdays. It stays closed on Sundays and public holidays.")
    out.add("heading", "Membership", level=2)
    out.add("paragraph", "A membership card costs 12 euros per year. Children under 14 join for free.")
    out.add("paragraph", "You must not lend your card to another person.")
    out.add("heading", "Late Fees", level=2)
    table = [["Item", "Fee per day", "Longest loan"], ["Novel", "20 cents", "28 days"], ["Film", "1 euro", "7 days"]]
    out.table(table, header_rows=1)
    out.add("heading", "Reading Room", level=2)
    out.add("paragraph", "In the reading room please keep to these rules:")
    out.add("list_item", "Speak in a whisper.", marker="1. ")
    out.add("list_item", "Leave coffee and food outside.", marker="2. ")
    return out.document("library.md", {})


def _boats() -> Document:
    out = TextBuilder()
    out.add("heading", "Boat Hire", level=1)
    out.add("heading", "Rowing Boats", level=2)
    out.add("paragraph", "Rowing boats are hired by the hour for 8 euros. Captain Zoë Ångström keeps the keys 🚣.")
    out.add("heading", "Life Jackets", level=2)
    out.add("paragraph", "Every passenger wears a life jacket on the water.")
    return out.document("boats.pdf", {"page_starts": [0, 60]})

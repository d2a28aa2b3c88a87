"""What a worker process finds in one answer of a REST endpoint: its items, and what it says of the next page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.ingest.reading import read_text

# Where servers write the address of the next page, and where they merely say that there is one.
_ADDRESSES = (
    "next", "next_url", "nextLink", "@odata.nextLink", "links.next", "links.next.href", "_links.next",
    "_links.next.href", "paging.next", "pagination.next", "pagination.next_url", "meta.next",
)  # fmt: skip
_MORE = (
    "has_more", "hasMore", "has_next", "hasNext", "next_cursor", "nextCursor", "next_page", "nextPageToken",
    "next_page_token", "meta.next_cursor", "pagination.next_cursor", "pagination.has_more",
    "response_metadata.next_cursor",
)  # fmt: skip


def read_page(path: str, items: str, following: str) -> dict[str, Any]:
    """Write the items of the answer in ``path`` to a file beside it, and tell of it.

    ``items`` is the field that holds them ("data.posts"; found by itself where empty), ``following`` the one that tells
    the next page, as an address or a cursor. Returns ``file`` (its name), ``items`` (how many), ``next`` (what stands
    in ``following`` or in one of the usual places, as text) and ``more`` (a field that says that there is more, without
    an address). Raises InputError for what is no JSON, and where the items are not found.
    """
    try:
        answer = json.loads(read_text(Path(path)))
    except ValueError as error:
        raise InputError(f"answers with something that is no JSON ({error}).", "Check the address.") from error
    found = _items(answer, items)
    written = json.dumps(found, ensure_ascii=False)
    target = Path(path).with_name(Path(path).name.replace(".body.json", ".items.json"))
    target.write_text(written, encoding="utf-8")
    named = [following] if following else _ADDRESSES
    addresses = (_text(_at(answer, place)) for place in named)
    return {
        "file": target.name,
        "items": len(found),
        "next": next((text for text in addresses if text and (following or _is_address(text))), ""),
        "more": next((place for place in _MORE if _at(answer, place) not in (None, False, "", 0)), ""),
        "digest": hashlib.sha256(written.encode()).hexdigest(),
    }


def _items(answer: Any, place: str) -> list[Any]:
    """The list of items; an answer without a list is one item."""
    if place:
        found = _at(answer, place)
        if isinstance(found, list):
            return found
        what = "nothing" if found is None else "no list"
        raise InputError(f"has {what} at ingest.api_items = {place!r}{_offered(answer)}.", "Name the list of items.")
    if isinstance(answer, list):
        return answer
    if not isinstance(answer, Mapping):
        return [answer]
    lists = [key for key, value in answer.items() if isinstance(value, list)]
    if len(lists) > 1:
        full = [key for key in lists if answer[key] and all(isinstance(row, Mapping) for row in answer[key])]
        if len(full) != 1:
            fix = f"Say which: --set ingest.api_items={(full or lists)[0]}"
            raise InputError(f"has several lists ({', '.join(lists)}).", fix)
        lists = full
    return list(answer[lists[0]]) if lists else [answer]


def _offered(answer: Any) -> str:
    return f" (its fields: {', '.join(map(str, answer))})" if isinstance(answer, Mapping) else ""


def _at(answer: Any, place: str) -> Any:
    """What stands at a path of fields and numbers ("data.0.title"); a field whose name has dots goes by that name."""
    if isinstance(answer, Mapping) and place in answer:
        return answer[place]
    for part in place.split("."):
        if isinstance(answer, Mapping):
            answer = answer.get(part)
        elif isinstance(answer, list) and part.isdecimal() and int(part) < len(answer):
            answer = answer[int(part)]
        else:
            return None
    return answer


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://", "/", "?"))

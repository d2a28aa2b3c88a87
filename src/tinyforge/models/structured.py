"""The JSON that a model was asked for, out of what it wrote: fences, prose around it, and small slips are forgiven."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any

ATTEMPTS = 40  # brackets that are tried as the beginning
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_OPEN = {"{": "}", "[": "]"}


def extract_json(text: str) -> Any:
    """The first JSON object or list in the text; None where there is none.

    Commas before a closing bracket are dropped, line breaks inside strings kept, and what was cut off at the end is
    closed after its last whole element.
    """
    for start in (match.start() for match in islice(re.finditer(r"[{\[]", text), ATTEMPTS)):
        found = _decode(text[start:])
        if isinstance(found, dict | list) and found:
            return found
    return None


def _decode(text: str) -> Any:
    decoder = json.JSONDecoder(strict=False)
    for attempt in (text, _TRAILING_COMMA.sub(r"\1", text), _closed(text)):
        try:
            return decoder.raw_decode(attempt)[0]
        except (ValueError, RecursionError):
            continue
    return None


def _closed(text: str) -> str:
    """A text that ends too early, cut after its last whole element, with its brackets closed."""
    stack: list[str] = []
    cut, needed, quoted, escaped = 0, "", False, False
    for place, mark in enumerate(text):
        if quoted:
            quoted = escaped or mark != '"'
            escaped = mark == "\\" and not escaped
        elif mark == '"':
            quoted = True
        elif mark in _OPEN:
            stack.append(_OPEN[mark])
        elif stack and mark == stack[-1]:
            stack.pop()
            cut, needed = place + 1, "".join(reversed(stack))
    return text[:cut] + needed

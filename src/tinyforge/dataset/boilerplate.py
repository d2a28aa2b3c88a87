"""Lines that many rows share at their beginning or end: headers, footers and signatures of the place they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_FEWEST_ROWS = 5
_SHARE = 0.2
_FEWEST_WORDS = 3


def boilerplate(texts: Iterable[str]) -> frozenset[str]:
    """First and last lines, of three words or more, that a fifth of the texts of several lines have (five at least)."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        lines = [line.strip() for line in text.strip().split("\n") if line.strip()]
        if len(lines) < 2:
            continue
        total += 1
        counts.update({lines[0], lines[-1]})
    fewest = max(_FEWEST_ROWS, _SHARE * total)
    return frozenset(line for line, n in counts.items() if n >= fewest and len(line.split()) >= _FEWEST_WORDS)


def without(text: str, lines: frozenset[str]) -> str:
    """The text without such lines at its beginning and end; one that holds nothing else stays as it is."""
    kept = text.split("\n")
    while len(kept) > 1 and (not kept[0].strip() or kept[0].strip() in lines):
        kept.pop(0)
    while len(kept) > 1 and (not kept[-1].strip() or kept[-1].strip() in lines):
        kept.pop()
    left = "\n".join(kept)
    return text if left.strip() in lines or not left.strip() or left == text.strip("\n") else left

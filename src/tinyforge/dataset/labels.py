"""Labels that look like two spellings of one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from difflib import SequenceMatcher

_RARE = 0.1  # of the more frequent one: a typo is made now and then
_NEAR = 0.8
_SHORTEST = 4  # shorter labels differ by a letter because they mean different things
_PARTS = re.compile(r"[\W_]+")


def variants(counts: Mapping[str, int]) -> dict[str, str]:
    """Labels that differ only in case, spaces and punctuation, each with the most frequent of its spellings."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        spellings[_PARTS.sub(" ", label).strip().casefold() or label].append(label)
    found = {}
    for group in spellings.values():
        best = min(group, key=lambda label: (-counts[label], label))
        found.update({label: best for label in group if label != best})
    return found


def typos(counts: Mapping[str, int]) -> dict[str, str]:
    """Rare labels that are nearly equal to a frequent one, each with it; numbered labels are never taken for typos."""
    known = variants(counts)
    merged: Counter[str] = Counter()
    for label, count in counts.items():
        merged[known.get(label, label)] += count
    found = {}
    for label, count in merged.items():
        near = [other for other in merged if merged[other] * _RARE >= count and _alike(label, other)]
        if near:
            found[label] = min(near, key=lambda other: (-merged[other], other))
    return found


def _alike(one: str, other: str) -> bool:
    a, b = one.casefold(), other.casefold()
    if a == b or min(len(a), len(b)) < _SHORTEST or any(char.isdigit() for char in a + b):
        return False
    return SequenceMatcher(None, a, b).ratio() >= _NEAR

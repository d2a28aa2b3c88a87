"""What hangs together: the connected components of a graph given by its links (union-find)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def components(items: Iterable[Item], links: Iterable[tuple[Item, Item]]) -> list[list[Item]]:
    """The groups of ``items`` that links join, directly or through others; groups and members in the items' order."""
    parent = {item: item for item in items}

    def find(item: Item) -> Item:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, other in links:
        left, right = find(one), find(other)
        if left != right:
            parent[right] = left
    groups: dict[Item, list[Item]] = defaultdict(list)
    for item in parent:
        groups[find(item)].append(item)
    return list(groups.values())

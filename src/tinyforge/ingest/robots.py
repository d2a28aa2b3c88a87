"""robots.txt as RFC 9309 has it: the longest rule that matches decides, ``*`` and ``$`` mean what they say there.

The standard library's reader takes the first match and no wildcards, and so would fetch what a site asks us not to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

AGENT = "tinyforge"
_LONGEST_DELAY = 30.0


@dataclass(frozen=True)
class Robots:
    """The rules for us: (allow, pattern) pairs, and how many seconds the site wants between two requests."""

    rules: tuple[tuple[bool, str], ...] = ()
    delay: float = 0.0

    def allows(self, path: str) -> bool:
        """Whether ``path`` (with its query) may be fetched."""
        path = unquote(path)
        matching = [(len(pattern), allow) for allow, pattern in self.rules if matches(pattern, path)]
        return max(matching)[1] if matching else True  # of two equally long ones the one that allows wins


NOTHING = Robots(((False, "/"),))


def matches(pattern: str, path: str) -> bool:
    """Whether a rule's pattern covers a path; in time linear in both, whatever a site writes."""
    whole = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    place = len(first)
    if not rest:
        return not whole or place == len(path)
    *middle, last = rest
    for piece in middle:
        found = path.find(piece, place)
        if found < 0:
            return False
        place = found + len(piece)
    return path.endswith(last) and len(path) - len(last) >= place if whole else path.find(last, place) >= 0


def parse_robots(text: str) -> Robots:
    """The rules of the groups that name us, else of those for everyone."""
    rules: dict[str, list[tuple[bool, str]]] = {}
    delays: dict[str, float] = {}
    agents: list[str] = []
    in_rules = False
    for key, value in _lines(text):
        if key == "user-agent":
            agents = [*([] if in_rules else agents), value.lower()]
            rules.setdefault(value.lower(), [])
            in_rules = False
            continue
        in_rules = True
        for agent in agents:
            if key in {"allow", "disallow"} and value:
                rules[agent].append((key == "allow", unquote(value)))
            elif key == "crawl-delay" and value.replace(".", "", 1).isdecimal():
                delays[agent] = min(float(value), _LONGEST_DELAY)
    agent = AGENT if AGENT in rules else "*"
    return Robots(tuple(rules.get(agent, ())), delays.get(agent, 0.0))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.removeprefix("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()

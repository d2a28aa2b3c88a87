"""Where the next examples are wanted: a budget per topic that follows what is missing and what was accepted.

A round goes by the square root of a topic's fact units times its coverage deficit times the acceptance seen there, and
no section comes twice before each has come once. A round that would add less than one per cent of coverage is not run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tinyforge.synthesize.facts import Place
from tinyforge.synthesize.topics import Topic

LEAST_GAIN = 0.01
LOW = 0.25  # acceptance under which a kind gives way to the others


@dataclass
class Record:
    """What became of what was tried, by any name: a rule, a prompt, a topic."""

    tried: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, accepted: bool) -> None:
        self.tried[name] += 1
        self.accepted[name] += accepted

    def acceptance(self, name: str) -> float:
        """The share accepted, with one success and one failure added: what was never tried counts a half."""
        return (self.accepted[name] + 1) / (self.tried[name] + 2)


def shares(weights: Sequence[float], total: int, floors: Sequence[int] | None = None) -> list[int]:
    """``total`` divided by the weights in whole numbers (largest remainders first), each at least its floor.

    Where the floors alone come to more than ``total``, they are what is given.
    """
    given = list(floors or [0] * len(weights))
    left = total - sum(given)
    weight = sum(weights)
    if left <= 0 or weight <= 0:
        return given
    exact = [left * w / weight for w in weights]
    whole = [math.floor(share) for share in exact]
    order = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for i in order[: left - sum(whole)]:
        whole[i] += 1
    return [a + b for a, b in zip(given, whole, strict=True)]


def section(place: Place) -> str:
    """The name of a section in a Record."""
    return f"section {place.number}"


def round_shares(topics: Sequence[Topic], record: Record, total: int) -> list[int]:
    """By √facts × coverage deficit × observed acceptance × weight, with a floor of one for each section without any.

    Where the floors come to more than ``total``, it is divided among the sections that wait for their first.
    """
    weights = [t.weight * math.sqrt(len(t.units)) * t.deficit * record.acceptance(t.name) for t in topics]
    waiting = [sum(_waits(topic, place, record) for place in topic.askable) for topic in topics]
    if sum(waiting) > total:
        return _capped(weights, total, waiting)
    return shares(weights, total, waiting)


def _waits(topic: Topic, place: Place, record: Record) -> bool:
    return not record.tried[section(place)] and not topic.covered_in(place)


def _capped(weights: Sequence[float], total: int, most: Sequence[int]) -> list[int]:
    """``total``, which is at most the sum of ``most``, divided by the weights, none above its ``most``."""
    given = [0] * len(weights)
    while (left := total - sum(given)) > 0:
        free = [w if n < m else 0.0 for w, n, m in zip(weights, given, most, strict=True)]
        if not any(free):
            break
        more = shares(free, left)
        given = [min(n + k, m) for n, k, m in zip(given, more, most, strict=True)]
    return given


def order(topic: Topic, record: Record) -> list[Place]:
    """The sections that can be asked about: first those where least was found for the acceptance seen there."""

    def behind(place: Place) -> tuple[float, int, int]:
        found = topic.covered_in(place)
        return (found + 1) / record.acceptance(section(place)), found - topic.units_in(place), place.number

    return sorted(topic.askable, key=behind)


def coverage(topics: Sequence[Topic]) -> float:
    """The share of all fact units that an example stands on."""
    total = sum(len(topic.units) for topic in topics)
    return sum(len(topic.covered) for topic in topics) / total if total else 0.0


def expected_gain(topics: Sequence[Topic], gains: Mapping[str, float], wanted: Sequence[int]) -> float:
    """The coverage that another round should add: the units that an attempt newly covered, where they are missing.

    ``gains`` is by topic; one that was not tried yet is taken to be like the others.
    """
    total = sum(len(topic.units) for topic in topics)
    usual = fmean(gains.values()) if gains else 0.0
    more = (
        min(n * gains.get(topic.name, usual), len(topic.units) - len(topic.covered))
        for topic, n in zip(topics, wanted, strict=True)
    )
    return sum(more) / total if total else 0.0


def turn(kinds: Sequence[str], topic: str, record: Record, used: Mapping[str, int]) -> str:
    """The kind to try next in a topic: the one that is furthest behind its part, which follows its acceptance.

    ``used`` counts the kinds over all topics, and under "topic, line break, kind" those of a topic, which count most.
    What is accepted rarely, here or everywhere, is left aside as long as anything else does better.
    """
    rates = {kind: min(record.acceptance(kind), record.acceptance(f"{topic}\n{kind}")) for kind in kinds}
    good = [kind for kind in kinds if rates[kind] >= LOW] or list(kinds)

    def behind(kind: str) -> tuple[float, int]:
        here, all_over = used.get(f"{topic}\n{kind}", 0), used.get(kind, 0)
        return (len(kinds) * here + all_over + 1) / rates[kind], kinds.index(kind)

    return min(good, key=behind)

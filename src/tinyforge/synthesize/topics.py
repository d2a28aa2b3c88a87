"""What a corpus is about, and how much of it the examples cover: topics, their fact units, and what is missing.

A topic is a branch of the heading tree; branches that the embeddings find alike are one topic. A fact unit is a
sentence or a table cell that an example could stand on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from tinyforge.records import Span
from tinyforge.synthesize.facts import Place
from tinyforge.synthesize.grounding import covered
from tinyforge.synthesize.language import words
from tinyforge.synthesize.places import cells

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ALIKE = 0.75  # cosine of two branches' mean vectors from which they are one topic
_FEWEST_WORDS = 4


@dataclass
class Topic:
    """``places`` are its sections; ``weight`` is how much a model still gets wrong here (1: nothing known)."""

    name: str
    places: list[Place]
    weight: float = 1.0
    covered: set[int] = field(default_factory=set)

    @cached_property
    def units(self) -> list[Span]:
        return sorted((u for place in self.places for u in units(place)), key=lambda s: (s.document, s.start))

    @property
    def askable(self) -> list[Place]:
        """The sections that say anything in sentences."""
        return [place for place in self.places if place.all_sentences and not place.is_apparatus]

    @cached_property
    def _numbers(self) -> dict[int, list[int]]:
        return {
            place.number: [n for n, unit in enumerate(self.units) if unit.overlaps(place.section.span)]
            for place in self.places
        }

    def units_in(self, place: Place) -> int:
        return len(self._numbers[place.number])

    def covered_in(self, place: Place) -> int:
        """How many of the section's units an example stands on."""
        return sum(n in self.covered for n in self._numbers[place.number])

    def add(self, evidence: Iterable[Span]) -> int:
        """Note what an example stands on; how many units that newly covers."""
        before = len(self.covered)
        self.covered |= covered(self.units, evidence)
        return len(self.covered) - before

    @property
    def deficit(self) -> float:
        """The share of its units that no example stands on."""
        return 1 - len(self.covered) / len(self.units) if self.units else 0.0


def units(place: Place) -> list[Span]:
    """The sentences and table cells of a section that could be asked about, in their order, without overlaps."""
    if place.is_apparatus:
        return []
    inside = [block.span for block in cells(place.section)]
    spans = [s.span for s in place.all_sentences if len(words(s.text)) >= _FEWEST_WORDS]
    result: list[Span] = []
    for span in sorted((*inside, *spans), key=lambda s: (s.start, -s.end)):
        if not result or span.start >= result[-1].end:
            result.append(span)
    return result


def topics(
    places: Sequence[Place],
    vectors: Mapping[int, NDArray[np.float32]] | None = None,
    weights: Mapping[tuple[str, str], float] | None = None,
) -> list[Topic]:
    """The topic map, in the order of the documents.

    ``vectors`` holds a unit vector for each section's number; without them a topic is a branch alone. ``weights`` is
    by source and section path.
    """
    branches: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in places:
        branches[place.document.id, place.path.split(" > ")[min(1, place.path.count(" > "))]].append(place)
    groups = [list(found) for found in branches.values()]
    if vectors:
        groups = _merged(groups, vectors)
    return [Topic(_name(found), found, _weight(found, weights or {})) for found in groups]


def _name(places: Sequence[Place]) -> str:
    first = places[0]
    return " > ".join(dict.fromkeys((first.title, *first.path.split(" > ")[1:2])))


def _weight(places: Sequence[Place], weights: Mapping[tuple[str, str], float]) -> float:
    known = [weights[key] for place in places if (key := (place.document.source, place.path)) in weights]
    return sum(known) / len(known) if known else 1.0


def _merged(groups: list[list[Place]], vectors: Mapping[int, NDArray[np.float32]]) -> list[list[Place]]:
    """Each branch joins the earlier topic that it is most like, where it is alike enough (leader clustering)."""
    import numpy as np

    leaders: list[NDArray[np.float32]] = []
    merged: list[list[Place]] = []
    for group in groups:
        found = [vectors[place.number] for place in group if place.number in vectors]
        mean = np.mean(found, axis=0) if found else np.zeros(1, np.float32)
        length = float(np.linalg.norm(mean))
        mean = mean / length if length else mean
        likeness = [float(leader @ mean) if leader.shape == mean.shape else 0.0 for leader in leaders]
        best = max(range(len(likeness)), key=lambda i: (likeness[i], -i), default=-1)
        if best >= 0 and likeness[best] >= ALIKE:
            merged[best] += group
        else:
            leaders.append(mean)
            merged.append(list(group))
    return merged

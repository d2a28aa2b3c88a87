"""A share of the rows kept for the dev loss, by what they ask: a question is never on both sides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tinyforge.errors import InputError
from tinyforge.records import Example, content_id

FEWEST_ROWS = 20  # of fewer, the one or two that a dev loss would rest on say nothing, and are missed in training
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class HeldOut:
    """Both sides in the order of the rows; ``note`` says in words what was held out, or why nothing was."""

    train: list[Example]
    dev: list[Example]
    note: str


def hold_out(examples: Sequence[Example], share: float, seed: int) -> HeldOut:
    """Hold out about ``share`` of the rows, at least one where there are FEWEST_ROWS or more.

    Rows with the same last question (but for case and punctuation), or of the same fact or cluster, stay together. The
    same rows, share and seed always give the same sides, in whatever order the rows come. Raises InputError for a
    share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"validation share {share:g}: must be at least 0 and below 1.", "0.1 keeps a tenth.")
    if share == 0:
        return HeldOut(list(examples), [], "nothing is held out, as asked: there is no dev loss")
    if len(examples) < FEWEST_ROWS:
        return HeldOut(list(examples), [], f"{len(examples)} rows are too few to hold any out: there is no dev loss")
    wanted = min(len(examples) - 1, max(1, round(share * len(examples))))
    chosen = _choose(_groups(examples), wanted, seed)
    if not chosen:
        return HeldOut(list(examples), [], "all rows hang together, so none is held out: there is no dev loss")
    dev = [replace(e, split="dev") for i, e in enumerate(examples) if i in chosen]
    train = [e for i, e in enumerate(examples) if i not in chosen]
    return HeldOut(train, dev, f"{len(dev)} of {len(examples)} rows are held out for the dev loss")


def _keys(example: Example) -> Iterator[str]:
    asked = example.text or example.question
    yield "asked " + (" ".join(_WORD.findall(asked.lower())) or asked)
    for name, value in (("fact", example.fact), ("cluster", example.cluster)):
        if value:
            yield f"{name} {value}"


def _groups(examples: Sequence[Example]) -> dict[str, list[int]]:
    """The places of rows that share a key, directly or through others, named by what they say (not by order)."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for example in examples:
        first, *others = _keys(example)
        for other in others:
            leader[find(other)] = find(first)
    members: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        members[find(next(_keys(example)))].append(index)
    return {min(examples[index].id for index in group): group for group in members.values()}


def _choose(groups: dict[str, list[int]], wanted: int, seed: int) -> set[int]:
    """Whole groups in random order up to ``wanted`` rows; where each is larger than that, the smallest one."""
    if len(groups) == 1:
        return set()
    order = sorted(groups, key=lambda name: content_id("hold out", str(seed), name))
    chosen: set[int] = set()
    for name in order:
        if len(chosen) + len(groups[name]) <= wanted:
            chosen.update(groups[name])
    return chosen or set(groups[min(order, key=lambda name: len(groups[name]))])

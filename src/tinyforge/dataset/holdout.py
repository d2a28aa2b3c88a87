"""A share of the rows kept for the dev loss, by what they ask: a question is never on both sides."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tinyforge.dataset.components import components
from tinyforge.dataset.origin import Origin, origin_of
from tinyforge.dataset.pairs import output_text
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
    same rows, share and seed always give the same sides, in whatever order the rows come. Rows of chats go by time
    instead: whole conversations, the latest held out. Raises InputError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InputError(f"validation share {share:g}: must be at least 0 and below 1.", "0.1 keeps a tenth.")
    if share == 0:
        return HeldOut(list(examples), [], "nothing is held out, as asked: there is no dev loss")
    if len(examples) < FEWEST_ROWS:
        return HeldOut(list(examples), [], f"{len(examples)} rows are too few to hold any out: there is no dev loss")
    wanted = min(len(examples) - 1, max(1, round(share * len(examples))))
    origins = [origin_of(example.metadata) for example in examples]
    if all(origins):
        return _latest(examples, [origin for origin in origins if origin], wanted)
    chosen = _choose(_groups(examples), wanted, seed)
    if not chosen:
        return HeldOut(list(examples), [], "all rows hang together, so none is held out: there is no dev loss")
    dev = [replace(e, split="dev") for i, e in enumerate(examples) if i in chosen]
    train = [e for i, e in enumerate(examples) if i not in chosen]
    return HeldOut(train, dev, f"{len(dev)} of {len(examples)} rows are held out for the dev loss")


def with_known_classes(sides: HeldOut) -> HeldOut:
    """The same, but for held-out rows of a class that no trained row has: these are trained on."""
    known = {output_text(example) for example in sides.train}
    alone = [example for example in sides.dev if output_text(example) not in known]
    if not alone:
        return sides
    dev = [example for example in sides.dev if output_text(example) in known]
    train = [*sides.train, *(replace(example, split="train") for example in alone)]
    return HeldOut(train, dev, f"{sides.note}; {len(alone)} of them are trained on, being all of their class")


def _latest(examples: Sequence[Example], origins: Sequence[Origin], wanted: int) -> HeldOut:
    """Conversations that began after every trained one had ended; those that span the border are in neither set."""
    starts = sorted(origin.start for origin in origins)
    border = starts[len(starts) - wanted]
    dev, train, left = [], [], 0
    taught = {_asked(e) for e, origin in zip(examples, origins, strict=True) if origin.end < border}
    for example, origin in zip(examples, origins, strict=True):
        if origin.end < border:
            train.append(example)
        elif origin.start >= border and _asked(example) not in taught:
            dev.append(replace(example, split="dev"))
        else:
            left += 1
    if not dev or len(train) < len(dev):
        return HeldOut(
            list(examples), [], "the conversations overlap in time, so none is held out: there is no dev loss"
        )
    beside = f"; {left} that span the border, or ask what is trained, are in neither set" if left else ""
    return HeldOut(train, dev, f"{len(dev)} of {len(examples)} rows, the latest, are held out for the dev loss{beside}")


def _asked(example: Example) -> str:
    """Everything before the answer, without case and punctuation."""
    said = example.text or " ".join(m.content for m in example.messages[:-1])
    return " ".join(_WORD.findall(said.lower())) or said


def _keys(example: Example) -> Iterator[str]:
    asked = example.text or example.question
    yield "asked " + (" ".join(_WORD.findall(asked.lower())) or asked)
    for name, value in (("fact", example.fact), ("cluster", example.cluster)):
        if value:
            yield f"{name} {value}"


def _groups(examples: Sequence[Example]) -> dict[str, list[int]]:
    """The places of rows that share a key, directly or through others, named by what they say (not by order)."""
    keys = [list(_keys(example)) for example in examples]
    links = [(keys[index][0], other) for index in range(len(examples)) for other in keys[index][1:]]
    joined = components([key for listed in keys for key in listed], links)
    group_of = {key: number for number, group in enumerate(joined) for key in group}
    members: dict[int, list[int]] = defaultdict(list)
    for index, listed in enumerate(keys):
        members[group_of[listed[0]]].append(index)
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

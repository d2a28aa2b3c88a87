"""What is wrong with training data, own or foreign, and where: each problem with its file, its line and the fix."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyforge.dataset.checks import ADVICE, KINDS, answers_of, problems_of
from tinyforge.dataset.labels import typos, variants
from tinyforge.dataset.rows import refuse_chat
from tinyforge.dataset.shapes import RowError, identify, read_row
from tinyforge.dataset.similar import shingles, words
from tinyforge.dataset.tables import open_table
from tinyforge.records import Example

LEAK_WORDS = 13
_CAP_CHARACTERS = 200  # shorter texts that are equally long are so by chance
_CAP_ROWS = 3
_ENDS = (".", "!", "?", "…", '"', "”", "'", ")", "]", "}", "`", ":", "|", ">", "。", "！", "？")


@dataclass(frozen=True, slots=True)
class Problem:
    """``place`` is ``file:line``; ``kind`` is one of checks.KINDS, which knows the fix; ``detail`` is what was seen."""

    place: str
    kind: str
    detail: str = ""

    @property
    def refused(self) -> bool:
        return KINDS[self.kind].refused

    @property
    def fix(self) -> str:
        special = (advice for start, advice in ADVICE.items() if self.detail.startswith(start))
        return next(special, KINDS[self.kind].fix) if self.kind == "unusable row" else KINDS[self.kind].fix

    def to_json(self) -> dict[str, Any]:
        level = "error" if self.refused else "warning"
        return {"place": self.place, "problem": self.kind, "detail": self.detail, "level": level, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class Numbered:
    """A row of a file: as it was read, its example (None where it has none), and where it stands."""

    place: str
    raw: Any
    example: Example | None


@dataclass
class Validation:
    """What files hold and what is wrong with them. ``kinds`` and ``shapes`` count usable rows."""

    sources: list[str] = field(default_factory=list)
    rows: int = 0
    usable: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    shapes: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind, refusals first, then the most frequent."""
        found = Counter(problem.kind for problem in self.problems)
        return dict(sorted(found.items(), key=lambda item: (not KINDS[item[0]].refused, -item[1], item[0])))

    @property
    def refused(self) -> int:
        return sum(problem.refused for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "sources": self.sources,
            "rows": self.rows,
            "usable": self.usable,
            "kinds": dict(self.kinds),
            "shapes": dict(self.shapes),
            "labels": dict(self.labels.most_common()),
            "unused_fields": dict(self.unused),
            "notes": self.notes,
            "counts": self.counts,
            "errors": self.refused,
            "problems": [problem.to_json() for problem in self.problems],
        }


def validate(paths: Sequence[Path]) -> Validation:
    """Every row of every file, looked at alone, beside the others of its file, and beside those of the first file.

    The first file is what is trained, the others are tests: a row of theirs that the first one gives away is a leak.
    Raises InputError when a file cannot be read at all.
    """
    found = Validation([str(path) for path in paths])
    files = [list(_read(path, found)) for path in paths]
    for rows in files:
        found.problems += _across(rows)
    if not found.rows:
        found.problems.append(Problem(str(paths[0]), "unusable row", "the file holds no rows"))
    usable = [[row for row in rows if row.example] for rows in files]
    for rows in usable[1:]:
        found.problems += _leaks(usable[0], rows)
    return found


def _read(path: Path, found: Validation) -> Iterator[Numbered]:
    refuse_chat(path)
    table = open_table(path)
    found.notes += table.notes
    for line, raw in table.rows:
        place = f"{table.name}:{line}"
        found.rows += 1
        try:
            shape, example, unused = read_row(raw)
        except RowError as error:
            found.problems.append(Problem(place, "unusable row", str(error)))
            yield Numbered(place, raw, None)
            continue
        found.usable += 1
        found.kinds[example.kind] += 1
        found.shapes[shape.name] += 1
        found.unused.update(unused)
        if example.label:
            found.labels[example.label] += 1
        found.problems += [Problem(place, kind, detail) for kind, detail in problems_of(example)]
        yield Numbered(place, raw, example)


def _across(rows: Sequence[Numbered]) -> Iterator[Problem]:
    usable = [(row, row.example) for row in rows if row.example is not None]
    yield from _mixed(usable)
    yield from _repeats(usable)
    yield from _shared_ids(rows)
    yield from _conflicts(usable)
    yield from _caps(usable)
    yield from _labels(usable)


Usable = Sequence[tuple[Numbered, Example]]


def _mixed(usable: Usable) -> Iterator[Problem]:
    """Rows of the rarer kinds; only one kind can be trained at once."""
    kinds = Counter(example.kind for _, example in usable)
    if len(kinds) > 1:
        main = kinds.most_common(1)[0][0]
        for row, example in usable:
            if example.kind != main:
                yield Problem(row.place, "different kinds of rows", f"{example.kind}, where most are {main}")


def _repeats(usable: Usable) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for row, example in usable:
        first = seen.setdefault(identify(example), row.place)
        if first != row.place:
            yield Problem(row.place, "repeated row", f"of {first}")


def _shared_ids(rows: Sequence[Numbered]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for row in rows:
        name = row.raw.get("id") if isinstance(row.raw, Mapping) else None
        if isinstance(name, (str, int)) and name != "":
            first = seen.setdefault(str(name), row.place)
            if first != row.place:
                yield Problem(row.place, "several rows with one id", f"{name} is also {first}")


def asked_of(example: Example) -> str:
    """What is given before the answer, but for case and punctuation; of running text nothing."""
    given = example.messages if example.kind == "labelled" else example.messages[:-1]
    return "\n".join(" ".join(words(message.content)) or message.content for message in given)


def _conflicts(usable: Usable) -> Iterator[Problem]:
    first: dict[str, tuple[str, str]] = {}
    for row, example in usable:
        if example.kind not in ("chat", "labelled"):
            continue
        answer = example.label or " ".join(words(example.answer)) or example.answer
        place, known = first.setdefault(asked_of(example), (row.place, answer))
        if known != answer:
            said = f"{example.label!r} here, {known!r} in {place}" if example.label else f"with {place}"
            yield Problem(row.place, "conflicting answers", said)


def _caps(usable: Usable) -> Iterator[Problem]:
    """Texts that end in the middle of a sentence, several at the very same, greatest length: something cut them."""
    sizes = Counter(len(text) for _, example in usable for text in answers_of(example))
    longest = max(sizes, default=0)
    if longest < _CAP_CHARACTERS or sizes[longest] < _CAP_ROWS:
        return
    for row, example in usable:
        if any(len(text) == longest and not text.rstrip().endswith(_ENDS) for text in answers_of(example)):
            yield Problem(row.place, "cut off", f"at {longest} characters, as {sizes[longest] - 1} others")


def _labels(usable: Usable) -> Iterator[Problem]:
    counts = Counter(example.label for _, example in usable if example.label)
    for kind, found in (("label spelt in several ways", variants(counts)), ("label with a likely typo", typos(counts))):
        for row, example in usable if found else ():
            if example.label in found:
                meant = found[example.label]
                detail = f"{example.label!r} ({counts[example.label]}) beside {meant!r} ({counts[meant]})"
                yield Problem(row.place, kind, detail)


def _leaks(train: Sequence[Numbered], test: Sequence[Numbered]) -> Iterator[Problem]:
    """Rows of a test whose question is trained, or whose answer shares 13 words in a row with a trained one."""
    asked = {asked_of(row.example): row.place for row in reversed(train) if row.example and row.example.messages}
    grams = {gram: row.place for row in reversed(train) if row.example for gram in answer_grams(row.example)}
    for row in test:
        if row.example is None:
            continue
        question = asked_of(row.example)
        shared = next((gram for gram in sorted(answer_grams(row.example)) if gram in grams), None)
        if question and question in asked:
            yield Problem(row.place, "test leakage", f"{asked[question]} asks the same")
        elif shared is not None:
            yield Problem(row.place, "test leakage", f"shares {shared!r} with {grams[shared]}")


def answer_grams(example: Example, size: int = LEAK_WORDS) -> set[str]:
    """Every ``size`` words in a row of what is learned; shorter texts have none."""
    found = [words(text) for text in answers_of(example)]
    return {gram for one in found if len(one) >= size for gram in shingles(one, size)}


def listed(problems: Iterable[Problem], most: int) -> dict[str, list[Problem]]:
    """The first ``most`` problems of each kind."""
    found: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        if len(found[problem.kind]) < most:
            found[problem.kind].append(problem)
    return found

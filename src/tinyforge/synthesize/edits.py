"""What a person changed in the dataset: kept beside it, and applied each time that the dataset is made again.

A change names its fact by id, and by what is asked of which section: a document that changed elsewhere gives the fact
another id, and the change still finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tinyforge.records import Example, Message
from tinyforge.run import read_jsonl, write_jsonl
from tinyforge.synthesize.facts import Rejected
from tinyforge.synthesize.language import normal
from tinyforge.synthesize.ledger import Entry


@dataclass(frozen=True, slots=True)
class Edit:
    """A fact to leave out (``answer`` empty), or the answer that it gets; ``example`` where one wording is meant."""

    fact: str
    example: str
    rule: str
    source: str
    section: str
    asked: str
    was: str
    answer: str = ""

    def fits(self, row: Example) -> bool:
        """Whether it means this row."""
        if self.example:
            same = row.id == self.example
            return same or (self._place(row) and normal(row.question) == normal(self.asked))
        return row.fact == self.fact or (self._place(row) and normal(row.answer) == normal(self.was))

    def _place(self, row: Example) -> bool:
        said = row.metadata
        return (row.rule, said.get("source"), said.get("section")) == (self.rule, self.source, self.section)


def edit_of(entry: Entry, name: str, answer: str = "") -> Edit:
    """The change that a person asks for of a ledger's entry, found by ``name``: the id of a fact, or of one example.

    An answer is always the whole fact's: its wordings share it.
    """
    worded = () if answer or entry.id.startswith(name) else entry.wordings
    example, asked = next(((e, q) for e, q in worded if e.startswith(name)), ("", entry.question))
    return Edit(entry.id, example, entry.rule, entry.source, entry.section, asked, entry.answer, answer)


def read_edits(path: Path) -> list[Edit]:
    return [Edit(**row) for row in read_jsonl(path)] if path.is_file() else []


def add_edit(path: Path, edit: Edit) -> None:
    """Keep it; an earlier one for the same fact or example gives way."""
    kept = [e for e in read_edits(path) if (e.fact, e.example) != (edit.fact, edit.example)]
    write_jsonl(path, (asdict(e) for e in [*kept, edit]))


def apply_edits(examples: Iterable[Example], edits: Sequence[Edit]) -> tuple[list[Example], list[Rejected], list[Edit]]:
    """The examples as the person wants them, what they left out, and the changes that no example fits any more."""
    kept: list[Example] = []
    excluded: dict[str, Rejected] = {}
    used: set[int] = set()
    for example in examples:
        found = next((n for n, edit in enumerate(edits) if edit.fits(example)), None)
        if found is None:
            kept.append(example)
            continue
        used.add(found)
        if edits[found].answer:
            kept.append(_edited(example, edits[found].answer))
        else:
            name = example.id if edits[found].example else example.fact
            excluded.setdefault(name, _excluded(name, example))
    return kept, list(excluded.values()), [edit for n, edit in enumerate(edits) if n not in used]


def _edited(example: Example, answer: str) -> Example:
    messages = (*example.messages[:-1], Message("assistant", answer))
    return replace(example, messages=messages, metadata={**example.metadata, "edited": True})


def _excluded(name: str, example: Example) -> Rejected:
    said = example.metadata
    return Rejected(
        example.rule, "excluded", example.question, example.answer, said["source"], said["section"],
        example.evidence, said.get("version", ""), said.get("score"), name,
    )  # fmt: skip

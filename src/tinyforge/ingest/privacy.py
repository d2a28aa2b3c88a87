"""What gives people and secrets away in a text, replaced by stand-ins before anything is stored.

    find      text -> findings, without changing it
    redact    text -> the text with stand-ins, and the findings with their places in both
    patterns.py, secret_patterns.py, roster.py   what is looked for; pseudonyms.py   what it is replaced by

Names are found where a roster says who there is; a text without one keeps the names in it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tinyforge.ingest.patterns import FINDERS
from tinyforge.ingest.pseudonyms import PERSON, Pseudonyms
from tinyforge.ingest.roster import Roster
from tinyforge.records import Block, Document, Span

Redaction = Literal["auto", "on", "off"]

KINDS = (*FINDERS, PERSON)
SECRET_KINDS = ("SECRET", "CREDENTIALS", "IBAN", "CARD")
"""What no model should ever learn, in whatever document it stands."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters ``[start, end)`` of the text are of this kind; ``value`` tells which one (for a person, the key).

    ``at`` is where the stand-in begins in the redacted text, and ``stand_in`` what it is; empty before redaction.
    """

    kind: str
    start: int
    end: int
    value: str
    at: int = 0
    stand_in: str = ""


def find(text: str, roster: Roster | None = None, kinds: Collection[str] = KINDS) -> list[Finding]:
    """Everything of these kinds in ``text``, from left to right and without overlaps."""
    taken: list[Finding] = []
    for kind in FINDERS:
        if kind in kinds:
            _take(taken, [Finding(kind, a, b, text[a:b]) for a, b in FINDERS[kind](text)])
    if roster is not None and PERSON in kinds:
        _take(taken, [Finding(PERSON, a, b, key) for a, b, key in roster.find(text)])
    return taken


def _take(taken: list[Finding], found: Iterable[Finding]) -> None:
    """Add those that overlap with nothing so far, keeping the order."""
    for one in sorted(found, key=lambda f: (f.start, -f.end)):
        place = bisect_right(taken, one.start, key=lambda f: f.start)
        before = taken[place - 1].end if place else 0
        after = taken[place].start if place < len(taken) else one.end
        if before <= one.start and one.end <= after:
            taken.insert(place, one)


def redact(
    text: str,
    pseudonyms: Pseudonyms,
    roster: Roster | None = None,
    names: dict[str, str] | None = None,
    kinds: Collection[str] = KINDS,
) -> tuple[str, list[Finding]]:
    """The text with a stand-in for every finding. ``names`` gives the stand-in of each key of the roster."""
    parts: list[str] = []
    done: list[Finding] = []
    last = length = 0
    for one in find(text, roster, kinds):
        stand_in = (names or {})[one.value] if one.kind == PERSON else pseudonyms.of(one.kind, one.value)
        parts += [text[last : one.start], stand_in]
        length += one.start - last
        done.append(replace(one, at=length, stand_in=stand_in))
        last, length = one.end, length + len(stand_in)
    return "".join([*parts, text[last:]]), done


def moved(offset: int, findings: Sequence[Finding], ends: bool = False) -> int:
    """Where ``offset`` of the text is after redaction; inside a finding, the border of its stand-in.

    ``ends`` tells that the offset is the end of a span, which then covers the whole stand-in.
    """
    place = bisect_right(findings, offset, key=lambda f: f.start) - 1
    if place < 0:
        return offset
    one = findings[place]
    if one.start < offset < one.end:
        return one.at + (len(one.stand_in) if ends else 0)
    return one.at if offset == one.start else offset - one.end + one.at + len(one.stand_in)


def redact_document(
    document: Document, pseudonyms: Pseudonyms, kinds: Collection[str] = KINDS
) -> tuple[Document, Counter[str]]:
    """The document with stand-ins, its blocks moved along, and how many of each kind there were."""
    text, findings = redact(document.text, pseudonyms, kinds=kinds)
    if not findings:
        return document, Counter()
    name = Document.identify(document.source, text)

    def plain(label: str) -> str:
        return redact(label, pseudonyms, kinds=kinds)[0]

    blocks = tuple(
        Block(
            b.kind,
            Span(name, moved(b.span.start, findings), moved(b.span.end, findings, True)),
            b.level,
            plain(b.label),
            plain(b.row),
        )
        for b in document.blocks
    )
    metadata = {key: plain(value) if isinstance(value, str) else value for key, value in document.metadata.items()}
    return Document(name, text, blocks, document.source, metadata), Counter(f.kind for f in findings)


def redact_documents(
    documents: Iterable[Document], mode: Redaction, pseudonyms: Pseudonyms, replaced: Counter[str]
) -> Iterator[Document]:
    """Every document as it comes by ``mode``: ``auto`` replaces what is secret, ``on`` addresses and phone numbers as
    well, ``off`` nothing. ``replaced`` counts the stand-ins of each kind."""
    kinds = {"auto": SECRET_KINDS, "on": KINDS, "off": ()}[mode]
    for document in documents:
        kept, counts = redact_document(document, pseudonyms, kinds) if kinds else (document, Counter[str]())
        replaced.update(counts)
        yield kept


def in_words(counts: Counter[str]) -> str:
    """``34 names, 2 e-mail addresses``."""
    words = {
        PERSON: "name", "EMAIL": "e-mail address", "PHONE": "phone number", "IBAN": "bank account", "CARD": "card",
        "IP": "network address", "SECRET": "secret", "CREDENTIALS": "login in a link",
    }  # fmt: skip
    return ", ".join(f"{n:,} {_plural(words[kind], n)}" for kind, n in counts.most_common())


def _plural(word: str, count: int) -> str:
    if count == 1:
        return word
    if word == "login in a link":
        return "logins in links"
    return word + ("es" if word.endswith("s") else "s")

"""What the rules produce and what the room returns. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

from tinyforge.records import Document, Example, Section, Span, content_id
from tinyforge.synthesize.language import Vocabulary, tidy

_APPARATUS = re.compile(
    r"^(?:(?:self-?check|review|critical thinking|discussion|practice|end-of-\w+|chapter|study|quiz|test) )*"
    r"(?:questions?|problems?|exercises?|quiz(?:zes)?|solutions?|answers|assignments?)$|"
    r"^(?:references|bibliography|works cited|sources|further reading|citations|footnotes|copyright|license|"
    r"acknowledge?ments?|credits|see also|related (?:terms|links|work)|external links)$|^check your understanding",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence on one line, and where it stands."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class Item:
    """A list item: its sentences, how deep it is nested and whether its list is numbered."""

    span: Span
    sentences: tuple[Sentence, ...]
    level: int
    ordered: bool

    @property
    def text(self) -> str:
        return " ".join(s.text for s in self.sentences)


@dataclass(frozen=True, slots=True)
class ListGroup:
    """Neighbouring list items and the sentence that leads into them, if any."""

    lead: Sentence | None
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Place:
    """A section as the rules see it.

    ``title`` names the document and ``name`` the section, each so that a reader who sees neither page knows what is
    meant; ``own`` says that the heading alone does, ``shared`` that another section has the same heading. ``known`` is
    the document's vocabulary. ``quiet`` is the ``silence`` of a place that comes without its sentences.
    """

    document: Document
    section: Section
    number: int
    heading: str
    title: str
    name: str
    own: bool
    shared: bool
    paragraphs: tuple[tuple[Sentence, ...], ...]
    lists: tuple[ListGroup, ...]
    known: Vocabulary = field(repr=False)
    quiet: str = ""

    @cached_property
    def path(self) -> str:
        return " > ".join(tidy(part) for part in self.section.path)

    @cached_property
    def is_apparatus(self) -> bool:
        """Whether this is an exercise, a list of sources or a legal notice: nothing here states a fact to learn."""
        return _APPARATUS.search(self.heading) is not None

    @cached_property
    def is_intro(self) -> bool:
        """Whether this is the text under the document's own title."""
        return self.own and len(self.section.path) == 1 and self.heading == tidy(self.document.title)

    @property
    def silence(self) -> str:
        """Why no rule found anything here, if none did."""
        if self.quiet:
            return self.quiet
        if not self.all_sentences:
            return "no prose"
        return "references or exercises" if self.is_apparatus else "no sentence that stands on its own"

    @cached_property
    def all_sentences(self) -> tuple[Sentence, ...]:
        """The paragraphs' sentences, then the list items'."""
        items = (item.sentences for group in self.lists for item in group.items)
        return tuple(chain.from_iterable((*self.paragraphs, *items)))


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a document says, before it is put into words.

    ``form`` names the family of wordings; ``subject`` and ``slots`` fill it. ``answer`` is the text of ``spans``, each
    on one line, joined by a space or, for lists and steps, by a line break.
    """

    rule: str
    form: str
    subject: str
    spans: tuple[Span, ...]
    answer: str
    slots: tuple[tuple[str, str], ...] = ()
    difficulty: str = "lookup"
    coverage: bool = False

    def slot(self, name: str) -> str:
        return next((value for key, value in self.slots if key == name), "")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fact on its way: where it stands and the plainest question for it."""

    fact: Fact
    place: Place
    question: str


def fact(
    rule: str,
    form: str,
    subject: str,
    evidence: Iterable[Sentence],
    difficulty: str = "lookup",
    coverage: bool = False,
    slots: dict[str, str] | None = None,
) -> Fact:
    """A fact whose answer is whole sentences."""
    found = tuple(evidence)
    spans = tuple(s.span for s in found)
    answer = " ".join(s.text for s in found)
    return Fact(rule, form, subject, spans, answer, tuple((slots or {}).items()), difficulty, coverage)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that a gate refused; kept so that a person can ask why something is missing.

    ``version`` is that of the prompt that asked for it (empty: of the rules), ``score`` what the gate measured.
    """

    rule: str
    gate: str
    question: str
    answer: str
    source: str
    section: str
    evidence: tuple[Span, ...]
    version: str = ""
    score: float | None = None
    name: str = ""

    @property
    def id(self) -> str:
        """``name``, where it has one."""
        return self.name or content_id("candidate", self.rule, self.question, self.answer, self.source, self.section)


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A section without an example: ``reason`` says what is missing, or names the gates that refused."""

    source: str
    section: str
    reason: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many sections yield an example: at all, and by the precise rules alone."""

    sections: int
    covered: int
    precise: int
    uncovered: tuple[Uncovered, ...]

    @property
    def share(self) -> float:
        return self.covered / self.sections if self.sections else 0.0

    @property
    def precise_share(self) -> float:
        return self.precise / self.sections if self.sections else 0.0


@dataclass(frozen=True, slots=True)
class Synthesis:
    """Everything that synthesis made and everything that it refused."""

    examples: list[Example]
    rejected: list[Rejected]
    coverage: Coverage

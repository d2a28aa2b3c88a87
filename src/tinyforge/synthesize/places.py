"""Sections as the rules see them: sentences, lists, and a name that stands on its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyforge.records import Block, Document, Section, Span
from tinyforge.retrieve.sentences import sentences
from tinyforge.synthesize.clauses import split_clause
from tinyforge.synthesize.facts import Item, ListGroup, Place, Sentence
from tinyforge.synthesize.language import Vocabulary, generic_heading, normal, noun_like, tidy

_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
_LIBRARY = 50  # documents from which a heading alone ("Protocol changes") is not enough to know which is meant
_NUMBERED = re.compile(r"(?:\d+|[a-z])[.)]\s*$")
_HEADING_NUMBER = re.compile(r"^(?:(?:chapter|section|part)\s+)?(?:\d+(?:\.\d+)*[.):]?|[IVX]+\.)\s+(?=\w)", re.I)
_ENDS_HEADING = re.compile(r"[\s:.#¶]+$")


@dataclass(frozen=True)
class Names:
    """How often each title and heading, in its normal form, stands in how many documents."""

    titles: Counter[str]
    headings: Counter[str]
    documents: int

    def within(self, document: Document) -> Names:
        """What of it decides how the sections of one document are named."""
        headings = (normal(section.heading) for section in document.sections())
        title = normal(document.title)
        own = Counter({heading: self.headings[heading] for heading in headings})
        return Names(Counter({title: self.titles[title]}), own, self.documents)

    def to_json(self) -> dict[str, Any]:
        return vars(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Names:
        return cls(Counter(data["titles"]), Counter(data["headings"]), data["documents"])


def names_of(documents: Sequence[Document]) -> Names:
    titles = Counter(normal(document.title) for document in documents)
    headings = Counter(normal(s.heading) for document in documents for s in document.sections())
    return Names(titles, headings, len(documents))


def places(documents: Sequence[Document], names: Names | None = None) -> Iterator[Place]:
    """Every section of every document, in order; ``names`` of all documents where these are but some of them.

    A document whose title is generic or shared is named after its file; a heading that is generic, shared, or not a
    noun is named together with its document.
    """
    names = names or names_of(documents)
    number = 0
    for document in documents:
        found = document.sections()
        title = _title(document, names.titles)
        known = Vocabulary.of(document.text)
        within = Counter(normal(s.heading) for s in found)
        named: Counter[str] = Counter()
        for section in found:
            library = names.documents >= _LIBRARY
            place = _place(document, section, number, title, names.headings, within, known, library)
            named[place.name] += 1
            yield place if named[place.name] == 1 else _again(place, named[place.name])
            number += 1


def _again(place: Place, count: int) -> Place:
    """A section whose name an earlier one of the document has: "the second ... section"."""
    which = _ORDINALS[count - 2] if count - 2 < len(_ORDINALS) else f"{count}th"
    return replace(place, name=f'the {which} "{place.heading}" section of {place.title}', own=False, shared=True)


def _title(document: Document, titles: Counter[str]) -> str:
    title = clean_heading(document.title)
    stem = document.source.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    shared = titles[normal(document.title)] > 1
    if len(title) > 90 or (generic_heading(title) and (shared or " " not in title)):
        return stem
    if shared:
        return f"{title} ({stem})"
    return title


def clean_heading(heading: str) -> str:
    """A heading without its number and closing colon."""
    plain = _ENDS_HEADING.sub("", _HEADING_NUMBER.sub("", tidy(heading)))
    return plain or tidy(heading)


def _place(
    document: Document,
    section: Section,
    number: int,
    title: str,
    headings: Counter[str],
    within: Counter[str],
    known: Vocabulary,
    library: bool,
) -> Place:
    heading = clean_heading(section.heading)
    name, own, shared = title, True, False
    if normal(heading) != normal(document.title):
        shared = headings[normal(section.heading)] > 1
        parent = (
            clean_heading(section.path[-2]) if within[normal(section.heading)] > 1 and len(section.path) > 2 else ""
        )
        name, own = _name(heading, title, parent, shared or library)
    elif _before_heading(document, section):
        name, own = f"the lines above the heading of {title}", False
    paragraphs, lists = _body(document, section)
    return Place(document, section, number, heading, title, name, own, shared, paragraphs, lists, known)


def _before_heading(document: Document, section: Section) -> bool:
    """Whether a section is what stands above a document's first heading (badges, a link, a date)."""
    first = next((block for block in document.blocks if block.kind == "heading"), None)
    return first is not None and section.span.start < first.span.start


def _name(heading: str, title: str, parent: str, shared: bool) -> tuple[str, bool]:
    noun = noun_like(heading) and not generic_heading(heading) and split_clause(heading.lower()) is None
    if noun and not shared:
        return heading, True
    inside = f"{parent} ({title})" if parent else title
    if noun:
        return f"{heading} in {inside}", False
    return f'the "{heading}" section of {inside}', False


def _body(document: Document, section: Section) -> tuple[tuple[tuple[Sentence, ...], ...], tuple[ListGroup, ...]]:
    paragraphs: list[tuple[Sentence, ...]] = []
    lists: list[ListGroup] = []
    items: list[Item] = []
    lead: Sentence | None = None

    def close() -> None:
        if items:
            lists.append(ListGroup(lead, tuple(items)))
            items.clear()

    for block in section.blocks:
        if block.kind == "list_item":
            items.append(_item(document, block))
            continue
        close()
        lead = None
        if block.kind in ("paragraph", "quote"):
            paragraph = _sentences(document, block.span)
            if paragraph:
                paragraphs.append(paragraph)
                lead = paragraph[-1]
    close()
    return tuple(paragraphs), tuple(lists)


def _sentences(document: Document, span: Span) -> tuple[Sentence, ...]:
    text = document.slice(span)
    name, start = span.document, span.start
    return tuple([Sentence(tidy(text[a:b]), Span(name, start + a, start + b)) for a, b in sentences(text)])


def _item(document: Document, block: Block) -> Item:
    before = document.text[max(0, block.span.start - 6) : block.span.start]
    return Item(block.span, _sentences(document, block.span), block.level, _NUMBERED.search(before) is not None)


def cells(section: Section) -> list[Block]:
    """The cells of a section's tables that have both headers."""
    return [b for b in section.blocks if b.kind == "table_cell" and b.label and b.row]


def first_sentences(document: Document, span: Span, limit: int) -> Span | None:
    """The longest run of whole sentences from the start of ``span`` within ``limit`` characters."""
    text = document.slice(span)
    if len(text) <= limit:
        return span
    end = max((b for _, b in sentences(text) if b <= limit), default=0)
    return Span(span.document, span.start, span.start + end) if end else None

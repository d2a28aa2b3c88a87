"""The plain data that flows between the stages. Standard library only.

Offsets are characters (Python string indices) of a document's normalised text;
``document.text[span.start:span.end]`` is the evidence itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

BlockKind = Literal["heading", "paragraph", "list_item", "table_row", "table_cell", "code", "quote"]
Role = Literal["system", "user", "assistant"]
Split = Literal["train", "dev", "wordings", "documents", "retention"]
Kind = Literal["text", "chat", "preference", "labelled"]


def content_id(*parts: str) -> str:
    """16 hex digits of SHA-256 over the parts; equal parts always give equal ids."""
    framed = b""
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        framed += len(encoded).to_bytes(8, "little") + encoded
    return hashlib.sha256(framed).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``[start, end)`` of the text of the document with this id."""

    document: str
    start: int
    end: int

    def overlaps(self, other: Span) -> bool:
        return self.document == other.document and self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of structure that a parser preserved.

    ``level`` is the depth of a heading (1 is the title) or the nesting of a list item (0 is outermost).
    A ``table_cell`` carries its column header in ``label`` and its row header in ``row``; both empty otherwise.
    """

    kind: BlockKind
    span: Span
    level: int = 0
    label: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the text under it, up to the next heading of any level.

    ``path`` holds the headings from the title down to this one; ``span`` covers the body without the heading.
    """

    path: tuple[str, ...]
    span: Span
    blocks: tuple[Block, ...]

    @property
    def heading(self) -> str:
        return self.path[-1] if self.path else ""


@dataclass(frozen=True, slots=True)
class Document:
    """One source file: its normalised text and the structure found in it. ``source`` is what a citation names."""

    id: str
    text: str
    blocks: tuple[Block, ...]
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def identify(source: str, text: str) -> str:
        """The id of a document: a hash of where it came from and what it says."""
        return content_id("document", source, text)

    def slice(self, span: Span) -> str:
        if span.document != self.id:
            raise ValueError(f"span belongs to document {span.document}, not {self.id}")
        return self.text[span.start : span.end]

    @property
    def title(self) -> str:
        """The metadata's title, else the first heading, else the file's stem."""
        if self.metadata.get("title"):
            return str(self.metadata["title"])
        first = next((b for b in self.blocks if b.kind == "heading"), None)
        if first is not None:
            return self.slice(first.span)
        return self.source.rsplit("/", 1)[-1].rsplit(".", 1)[0]

    def sections(self) -> list[Section]:
        """The document cut at its headings; sections without a body are left out.

        Text before the first heading becomes a section whose path is the document's title alone.
        """
        found: list[Section] = []
        path: list[tuple[int, str]] = []
        body: list[Block] = []

        def close() -> None:
            if body:
                names = tuple(name for _, name in path) or (self.title,)
                span = Span(self.id, min(b.span.start for b in body), max(b.span.end for b in body))
                found.append(Section(names, span, tuple(body)))

        for block in self.blocks:
            if block.kind != "heading":
                body.append(block)
                continue
            close()
            body = []
            path = [(level, name) for level, name in path if level < block.level]
            path.append((block.level, self.slice(block.span)))
        close()
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "source": self.source,
            "metadata": self.metadata,
            "text": self.text,
            "blocks": [[b.kind, b.span.start, b.span.end, b.level, b.label, b.row] for b in self.blocks],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Document:
        blocks = tuple(Block(k, Span(data["id"], s, e), lv, la, ro) for k, s, e, lv, la, ro in data["blocks"])
        return cls(data["id"], data["text"], blocks, data["source"], data["metadata"])


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn from or be asked: a conversation whose last message is the answer.

    ``evidence`` holds the spans that the answer stands on; ``fact`` names the fact that it asks about (all wordings
    of one fact share it); ``cluster`` groups the facts that must stay on one side of a split.
    ``metadata["references"]``, where present, lists other answers that count as right.
    Of the other kinds, running text has ``text`` and no messages; a preference pair has in ``rejected`` the worse last
    answer; a labelled example has in ``label`` its class, and its input as the messages.
    """

    id: str
    messages: tuple[Message, ...]
    evidence: tuple[Span, ...] = ()
    fact: str = ""
    cluster: str = ""
    topic: str = ""
    rule: str = ""
    difficulty: str = ""
    split: Split = "train"
    metadata: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    rejected: str = ""
    label: str = ""

    @property
    def kind(self) -> Kind:
        """Which of the four kinds this is, told by the fields that are filled."""
        if self.text:
            return "text"
        return "preference" if self.rejected else "labelled" if self.label else "chat"

    @property
    def question(self) -> str:
        """The last user message."""
        return next(m.content for m in reversed(self.messages) if m.role == "user")

    @property
    def answer(self) -> str:
        return self.messages[-1].content

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Example:
        return cls(
            **{
                **data,
                "messages": tuple(Message(**m) for m in data["messages"]),
                "evidence": tuple(Span(**s) for s in data["evidence"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids and, for each, the label to predict at that place (the id itself, or -100 where nothing is learned).

    Labels are not shifted: ``labels[i]`` is ``ids[i]`` or -100; the loss shifts. Where an example is two sequences (a
    preference pair, the two sides of an encoder-decoder), ``border`` is where the second starts; 0 otherwise.
    """

    ids: list[int]
    labels: list[int]
    border: int = 0

    @property
    def targets(self) -> int:
        """How many tokens are learned (the first position can never be predicted)."""
        return sum(label != -100 for label in self.labels[1:])


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over ``n`` questions with its 95% interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that retrieval found: ``score`` orders the hits, ``similarity`` is the cosine to the question.

    ``text`` is exactly the characters of ``span``; ``cells`` holds the table cells in it as (start, end, name) with
    offsets into ``text``, the name being "row, column" (empty for the cells of a header).
    """

    span: Span
    text: str
    source: str
    path: tuple[str, ...]
    score: float
    similarity: float
    cells: tuple[tuple[int, int, str], ...] = ()


Complete = Callable[[list[Message]], str]
"""The one callable that joins the stages that need a model: messages in, answer out."""

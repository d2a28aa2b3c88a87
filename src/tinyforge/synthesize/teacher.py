"""Examples that a teacher writes: what it is shown, what is read from its replies, and what the gates let through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.models.structured import extract_json
from tinyforge.records import Document, Example, Message, Span, content_id
from tinyforge.synthesize.facts import Place, Rejected
from tinyforge.synthesize.gates import template_junk_in, text_points_elsewhere
from tinyforge.synthesize.grounding import align, foreign, share_held
from tinyforge.synthesize.language import normal, points_away, tidy, words
from tinyforge.synthesize.prompts import SYSTEM, Prompt

ALIKE = 0.85  # share of words in common from which two questions of a section are one
LONGEST_QUESTION, LONGEST_ANSWER = 300, 900


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A stretch of a document that the teacher is shown, under its headings."""

    span: Span
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Task:
    """One request: what to write, about which excerpts of which section; ``about`` is the example that it varies."""

    prompt: Prompt
    place: Place
    topic: str
    excerpts: tuple[Excerpt, ...]
    about: Example | None = None
    persona: str = ""
    round: int = 0

    def messages(self) -> tuple[Message, ...]:
        shown = "\n\n".join(f"[{n}] {e.heading}\n{e.text}" for n, e in enumerate(self.excerpts, 1))
        asked, answer = (self.about.question, self.about.answer) if self.about else ("", "")
        task = self.prompt.task.format(
            count=self.prompt.items, persona=self.persona, question=asked, answer=answer
        )  # only the template is read for braces, never what fills it
        return (Message("system", SYSTEM), Message("user", f"{shown}\n\n{task}\n{self.prompt.shape}"))


@dataclass(frozen=True, slots=True)
class Turn:
    question: str
    answer: str
    quotes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """What a teacher wrote, on its way: ``evidence`` is where its quotes stand, ``gate`` what refused it."""

    task: Task
    turns: tuple[Turn, ...]
    evidence: tuple[Span, ...] = ()
    gate: str = ""
    score: float | None = None

    @property
    def question(self) -> str:
        return self.turns[-1].question

    @property
    def answer(self) -> str:
        return self.turns[-1].answer

    @property
    def asked(self) -> str:
        """All questions of the conversation: what a reader needs to know what the last one is about."""
        return " ".join(turn.question for turn in self.turns)


Reader = Callable[[Sequence[Item]], list[tuple[bool, float]]]
"""Whether the answer of each is recovered from the documents (for an unanswerable one: is not), and the score."""


def items_of(reply: str | None, task: Task) -> list[Item] | None:
    """The items of a reply; None where none can be read from it."""
    data = extract_json(reply or "")
    rows = data.get("items", data.get("questions")) if isinstance(data, dict) else data
    if isinstance(data, dict) and rows is None:
        rows = [data]
    if not isinstance(rows, list):
        return None
    found = [item for row in rows if (item := _item(row, task)) is not None]
    return found[: 2 * task.prompt.items] or None


def _item(row: Any, task: Task) -> Item | None:
    if isinstance(row, str):
        row = {"question": row}
    if not isinstance(row, dict):
        return None
    rows = row["turns"] if isinstance(row.get("turns"), list) else [row]
    turns = tuple(_turn(one, task) for one in rows if isinstance(one, dict))
    return Item(task, turns) if turns and all(turn.question for turn in turns) else None


def _turn(row: dict[str, Any], task: Task) -> Turn:
    quotes = row.get("quotes", row.get("quote", []))
    quotes = [quotes] if isinstance(quotes, str) else quotes if isinstance(quotes, list) else []
    asked = task.about.question if task.about and task.prompt.name == "distractors" else row.get("question")
    return Turn(
        tidy(str(asked or "")), tidy(str(row.get("answer") or "")), tuple(q for q in quotes if isinstance(q, str))
    )


# --- gates ------------------------------------------------------------------------------------------------------------


def judge(items: Sequence[Item], documents: dict[str, Document], reader: Reader, known: Known) -> list[Item]:
    """Every item with its evidence, and with the first gate that refuses it; the reader comes last."""
    grounded = [_grounded(item, documents) for item in items]
    fresh = [item if item.gate else replace(item, gate=known.gate(item)) for item in grounded]
    asked = [item for item in fresh if not item.gate]
    results = iter(reader(asked))
    return [item if item.gate else _read(item, *next(results)) for item in fresh]


def _read(item: Item, recovered: bool, score: float) -> Item:
    gate = "" if recovered else "answerable" if item.task.prompt.name == "unanswerable" else "not_recovered"
    return replace(item, gate=gate, score=round(score, 4))


def _grounded(item: Item, documents: dict[str, Document]) -> Item:
    kind = item.task.prompt.name
    gate = _unclear(item.turns[0].question)
    if gate:
        return replace(item, gate=gate)
    if kind == "unanswerable":
        return item
    if kind == "paraphrase":
        assert item.task.about is not None
        return replace(item, evidence=item.task.about.evidence)
    spans: list[Span] = []
    for turn in item.turns:
        found, gate = _evidence(turn, item, documents)
        if gate:
            return replace(item, gate=gate, evidence=tuple(found))
        spans += found
    spans = sorted(dict.fromkeys(spans), key=lambda s: (s.document, s.start))
    gate = "one_span" if kind == "multi_span" and len(spans) < 2 else ""
    gate = "one_turn" if kind == "multi_turn" and len(item.turns) < 2 else gate
    return replace(item, evidence=tuple(spans), gate=gate)


def _unclear(question: str) -> str:
    """The gate that refuses a question before which nothing was said."""
    if len(question) > LONGEST_QUESTION or len(words(question)) < 2:
        return "question_length"
    if text_points_elsewhere(question) or "excerpt" in question.lower() or points_away(question):
        return "question_not_self_contained"
    return "template_junk" if template_junk_in(question) else ""


def _evidence(turn: Turn, item: Item, documents: dict[str, Document]) -> tuple[list[Span], str]:
    """Where the quotes of a turn stand, and the gate that refuses it."""
    if not turn.answer:
        return [], "empty"
    if len(turn.answer) > LONGEST_ANSWER:
        return [], "answer_too_long"
    if text_points_elsewhere(turn.answer) or template_junk_in(turn.answer):
        return [], "answer_points_elsewhere"
    if not turn.quotes:
        return [], "no_quote"
    spans: list[Span] = []
    for quote in turn.quotes:
        places = (align(quote, documents[e.span.document].text, e.span) for e in item.task.excerpts)
        found = next((spans for spans in places if spans), ())
        if not found:
            return spans, "quote_not_found"
        spans += found
    said = " ".join((item.asked, item.task.place.path, item.task.place.title))
    strange = foreign(turn.answer, [documents[s.document].slice(s) for s in spans], said)
    return spans, "not_in_evidence" if strange else ""


class Known:
    """The questions that are asked already: the same must not be asked twice, nor nearly."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self._exact = {normal(example.question) for example in examples if example.messages}
        self._near: dict[int, list[str]] = {}

    def gate(self, item: Item) -> str:
        """The gate that refuses its question; one that is let through counts as asked."""
        question = normal(item.asked)
        if item.task.prompt.name == "distractors":
            return ""  # it asks on purpose what is asked already, this time with passages
        if question in self._exact:
            return "duplicate_question"
        near = self._near.setdefault(item.task.place.number, [])
        if any(min(share_held(item.asked, other), share_held(other, item.asked)) > ALIKE for other in near):
            return "near_duplicate"
        self._exact.add(question)
        near.append(item.asked)
        return ""


# --- results ----------------------------------------------------------------------------------------------------------


def example_of(item: Item, teacher: str, number: int) -> Example:
    """The accepted item as an example; ``number`` counts the wordings of its fact, for a paraphrase."""
    task, prompt = item.task, item.task.prompt
    said = {
        "wording": 0,
        "source": task.place.document.source,
        "section": task.place.path,
        "coverage": False,
        "teacher": teacher,
        "version": prompt.version,
        "score": item.score,
        "round": task.round,
    }
    if prompt.name == "paraphrase":
        assert task.about is not None
        name = content_id("example", task.about.fact, item.question)
        asked = (Message("user", item.question), task.about.messages[-1])
        metadata = {**task.about.metadata, **said, "wording": number}
        return replace(task.about, id=name, messages=asked, rule=prompt.rule, metadata=metadata)
    answers = [NOT_FOUND] if prompt.name == "unanswerable" else [turn.answer for turn in item.turns]
    pairs = zip(item.turns, answers, strict=True)
    messages = tuple(
        m for turn, answer in pairs for m in (Message("user", turn.question), Message("assistant", answer))
    )
    fact = content_id("fact", task.place.document.id, prompt.rule, *(m.content for m in messages))
    if prompt.name in ("unanswerable", "distractors"):
        said["ask"] = "with passages"
    return Example(
        id=content_id("example", fact, item.asked),
        messages=messages,
        evidence=item.evidence,
        fact=fact,
        topic=f"{task.place.title} > {task.place.heading}",
        rule=prompt.rule,
        difficulty=prompt.difficulty,
        metadata=said,
    )


def rejected_of(item: Item) -> Rejected:
    task = item.task
    return Rejected(
        task.prompt.rule, item.gate, item.asked, item.answer, task.place.document.source, task.place.path,
        item.evidence, task.prompt.version, item.score,
    )  # fmt: skip


def unread(task: Task, reply: str | None) -> Rejected:
    """A reply that nothing could be read from: the ledger keeps what it said."""
    return Rejected(
        task.prompt.rule, "unreadable_reply", task.prompt.task.splitlines()[0], (reply or "")[:500],
        task.place.document.source, task.place.path, tuple(e.span for e in task.excerpts), task.prompt.version,
    )  # fmt: skip

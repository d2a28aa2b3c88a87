"""Lessons for a base that is to read: questions with the passages that answer them, and with some that do not.

They are made of a corpus and its facts, to train a base and to measure it; they are no part of a person's dataset.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tinyforge.records import Example, Hit, Message, Span, content_id

if TYPE_CHECKING:
    from tinyforge.retrieve.passages import Passage

SHOWN = {"memory": 0, "gold": 1, "passages": 3, "sentences": 3, "pieces": 8}
"""How many passages a lesson of each kind shows: of "sentences" only some of their sentences, of "pieces" at most so
many, and of each only a piece around what is asked for."""
_PIECES = (2, 3, 4, 6, 8)  # many short ones teach what to look for, whole passages to find it there
_PIECE_CHARACTERS = (80, 120, 200, 400)
_OPENINGS = 0.6  # of the pieces of sections: their first sentence alone
_STRANGERS = 0.3  # of the pieces: from an earlier document, which is easier
_SENTENCES = 6  # at least, those of the answers among them, as small models are given them (retrieve.sentences)
_QUESTIONS = 6  # at most, about the same passages: one prompt read for several answers learned
_BY_WORDS = {"gold": 1, "passages": 1, "sentences": 4}  # at most, of these: see synthesize.by_words
_TEST_QUESTIONS = 400  # of each kind
_EARLIER = 40  # documents back, from which strangers come


@dataclass(frozen=True)
class _Mix:
    """Shares of the kinds in ``SHOWN``, and of the questions whose answer lies in a passage that is not shown."""

    kinds: tuple[float, ...]
    unanswerable: float


_READING = _Mix((0.03, 0.25, 0.3, 0.1, 0.32), 0.12)
_DECLINING = _Mix((0.02, 0.2, 0.48, 0.1, 0.2), 0.16)


@dataclass(frozen=True)
class Page:
    """A document's passages in reading order, and for each the facts (all wordings) whose evidence lies in it."""

    passages: Sequence[Passage]
    facts: dict[int, list[list[Example]]]


def reading_lessons(pages: Iterable[Page], rng: random.Random) -> Iterator[tuple[str, Example]]:
    """For every passage that holds a fact a lesson of choosing and one of reading, each with the name of its part."""
    for page, number, earlier in _places(pages):
        yield "choices", _pieces_lesson(page, number, earlier, rng, None)
        yield "train", _any_lesson(page, number, earlier, rng, _READING)


def declining_lessons(pages: Iterable[Page], rng: random.Random) -> Iterator[Example]:
    """For every passage that holds a fact a lesson mostly of whole passages, with more questions to decline."""
    for page, number, earlier in _places(pages):
        yield _any_lesson(page, number, earlier, rng, _DECLINING)


def _places(pages: Iterable[Page]) -> Iterator[tuple[Page, int, Sequence[Page]]]:
    """Every passage that holds a fact, by its number, with the pages before it."""
    earlier: deque[Page] = deque(maxlen=_EARLIER)
    for page in pages:
        for number in page.facts:
            yield page, number, earlier
        if page.facts:
            earlier.append(page)


def _any_lesson(page: Page, number: int, earlier: Sequence[Page], rng: random.Random, mix: _Mix) -> Example:
    kind = rng.choices(list(SHOWN), mix.kinds)[0]
    if kind == "pieces":
        return _pieces_lesson(page, number, earlier, rng, mix)
    question = rng.choice(rng.choice(page.facts[number]))
    shown = _shown(page, number, question.question, SHOWN[kind], rng)
    return _lesson(page, shown or [number], kind, question, rng, mix.unanswerable)


def _lesson(
    page: Page, shown: Sequence[int], kind: str, first: Example, rng: random.Random, unanswerable: float
) -> Example:
    """Several questions about the shown passages, in any order; some are about others, and those are not answered.

    Facts come first; where there are too few, sentences are asked for by their own words.
    """
    asked = [rng.choice(wordings) for n in shown for wordings in page.facts.get(n, ())]
    asked = [first, *(e for e in asked if e.fact != first.fact)]
    rng.shuffle(asked)
    if kind == "memory":
        return _conversation([], [(first, True)], kind)
    passages = [_hit(page.passages[n]) for n in shown]
    others = [rng.choice(w) for n, facts in page.facts.items() if n not in shown for w in facts]
    pairs = _asked(asked[:_QUESTIONS], others, passages, rng, unanswerable)
    pairs += _by_words(page, passages, first, min(_QUESTIONS - len(pairs), _BY_WORDS[kind]), rng, unanswerable)
    rng.shuffle(pairs)
    if kind == "sentences":
        passages = _some_sentences(passages, [s for example, there in pairs if there for s in example.evidence], rng)
    return _conversation(passages, pairs, kind)


def _asked(
    asked: Sequence[Example], others: list[Example], passages: Sequence[Hit], rng: random.Random, unanswerable: float
) -> list[tuple[Example, bool]]:
    """The questions, a share of them replaced by one of the others, whose section is none of the passages' own."""
    headings = {hit.path[-1:] for hit in passages}
    others = [other for other in others if (str(other.metadata["section"]).rpartition(" > ")[2],) not in headings]
    rng.shuffle(others)
    return [(others.pop(), False) if others and rng.random() < unanswerable else (example, True) for example in asked]


def _pieces_lesson(page: Page, number: int, earlier: Sequence[Page], rng: random.Random, mix: _Mix | None) -> Example:
    """A question for each of several pieces under different headings, so that all depends on which one is meant.

    Without a ``mix`` the pieces hold nothing but the answers, and every question has one.
    """
    shortest = mix is None
    count = rng.choice(_PIECES)
    own = [(page, n) for n in rng.sample(list(page.facts), len(page.facts)) if n != number]
    strangers = [(p, rng.choice(list(p.facts))) for p in rng.sample(earlier, min(len(earlier), count))]
    taken: dict[tuple[str, ...], tuple[Hit, Example]] = {}
    place: tuple[Page, int] | None = (page, number)
    while place and len(taken) < count:
        its, n = place
        passage = its.passages[n]
        if passage.path[-1:] not in taken:
            taken[passage.path[-1:]] = _piece(passage, rng.choice(rng.choice(its.facts[n])), rng, shortest)
        take = strangers if strangers and (not own or rng.random() < _STRANGERS) else own
        place = take.pop() if take else None
    rest = own + strangers
    others = [rng.choice(rng.choice(its.facts[n])) for its, n in rng.sample(rest, min(len(rest), count))]
    shown = list(taken.values())
    rng.shuffle(shown)
    passages = [hit for hit, _ in shown]
    asked = [example for _, example in shown]
    pairs = [(e, True) for e in asked] if mix is None else _asked(asked, others, passages, rng, mix.unanswerable)
    rng.shuffle(pairs)
    return _conversation(passages, pairs, "choices" if shortest else "pieces")


def _piece(passage: Passage, asked: Example, rng: random.Random, shortest: bool) -> tuple[Hit, Example]:
    """The evidence with whole sentences around it, of some length at random; of a section, mostly one sentence."""
    from tinyforge.retrieve.sentences import sentences

    limit = 0 if shortest else rng.choice(_PIECE_CHARACTERS)
    first = min(span.start for span in asked.evidence) - passage.span.start
    last = max(span.end for span in asked.evidence) - passage.span.start
    found = sentences(passage.text)
    if asked.rule == "section" and (shortest or rng.random() < _OPENINGS):
        last = limit = next(e for _, e in found if e > first)
        asked = replace(asked, messages=(*asked.messages[:-1], Message("assistant", passage.text[first:last])))
    starts = [s for s, _ in found if s <= first and last - s <= limit] or [first]
    start = 0 if 0 in starts else rng.choice(starts)
    end = max([e for _, e in found if e >= last and e - start <= limit], default=last)
    span = Span(passage.span.document, passage.span.start + start, passage.span.start + end)
    return replace(_hit(passage), span=span, text=passage.text[start:end], cells=()), asked


def _by_words(
    page: Page, passages: Sequence[Hit], model: Example, count: int, rng: random.Random, unanswerable: float
) -> Iterator[tuple[Example, bool]]:
    """At most ``count`` questions for sentences of the passages, some for one of a passage that is not shown."""
    from tinyforge.retrieve.quote import sentences_of
    from tinyforge.synthesize.by_words import ask_by_words

    shown, spans = sentences_of(passages), {hit.span for hit in passages}
    headings = [" ".join(passage.path) for passage in passages]
    hidden = [passage for passage in page.passages if passage.span not in spans]
    for there in rng.sample(shown, min(len(shown), max(0, count))):
        elsewhere = sentences_of([_hit(rng.choice(hidden))]) if hidden and rng.random() < unanswerable else []
        wanted = rng.choice(elsewhere) if elsewhere else there
        question = ask_by_words(wanted.text, [h.text for h in shown if h is not wanted] + headings, rng)
        if question is not None:
            known: dict[str, Any] = {
                "id": content_id("by words", wanted.text, question),
                "fact": content_id(wanted.text),
            }
            messages = (Message("user", question), Message("assistant", wanted.text))
            yield replace(model, **known, messages=messages, evidence=(wanted.span,)), not elsewhere


def _hit(passage: Passage) -> Hit:
    return Hit(passage.span, passage.text, passage.source, passage.path, 0.0, 0.0, passage.cells)


def _some_sentences(passages: Sequence[Hit], evidence: Sequence[Span], rng: random.Random) -> list[Hit]:
    """The sentences of the evidence in their order, others at random among them: at least ``_SENTENCES``, or all."""
    from tinyforge.dataset.reading import carries
    from tinyforge.retrieve.quote import sentences_of

    found = sentences_of(passages)
    needed = [hit for hit in found if carries(hit, evidence)]
    others = [hit for hit in found if not carries(hit, evidence)]
    others = rng.sample(others, min(len(others), max(2, _SENTENCES - len(needed))))
    places = set(rng.sample(range(len(needed) + len(others)), len(needed)))
    needed_left, others_left = iter(needed), iter(others)
    return [next(needed_left if place in places else others_left) for place in range(len(needed) + len(others))]


def _conversation(passages: Sequence[Hit], pairs: Sequence[tuple[Example, bool]], kind: str) -> Example:
    """The passages once, before the first question; each ``(question, answerable)`` is a turn."""
    from tinyforge.dataset.prompts import NOT_FOUND, closed_book, passages_of, with_passages

    messages: list[Message] = []
    for number, (example, answerable) in enumerate(pairs):
        if not passages:
            messages += closed_book(example.question)
        else:
            messages += with_passages(example.question, [] if number else passages_of(passages))
        messages.append(Message("assistant", example.answer if answerable else NOT_FOUND))
    first, answerable = pairs[0]
    return replace(
        first,
        id=content_id(first.id, kind, *(example.id for example, _ in pairs)),
        messages=tuple(messages),
        evidence=tuple(span for example, there in pairs if there for span in example.evidence),
        metadata={**first.metadata, "reading": kind if answerable or len(pairs) > 1 else "missing"},
    )


def _shown(page: Page, number: int, question: str, count: int, rng: random.Random) -> list[int]:
    """``count`` passages in any order, ``number`` among them, the others like what a search would bring up."""
    others = [n for n in range(len(page.passages)) if n != number]
    shown = [number, *_nearest(page, others, question, count - 1, rng)][:count]
    rng.shuffle(shown)
    return shown


def _elsewhere(page: Page, number: int) -> list[int]:
    """The passages of other sections: what is said in a section is answered by any passage of it."""
    own = page.passages[number].path[-1:]
    return [n for n, passage in enumerate(page.passages) if passage.path[-1:] != own]


def _nearest(page: Page, others: list[int], question: str, count: int, rng: random.Random) -> list[int]:
    """Some of the ``others``: half of the time those that share most words with the question."""
    from tinyforge.retrieve.words import content_words

    rng.shuffle(others)
    others = others[:60]  # a novel has hundreds; the nearest of sixty are near enough
    if rng.random() < 0.5:
        wanted = set(content_words(question))
        others.sort(key=lambda n: -len(wanted & set(content_words(page.passages[n].searched))))
    return others[: max(0, count)]


def held_out_questions(pages: Iterable[Page], rng: random.Random) -> list[Example]:
    """Single questions to measure with, of the kinds in turn: gold passage, three passages, and none that answers."""
    facts = [(page, number, wordings) for page in pages for number in page.facts for wordings in page.facts[number]]
    facts = [fact for fact in facts if len(_elsewhere(fact[0], fact[1])) >= SHOWN["passages"]]
    rng.shuffle(facts)
    found = []
    for place, (page, number, wordings) in enumerate(facts[: 3 * _TEST_QUESTIONS]):
        example, kind = rng.choice(wordings), ("gold", "passages", "missing")[place % 3]
        if kind == "missing":
            shown = _nearest(page, _elsewhere(page, number), example.question, SHOWN["passages"], rng)
        else:
            shown = _shown(page, number, example.question, SHOWN[kind], rng)
        passages = [_hit(page.passages[n]) for n in shown]
        found.append(_conversation(passages, [(example, kind != "missing")], kind))
    return found

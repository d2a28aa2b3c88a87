"""The second stage of a base: questions over its own corpus, answered out of passages or from memory.

A base that has only seen running text continues a question; one that has also been taught this way answers it, copies
from what it is given, and says when the passages do not hold the answer.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example, Hit, Message, Span, Tokens, content_id
from tinyforge.run import read_json, read_jsonl, write_folder_atomic, write_jsonl

if TYPE_CHECKING:
    from tinyforge.retrieve.passages import Passage
    from tinyforge.train.status import Status

SHOWN = {"memory": 0, "gold": 1, "passages": 3, "sentences": 3, "pieces": 8}
"""How many passages a lesson of each kind shows: of "sentences" only some of their sentences, of "pieces" at most so
many, and of each only a piece around what is asked for."""
_SHARES = (0.03, 0.25, 0.3, 0.1, 0.32)
_PIECES = (2, 3, 4, 6, 8)  # many short ones teach what to look for, whole passages to find it there
_PIECE_CHARACTERS = (80, 120, 200, 400)
_OPENINGS = 0.6  # of the pieces of sections: their first sentence alone
_STRANGERS = 0.3  # of the pieces: from an earlier document, which is easier
_SENTENCES = 6  # at least, those of the answers among them, as small models are given them (retrieve.sentences)
_UNANSWERABLE = 0.12  # of the questions: the answer lies in a passage that is not shown
_QUESTIONS = 6  # at most, about the same passages: one prompt read for several answers learned
_BY_WORDS = {"gold": 1, "passages": 1, "sentences": 4}  # at most, of these: see synthesize.by_words
_PLAIN_SHARE = 0.25  # of the tokens: running text again, so that what was learned before is kept
_TEST_QUESTIONS = 400  # of each kind
_GROUP = 40  # documents whose questions are written together

SETS = ("train", "dev", "test")
Named = tuple[str, str, str]
"""A document as ``(name, text, set)``."""


@dataclass(frozen=True)
class Page:
    """A document's passages in reading order, and for each the facts (all wordings) whose evidence lies in it."""

    passages: Sequence[Passage]
    facts: dict[int, list[list[Example]]]


def write_lessons(job: Job, parent: str, documents: Iterable[Named], config: Config) -> str:
    """Stage ``lessons``: write reading/{train,dev,test}.jsonl; returns its key.

    A document of ``dev`` or ``test`` gives lessons to that set only: its passages are never trained on. Training
    lessons are written until ``pretrain.reading_tokens`` are reached.
    """
    settings = config.pretrain
    inputs = [
        parent,
        [settings.reading_tokens, settings.reading_only, settings.reading_test_fraction],
        [config.synthesize.model_dump(), config.retrieve.passage_characters, config.seed],
    ]

    def work(key: str) -> dict[str, Any]:
        counts = {}
        sets: dict[str, list[Named]] = {name: [] for name in SETS}
        for document in documents:
            sets[document[2]].append(document)
        for name, members in sets.items():
            rng = random.Random(f"{config.seed}:{name}")
            pages = _pages(members, config)
            written = _training(job, pages, config, rng) if name == "train" else {name: _questions(pages, rng)}
            for file, lessons in written.items():
                rng.shuffle(lessons)
                write_jsonl(job.run.path("reading", f"{file}.jsonl"), (e.to_json() for e in lessons))
                answers = sum(m.role == "assistant" for e in lessons for m in e.messages)
                counts[file] = {"lessons": len(lessons), "questions": answers}
                job.say("lessons", f"{file}: {answers:,} questions in {len(lessons):,} lessons")
        return {"key": key, **counts}

    return str(job.stage("lessons", inputs, work)["key"])


def _training(job: Job, pages: Iterable[Page], config: Config, rng: random.Random) -> dict[str, list[Example]]:
    """The lessons of both parts, as many as come to the tokens that are wanted of each, or as the corpus gives."""
    meta = read_json(job.run.path("tokens", "train", "meta.json"))
    characters = config.pretrain.reading_tokens * meta["bytes"] / meta["tokens"]
    choosing = characters * config.pretrain.reading_choices
    wanted = {"choices": choosing, "train": (characters - choosing) * (1 - _PLAIN_SHARE)}
    written: dict[str, list[Example]] = {name: [] for name in wanted}
    lengths = dict.fromkeys(wanted, 0)
    for name, lesson in _lessons(pages, rng):
        if lengths[name] < wanted[name]:
            written[name].append(lesson)
            lengths[name] += _length(lesson)
        if all(lengths[n] >= wanted[n] for n in wanted):
            break
    else:
        share = sum(lengths.values()) / sum(wanted.values())
        job.say("lessons", f"the corpus gives {share:.0%} of the lessons asked for")
    return written


def _length(lesson: Example) -> int:
    return sum(len(message.content) for message in lesson.messages)


def _pages(documents: Sequence[Named], config: Config) -> Iterator[Page]:
    """The documents with their facts; neighbours in the corpus are written about together."""
    from tinyforge.ingest.markdown import from_text
    from tinyforge.retrieve.passages import cut
    from tinyforge.synthesize import synthesize

    rows = iter(documents)
    while group := list(islice(rows, _GROUP)):
        read = [from_text(text, name, {"format": "markdown"}) for name, text, _ in group]
        facts: dict[str, dict[str, list[Example]]] = defaultdict(lambda: defaultdict(list))
        for example in synthesize(read, config.synthesize, config.seed).examples:
            facts[example.evidence[0].document][example.fact].append(example)
        for document in read:
            passages = cut([document], config.retrieve.passage_characters)
            yield Page(passages, _located(passages, facts[document.id].values(), document))


def _located(
    passages: Sequence[Passage], facts: Iterable[list[Example]], document: Document
) -> dict[int, list[list[Example]]]:
    """Facts by the number of the passage that holds all of their evidence; one that is cut in two is left out."""
    found: dict[int, list[list[Example]]] = defaultdict(list)
    for wordings in facts:
        evidence = wordings[0].evidence
        start, end = min(s.start for s in evidence), max(s.end for s in evidence)
        for number, passage in enumerate(passages):
            if passage.span.start <= start and end <= passage.span.end:
                found[number].append(wordings)
                break
    return dict(found)


def _lessons(pages: Iterable[Page], rng: random.Random) -> Iterator[tuple[str, Example]]:
    """For every passage that holds a fact a lesson of choosing and one of reading, each with the name of its part."""
    earlier: deque[Page] = deque(maxlen=_GROUP)
    for page in pages:
        for number in page.facts:
            yield "choices", _pieces_lesson(page, number, earlier, rng, shortest=True)
            kind = rng.choices(list(SHOWN), _SHARES)[0]
            if kind == "pieces":
                yield "train", _pieces_lesson(page, number, earlier, rng)
                continue
            question = rng.choice(rng.choice(page.facts[number]))
            shown = _shown(page, number, question.question, SHOWN[kind], rng)
            yield "train", _lesson(page, shown or [number], kind, question, rng)
        if page.facts:
            earlier.append(page)


def _lesson(page: Page, shown: Sequence[int], kind: str, first: Example, rng: random.Random) -> Example:
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
    pairs = _asked(asked[:_QUESTIONS], others, passages, rng)
    pairs += _by_words(page, passages, first, min(_QUESTIONS - len(pairs), _BY_WORDS[kind]), rng)
    rng.shuffle(pairs)
    if kind == "sentences":
        passages = _some_sentences(passages, [s for example, there in pairs if there for s in example.evidence], rng)
    return _conversation(passages, pairs, kind)


def _asked(
    asked: Sequence[Example], others: list[Example], passages: Sequence[Hit], rng: random.Random
) -> list[tuple[Example, bool]]:
    """The questions, a share of them replaced by one of the others, whose section is none of the passages' own."""
    headings = {hit.path[-1:] for hit in passages}
    others = [other for other in others if (str(other.metadata["section"]).rpartition(" > ")[2],) not in headings]
    rng.shuffle(others)
    return [(others.pop(), False) if others and rng.random() < _UNANSWERABLE else (example, True) for example in asked]


def _pieces_lesson(
    page: Page, number: int, earlier: Sequence[Page], rng: random.Random, shortest: bool = False
) -> Example:
    """A question for each of several pieces under different headings, so that all depends on which one is meant.

    The ``shortest`` pieces hold nothing but the answers, and every question has one.
    """
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
    pairs = [(e, True) for e in asked] if shortest else _asked(asked, others, passages, rng)
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
    page: Page, passages: Sequence[Hit], model: Example, count: int, rng: random.Random
) -> Iterator[tuple[Example, bool]]:
    """At most ``count`` questions for sentences of the passages, some for one of a passage that is not shown."""
    from tinyforge.retrieve.quote import sentences_of
    from tinyforge.synthesize.by_words import ask_by_words

    shown, spans = sentences_of(passages), {hit.span for hit in passages}
    headings = [" ".join(passage.path) for passage in passages]
    hidden = [passage for passage in page.passages if passage.span not in spans]
    for there in rng.sample(shown, min(len(shown), max(0, count))):
        elsewhere = sentences_of([_hit(rng.choice(hidden))]) if hidden and rng.random() < _UNANSWERABLE else []
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
    shown = [number, *_distractors(page, number, question, count - 1, rng)][:count]
    rng.shuffle(shown)
    return shown


def _distractors(page: Page, number: int, question: str, count: int, rng: random.Random) -> list[int]:
    """Other passages of the document: half of the time those that share most words with the question."""
    from tinyforge.retrieve.words import content_words

    others = [n for n in range(len(page.passages)) if n != number]
    rng.shuffle(others)
    others = others[:60]  # a novel has hundreds; the nearest of sixty are near enough
    if rng.random() < 0.5:
        wanted = set(content_words(question))
        others.sort(key=lambda n: -len(wanted & set(content_words(page.passages[n].searched))))
    return others[: max(0, count)]


def _questions(pages: Iterable[Page], rng: random.Random) -> list[Example]:
    """Single questions to measure with, of the kinds in turn: gold passage, three passages, and none that answers."""
    facts = [(page, number, wordings) for page in pages for number in page.facts for wordings in page.facts[number]]
    facts = [fact for fact in facts if len(fact[0].passages) > SHOWN["passages"]]
    rng.shuffle(facts)
    found = []
    for place, (page, number, wordings) in enumerate(facts[: 3 * _TEST_QUESTIONS]):
        example, kind = rng.choice(wordings), ("gold", "passages", "missing")[place % 3]
        if kind == "missing":
            shown = _distractors(page, number, example.question, SHOWN["passages"], rng)
        else:
            shown = _shown(page, number, example.question, SHOWN[kind], rng)
        passages = [_hit(page.passages[n]) for n in shown]
        found.append(_conversation(passages, [(example, kind != "missing")], kind))
    return found


def teach(job: Job, parents: list[str], config: Config, on_status: Callable[[Status], None]) -> dict[str, Any]:
    """Stages ``choosing`` and ``reading``: train ``pretrained/`` further, in two parts; writes ``model/``.

    Which of several short passages is meant is learned first and alone, with the most questions to a token (``chosen/``
    is what that gives); then to find the answer in whole passages and to say when it is not there, with running text
    between. Mixed from the beginning, the choice is hardly learned at all: see docs/decisions/base.md.
    """
    settings = config.pretrain
    train = config.train.decisive()
    reading = {n: getattr(settings, n) for n in type(settings).model_fields if n.startswith("reading_")}
    inputs = [parents, reading, train, config.seed]
    start = "pretrained"
    if settings.reading_choices:
        part = _Part("choosing", "choices", start, "chosen")
        chosen = job.stage(part.stage, inputs, lambda key: _teach(job, key, part, config, on_status), together=True)
        inputs, start = [*inputs, chosen["key"]], part.result
    last = _Part("reading", "train", start, "model")
    return job.stage(last.stage, inputs, lambda key: _teach(job, key, last, config, on_status), together=True)


@dataclass(frozen=True)
class _Part:
    """A stage that trains the model in ``start`` on ``reading/LESSONS.jsonl``, and makes the folder ``result``."""

    stage: str
    lessons: str
    start: str
    result: str


def _teach(job: Job, key: str, part: _Part, config: Config, on_status: Callable[[Status], None]) -> dict[str, Any]:
    import torch

    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import load_model, load_tokenizer
    from tinyforge.pipeline.fit import fit
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.device import choose_device
    from tinyforge.train.rows import EncodedRows

    threads, device = set_threads(config.train.threads), choose_device(config.train.device)
    precision = job.world.share(settle_precision(job.run.folder, config.train.precision, device.type))
    folder = job.run.path(part.start)
    tokenizer = load_tokenizer(folder)
    model: Any = load_model(folder, precision).to(device)
    rows = EncodedRows(_rows(job, part.lessons, tokenizer, config))
    # The loop ends with the weights of the best dev loss, and by a dev set with declining choices only get worse.
    dev = EncodedRows(_rows(job, "dev", tokenizer, config)) if part.lessons == "train" else None
    changes = {
        "schedule": "wsd",
        "decay_fraction": config.pretrain.reading_decay_fraction,
        "epochs": 1.0,
        "max_steps": 0,
        "patience": 10**6,
        "batch_tokens": config.pretrain.reading_batch_tokens,
        "muon_learning_rate": config.pretrain.reading_muon_learning_rate,
    }
    result = fit(
        job,
        part.stage,
        key,
        model=model,
        objective=load("train", "sft", OBJECTIVES)(tokenizer.pad_token_id),
        rows=rows,
        dev=dev,
        settings=config.train.model_copy(update=changes),
        learning_rate=config.pretrain.reading_learning_rate,
        folder=job.run.path("reading", "checkpoints" if part.lessons == "train" else part.lessons),
        seed=config.seed,
        machine=(precision, threads),
        on_status=on_status,
    )

    def save(temporary: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    write_folder_atomic(job.run.path(part.result), save)
    return {
        "key": key,
        "rows": len(rows),
        "steps": result.steps,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 1),
        "dev_loss": result.best_loss,
    }


def _rows(job: Job, name: str, tokenizer: Any, config: Config) -> Iterator[Tokens]:
    """The lessons of a set, and for training running text too; what is too long is counted aloud."""
    from tinyforge.dataset.corpus import TokenStore
    from tinyforge.dataset.render import render

    longest = config.pretrain.reading_sequence
    kept = left_out = tokens = 0
    for row in read_jsonl(job.run.path("reading", f"{name}.jsonl")):
        rendered = render(Example.from_json(row).messages, tokenizer)
        if len(rendered.ids) > longest:
            left_out += 1
            continue
        kept, tokens = kept + 1, tokens + len(rendered.ids)
        yield rendered
    if left_out:
        job.say("reading", f"{name}: {left_out} of {kept + left_out} lessons left out: longer than {longest} tokens")
    if name != "train":
        return
    store = TokenStore(job.run.path("tokens", "train"), longest)
    order = random.Random(config.seed).sample(range(len(store)), len(store))
    wanted = tokens * _PLAIN_SHARE / (1 - _PLAIN_SHARE)
    for number in order:
        if wanted <= 0:
            return
        wanted -= int(store.lengths[number])
        yield store[number]

"""The second stage of a base: questions over its own corpus, answered out of passages or from memory.

A base that has only seen running text continues a question; one that has also been taught this way answers it, copies
from what it is given, and says when the passages do not hold the answer.
"""

from __future__ import annotations

import random
from collections import defaultdict
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

SHOWN = {"memory": 0, "gold": 1, "passages": 3, "sentences": 3}
"""How many passages a lesson of each kind shows; of the last kind, only some of their sentences."""
_SHARES = (0.05, 0.3, 0.4, 0.25)
_SENTENCES = 6  # at least, those of the answers among them, as small models are given them (retrieve.sentences)
_UNANSWERABLE = 0.12  # of the questions: the answer lies in a passage that is not shown
_QUESTIONS = 6  # at most, about the same passages: one prompt read for several answers learned
_PLAIN_SHARE = 0.3  # of the tokens: running text again, so that what was learned before is kept
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
            if name == "train":
                wanted = _characters(job, config)
                lessons = list(_until(_lessons(pages, rng), wanted))
                written = sum(map(_length, lessons))
                if written < wanted:
                    job.say("lessons", f"the corpus gives {written / wanted:.0%} of the lessons asked for")
            else:
                lessons = _questions(pages, rng)
            rng.shuffle(lessons)
            write_jsonl(job.run.path("reading", f"{name}.jsonl"), (e.to_json() for e in lessons))
            answers = sum(m.role == "assistant" for e in lessons for m in e.messages)
            counts[name] = {"lessons": len(lessons), "questions": answers}
            job.say("lessons", f"{name}: {answers:,} questions in {len(lessons):,} lessons")
        return {"key": key, **counts}

    return str(job.stage("lessons", inputs, work)["key"])


def _characters(job: Job, config: Config) -> float:
    """About how many characters of lessons come to the tokens that are wanted."""
    meta = read_json(job.run.path("tokens", "train", "meta.json"))
    return float(config.pretrain.reading_tokens * (1 - _PLAIN_SHARE) * meta["bytes"] / meta["tokens"])


def _until(lessons: Iterator[Example], characters: float) -> Iterator[Example]:
    total = 0
    for lesson in lessons:
        yield lesson
        total += _length(lesson)
        if total > characters:
            return


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


def _lessons(pages: Iterable[Page], rng: random.Random) -> Iterator[Example]:
    """One lesson for every passage that holds a fact."""
    for page in pages:
        for number in page.facts:
            kind = rng.choices(list(SHOWN), _SHARES)[0]
            question = rng.choice(rng.choice(page.facts[number]))
            shown = _shown(page, number, question.question, SHOWN[kind], rng)
            yield _lesson(page, shown or [number], kind, question, rng)


def _lesson(page: Page, shown: Sequence[int], kind: str, first: Example, rng: random.Random) -> Example:
    """Several questions about the shown passages, in any order; some are about others, and those are not answered.

    Facts come first; where there are too few, sentences are asked for by their own words.
    """
    asked = [rng.choice(wordings) for n in shown for wordings in page.facts.get(n, ())]
    asked = [first, *(e for e in asked if e.fact != first.fact)]
    rng.shuffle(asked)
    if kind == "memory":
        return _conversation([], [(first, True)], kind)
    others = [rng.choice(w) for n, facts in page.facts.items() if n not in shown for w in facts]
    rng.shuffle(others)
    pairs = []
    for example in asked[:_QUESTIONS]:
        if others and rng.random() < _UNANSWERABLE:
            pairs.append((others.pop(), False))
        else:
            pairs.append((example, True))
    passages = [_hit(page.passages[n]) for n in shown]
    pairs += _by_words(page, passages, first, _QUESTIONS - len(pairs), rng)
    rng.shuffle(pairs)
    if kind == "sentences":
        passages = _some_sentences(passages, [s for example, there in pairs if there for s in example.evidence], rng)
    return _conversation(passages, pairs, kind)


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
    """Stage ``reading``: train ``pretrained/`` further on the lessons and on running text; writes ``model/``."""
    settings = config.pretrain
    train = config.train.decisive()
    reading = {n: getattr(settings, n) for n in type(settings).model_fields if n.startswith("reading_")}
    inputs = [parents, reading, train, config.seed]
    return job.stage("reading", inputs, lambda key: _teach(job, key, config, on_status), together=True)


def _teach(job: Job, key: str, config: Config, on_status: Callable[[Status], None]) -> dict[str, Any]:
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
    folder = job.run.path("pretrained")
    tokenizer = load_tokenizer(folder)
    model: Any = load_model(folder, precision).to(device)
    rows, dev = EncodedRows(_rows(job, "train", tokenizer, config)), EncodedRows(_rows(job, "dev", tokenizer, config))
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
        "reading",
        key,
        model=model,
        objective=load("train", "sft", OBJECTIVES)(tokenizer.pad_token_id),
        rows=rows,
        dev=dev,
        settings=config.train.model_copy(update=changes),
        learning_rate=config.pretrain.reading_learning_rate,
        folder=job.run.path("reading", "checkpoints"),
        seed=config.seed,
        machine=(precision, threads),
        on_status=on_status,
    )

    def save(temporary: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    write_folder_atomic(job.run.path("model"), save)
    return {
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

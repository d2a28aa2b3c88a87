"""The second stage of a base: questions over its own corpus, answered out of passages or from memory.

A base that has only seen running text continues a question; one that has also been taught this way answers it, copies
from what it is given, and says when the passages do not hold the answer.
"""

from __future__ import annotations

import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example, Tokens
from tinyforge.run import read_json, read_jsonl, write_folder_atomic, write_jsonl
from tinyforge.synthesize.reading_lessons import Page, declining_lessons, held_out_questions, reading_lessons

if TYPE_CHECKING:
    from tinyforge.retrieve.passages import Passage
    from tinyforge.train.status import Status

_PLAIN_SHARE = 0.25  # of the tokens: running text again, so that what was learned before is kept
_DECLINING_RATE = 0.4  # of the learning rates before
_DECLINING_DECAY = 0.8
_GROUP = 40  # documents whose questions are written together
SETS = ("train", "dev", "test")
Named = tuple[str, str, str]
"""A document as ``(name, text, set)``."""


def write_lessons(job: Job, parent: str, documents: Iterable[Named], config: Config) -> str:
    """Stage ``lessons``: write reading/{train,dev,test}.jsonl; returns its key.

    A document of ``dev`` or ``test`` gives lessons to that set only: its passages are never trained on. Training
    lessons are written until ``pretrain.reading_tokens`` are reached.
    """
    settings = config.pretrain
    inputs = [
        parent,
        [settings.reading_tokens, settings.reading_choices, settings.reading_only, settings.reading_test_fraction],
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
            written = _training(job, pages, config, rng) if name == "train" else {name: held_out_questions(pages, rng)}
            for file, lessons in written.items():
                rng.shuffle(lessons)
                write_jsonl(job.run.path("reading", f"{file}.jsonl"), (e.to_json() for e in lessons))
                answers = sum(m.role == "assistant" for e in lessons for m in e.messages)
                counts[file] = {"lessons": len(lessons), "questions": answers}
                job.say("lessons", f"{file}: {answers:,} questions in {len(lessons):,} lessons")
        return {"key": key, **counts}

    return str(job.stage("lessons", inputs, work)["key"])


def write_declines(job: Job, parent: str, documents: Iterable[Named], config: Config) -> str:
    """Stage ``declines``: write reading/declines.jsonl, lessons of the training documents in another order.

    As many as come to ``pretrain.declining_tokens``. ``parent`` is the key of the stage ``lessons``, which settles what
    is held out. Returns its key.
    """
    inputs = [parent, config.pretrain.declining_tokens]

    def work(key: str) -> dict[str, Any]:
        members = [document for document in documents if document[2] == "train"]
        rng = random.Random(f"{config.seed}:declines")
        rng.shuffle(members)
        wanted = _characters(job, config.pretrain.declining_tokens) * (1 - _PLAIN_SHARE)
        written, length = [], 0
        for lesson in declining_lessons(_pages(members, config), rng):
            written.append(lesson)
            length += _length(lesson)
            if length >= wanted:
                break
        else:
            job.say("declines", f"the corpus gives {length / wanted:.0%} of the lessons asked for")
        rng.shuffle(written)
        write_jsonl(job.run.path("reading", "declines.jsonl"), (e.to_json() for e in written))
        return {"key": key, "lessons": len(written)}

    return str(job.stage("declines", inputs, work)["key"])


def _characters(job: Job, tokens: int) -> float:
    """About how many characters so many tokens of the corpus are."""
    meta = read_json(job.run.path("tokens", "train", "meta.json"))
    return float(tokens * meta["bytes"] / meta["tokens"])


def _training(job: Job, pages: Iterable[Page], config: Config, rng: random.Random) -> dict[str, list[Example]]:
    """The lessons of both parts, as many as come to the tokens that are wanted of each, or as the corpus gives."""
    characters = _characters(job, config.pretrain.reading_tokens)
    choosing = characters * config.pretrain.reading_choices
    wanted = {"choices": choosing, "train": (characters - choosing) * (1 - _PLAIN_SHARE)}
    written: dict[str, list[Example]] = {name: [] for name in wanted}
    lengths = dict.fromkeys(wanted, 0)
    for name, lesson in reading_lessons(pages, rng):
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


def teach(
    job: Job, parents: list[str], declines: str, config: Config, on_status: Callable[[Status], None]
) -> dict[str, Any]:
    """Train ``pretrained/`` further, in up to three parts, each a stage; writes ``model/``. Returns the last's summary.

    Which of several short passages is meant is learned first and alone, with the most questions to a token
    (``choosing``, its result in ``chosen/``); then to find the answer in whole passages, with running text between
    (``reading``, ``read/``); and last, at a low rate, to tell what they do not answer (``declining``, ``declined/``).
    Mixed from the beginning, the choice is hardly learned at all: see docs/decisions/base.md. ``declines`` is the key
    of the last part's lessons, "" to leave it out.
    """
    settings = config.pretrain
    reading = {n: getattr(settings, n) for n in type(settings).model_fields if n.startswith("reading_")}
    inputs = [parents, reading, config.train.decisive(), config.seed]
    parts = [_Part("reading", "train", "read", settings.reading_decay_fraction)]
    if settings.reading_choices:
        parts.insert(0, _Part("choosing", "choices", "chosen", settings.reading_decay_fraction))
    if declines:
        parts.append(_Part("declining", "declines", "declined", _DECLINING_DECAY, _DECLINING_RATE))
    start, summary = "pretrained", dict[str, Any]()
    for part in parts:
        if part.stage == "declining":
            inputs = [*inputs, declines]
        summary = job.stage(part.stage, inputs, _work(job, part, start, config, on_status), together=True, trains=True)
        inputs, start = [*inputs, summary["key"]], part.result
    take_as_model(job, start)
    return summary


def take_as_model(job: Job, made: str) -> None:
    """What the last part of a pretraining left in the folder ``made`` is the run's model."""

    def copy(folder: Path) -> None:
        shutil.copytree(job.run.path(made), folder, dirs_exist_ok=True)

    write_folder_atomic(job.run.path("model"), copy)


@dataclass(frozen=True)
class _Part:
    """A stage that trains on ``reading/LESSONS.jsonl``, and makes the folder ``result``; ``rate`` times the rates."""

    stage: str
    lessons: str
    result: str
    decay: float
    rate: float = 1.0


def _work(
    job: Job, part: _Part, start: str, config: Config, on_status: Callable[[Status], None]
) -> Callable[[str], dict[str, Any]]:
    return lambda key: _teach(job, key, part, start, config, on_status)


def _teach(
    job: Job, key: str, part: _Part, start: str, config: Config, on_status: Callable[[Status], None]
) -> dict[str, Any]:
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
    folder = job.run.path(start)
    tokenizer = load_tokenizer(folder)
    model: Any = load_model(folder, precision).to(device)
    rows = EncodedRows(_rows(job, part.lessons, tokenizer, config))
    # The loop ends with the weights of the best dev loss, and by a dev set with declining choices only get worse.
    dev = EncodedRows(_rows(job, "dev", tokenizer, config)) if part.lessons != "choices" else None
    changes = {
        "schedule": "wsd",
        "decay_fraction": part.decay,
        "epochs": 1.0,
        "max_steps": 0,
        "patience": 10**6,
        "batch_tokens": config.pretrain.reading_batch_tokens,
        "muon_learning_rate": part.rate * config.pretrain.reading_muon_learning_rate,
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
        learning_rate=part.rate * config.pretrain.reading_learning_rate,
        folder=job.run.path("reading", "checkpoints" if part.lessons == "train" else part.lessons),
        seed=config.seed,
        machine=(precision, threads),
        on_status=on_status,
    )

    def save(temporary: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    job.overwrite()
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
    if name not in ("train", "declines"):
        return
    store = TokenStore(job.run.path("tokens", "train"), longest)
    order = random.Random(config.seed).sample(range(len(store)), len(store))
    wanted = tokens * _PLAIN_SHARE / (1 - _PLAIN_SHARE)
    for number in order:
        if wanted <= 0:
            return
        wanted -= int(store.lengths[number])
        yield store[number]

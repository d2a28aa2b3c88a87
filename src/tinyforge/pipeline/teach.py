"""The second stage of a base: questions over its own corpus, answered from memory or out of passages.

A base that has only seen running text continues a question; one that has also been taught this way answers it, copies
from what it is given, and says when the passages do not hold the answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example, Tokens
from tinyforge.run import hash_json, read_jsonl, write_folder_atomic, write_jsonl

if TYPE_CHECKING:
    from tinyforge.train.loop import Status

KINDS = ("memory", "gold", "passages", "missing")
"""The question alone; with its passage; with its passage among distractors; with distractors only."""
_SHARES = (0.25, 0.25, 0.30, 0.20)
_PLAIN_SHARE = 0.25  # of the rows: running text again, so that what was learned before is kept


def write_questions(job: Job, parent: str, texts: Iterable[tuple[str, str, bool]], config: Config) -> str:
    """Stage ``questions``: write reading/{train,test}.jsonl from ``(name, text, held out)`` rows; returns its key.

    Held-out documents give test questions only; their passages never appear in training.
    """
    settings = config.pretrain
    inputs = [
        parent,
        settings.reading_questions,
        settings.reading_characters,
        config.synthesize.model_dump(),
        config.retrieve.model_dump(),
        config.seed,
    ]

    def work(key: str) -> dict[str, Any]:
        train, test = _documents(texts, settings.reading_characters)
        counts = {}
        for name, documents in (("train", train), ("test", test)):
            limit = settings.reading_questions if name == "train" else 400
            examples = _questions(job, name, documents, limit, config)
            write_jsonl(job.run.path("reading", f"{name}.jsonl"), (e.to_json() for e in examples))
            counts[name] = len(examples)
            job.say("questions", f"{name}: {len(examples):,} questions over {len(documents):,} documents")
        return {"key": key, **counts}

    return str(job.stage("questions", inputs, work)["key"])


def _documents(texts: Iterable[tuple[str, str, bool]], characters: int) -> tuple[list[Document], list[Document]]:
    """Training documents up to ``characters``, and every held-out one."""
    from tinyforge.ingest.markdown import from_text

    train: list[Document] = []
    test: list[Document] = []
    total = 0
    for name, text, held_out in texts:
        if not held_out and total >= characters:
            continue
        document = from_text(text, name, {"format": "markdown"})
        (test if held_out else train).append(document)
        total += 0 if held_out else len(text)
    return train, test


def _questions(job: Job, name: str, documents: Sequence[Document], limit: int, config: Config) -> list[Example]:
    """At most ``limit`` examples, one wording of a fact each, in the four kinds."""
    from tinyforge.retrieve.index import Index
    from tinyforge.synthesize import synthesize

    rng = random.Random(f"{config.seed}:{name}")
    made = synthesize(documents, config.synthesize, config.seed).examples
    facts: dict[str, list[Example]] = {}
    for example in made:
        facts.setdefault(example.fact, []).append(example)
    chosen = [rng.choice(rows) for rows in facts.values()]
    rng.shuffle(chosen)
    index = Index.build(job.run.path("reading", f"{name}-index"), documents, config.retrieve)
    return _in_kinds(chosen[:limit], index.search_many, rng, config)


def _in_kinds(examples: Sequence[Example], search: Any, rng: random.Random, config: Config) -> list[Example]:
    from tinyforge.dataset.reading import DEPTH, place_gold, with_prompt

    found = search([e.question for e in examples], DEPTH)
    result = []
    for example, hits in zip(examples, found, strict=True):
        gold = next((h for h in hits if any(h.span.overlaps(s) for s in example.evidence)), None)
        others = [h for h in hits if not any(h.span.overlaps(s) for s in example.evidence)]
        kind = rng.choices(KINDS, _SHARES)[0]
        if kind == "memory":
            result.append(with_prompt(example, [], kind))
        elif kind == "missing":
            result.append(with_prompt(example, others[: config.retrieve.passages], kind))
        elif gold is not None:
            several = kind == "passages"
            shown = place_gold(gold, others, config.retrieve.passages, rng) if several else [gold]
            result.append(with_prompt(example, shown, kind))
    return result


def teach(job: Job, parents: list[str], config: Config, on_status: Callable[[Status], None]) -> dict[str, Any]:
    """Stage ``reading``: train ``pretrained/`` further on the questions and on running text; writes ``model/``."""
    settings = config.pretrain
    train = config.train.model_dump(exclude={"checkpoint_seconds"})
    inputs = [parents, settings.reading_sequence, settings.reading_learning_rate, train, config.seed]
    return job.stage("reading", inputs, lambda key: _teach(job, key, config, on_status))


def _teach(job: Job, key: str, config: Config, on_status: Callable[[Status], None]) -> dict[str, Any]:
    import torch

    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import load_model, load_tokenizer
    from tinyforge.pipeline.pretrain import with_events
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.loop import EncodedRows, Training

    threads, precision = set_threads(config.train.threads), settle_precision(job.run.folder, config.train.precision)
    folder = job.run.path("pretrained")
    tokenizer = load_tokenizer(folder)
    model: Any = load_model(folder, precision)
    rows, dev = _rows(job, tokenizer, config)
    changes = {"optimizer": "adamw", "schedule": "linear", "epochs": 1.0, "max_steps": 0, "patience": 10**6}
    training = Training(
        model=model,
        objective=load("train", "sft", OBJECTIVES)(tokenizer.pad_token_id),
        rows=EncodedRows(rows),
        dev=EncodedRows(dev),
        config=config.train.model_copy(update=changes),
        learning_rate=config.pretrain.reading_learning_rate,
        folder=job.run.path("reading", "checkpoints"),
        key=hash_json([key, precision, threads]),
        seed=config.seed,
        on_status=with_events(job.run, on_status),
        on_note=lambda note: job.say("reading", note),
    )
    result = training.run()

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


def _rows(job: Job, tokenizer: Any, config: Config) -> tuple[list[Tokens], list[Tokens]]:
    """Questions and running text for training, questions for the dev loss; what is too long is counted aloud."""
    from tinyforge.dataset.corpus import TokenStore
    from tinyforge.dataset.render import render

    longest = config.pretrain.reading_sequence
    rendered: dict[str, list[Tokens]] = {}
    for name in ("train", "test"):
        examples = map(Example.from_json, read_jsonl(job.run.path("reading", f"{name}.jsonl")))
        found = [render(example.messages, tokenizer) for example in examples]
        rendered[name] = [row for row in found if len(row.ids) <= longest]
        if len(found) > len(rendered[name]):
            left = len(found) - len(rendered[name])
            job.say("reading", f"{name}: {left} of {len(found)} questions left out: longer than {longest} tokens")
    store = TokenStore(job.run.path("tokens", "train"), longest)
    rng = random.Random(config.seed)
    count = min(len(store), round(_PLAIN_SHARE * len(rendered["train"])))
    plain = [store[i] for i in rng.sample(range(len(store)), count)]
    return [*rendered["train"], *plain], rendered["test"]

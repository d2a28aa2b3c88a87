"""Let every variant answer: what the report compares, and what shows forgetting."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tinyforge.config import Config
from tinyforge.pipeline.reading import give_way
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example, Hit, Message

if TYPE_CHECKING:
    from tinyforge.evaluate.compare import Answer
    from tinyforge.models.generate import Writer
    from tinyforge.retrieve.index import Index

Count = Callable[[str, int, int], None]
Sets = Mapping[str, Sequence[Example]]
Shots = list[tuple[str, str]]


@dataclass
class Answers:
    """``to_sets[set][variant]``, one answer per question; ``to_probes[model][kind]``, one text per probe.

    ``left_out`` says in sentences what was not asked, or only in part.
    """

    to_sets: dict[str, dict[str, list[Answer]]] = field(default_factory=dict)
    to_probes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def answer_all(
    job: Job,
    asked: Sets,
    hits: Mapping[str, list[list[Hit]]],
    train: Sequence[Example],
    index: Index,
    config: Config,
    count: Count,
) -> Answers:
    """What quote, the base and the tuned model answer to the sets and to the probes of forgetting.

    The few-shot prompt of the base holds examples of ``train`` (see pick_shots). Both models are loaded once, one
    after the other.
    """
    from tinyforge.models.resolve import count_parameters
    from tinyforge.retrieve.quote import to_read
    from tinyforge.serve.load import base_of, load_writer

    found = Answers(to_sets={name: {"quote": _quotes(rows, hits[name], index)} for name, rows in asked.items()})
    sentences = config.retrieve.shown_sentences(count_parameters(base_of(job.run, config).folder))
    shown = {n: to_read([e.question for e in r], hits[n], index.embedder, sentences) for n, r in asked.items()}
    shots = pick_shots(train, config.evaluate.shots + 1, config.seed) if config.evaluate.shots else []
    for model in ("base", "tuned"):
        writer = load_writer(job.run, model, config)
        for variant, prompts in _prompts(writer, model, asked, shown):
            for name, rows in asked.items():
                tell = partial(count, f"{variant} answers {name}")
                written = _write(writer, rows, prompts[name], tell, hits_of(variant, hits[name]))
                if variant.endswith("+retrieval"):
                    written = give_way(written, hits[name], found.to_sets[name]["quote"], copied=bool(sentences))
                found.to_sets[name][variant] = written
        if model == "base" and shots:
            _few_shot(writer, asked, shots, config.evaluate.shots, found, count)
        found.to_probes[model] = _probe(writer, partial(count, f"{model} answers general probes"))
    if not config.evaluate.shots:
        found.left_out.append("The few-shot prompt was not measured: evaluate.shots is 0.")
    elif not shots:
        found.left_out.append("The few-shot prompt was not measured: no training question could be an example.")
    return found


def hits_of(variant: str, hits: Sequence[Sequence[Hit]]) -> Sequence[Sequence[Hit]]:
    """The passages that a variant is given."""
    return hits if variant.endswith("+retrieval") else [[] for _ in hits]


def _quotes(rows: Sequence[Example], hits: list[list[Hit]], index: Index) -> list[Answer]:
    from tinyforge.evaluate.compare import Answer
    from tinyforge.retrieve.quote import quote_many

    quotes = quote_many([e.question for e in rows], hits, index.embedder)
    return [Answer(q.text, hits=tuple(found)) for q, found in zip(quotes, hits, strict=True)]


def _prompts(
    writer: Writer, model: str, asked: Sets, hits: Mapping[str, Sequence[Sequence[Hit]]]
) -> Iterator[tuple[str, dict[str, list[list[Message]]]]]:
    """Each variant of a model with its prompts for every set."""
    for variant in (model, f"{model}+retrieval"):
        given = {name: hits_of(variant, hits[name]) for name in asked}
        yield (
            variant,
            {
                name: [writer.prompt(e.question, found) for e, found in zip(rows, given[name], strict=True)]
                for name, rows in asked.items()
            },
        )


def pick_shots(train: Sequence[Example], facts: int, seed: int) -> list[Example]:
    """Examples for a few-shot prompt: plain training questions, each on another fact, drawn with the seed."""
    plain = [e for e in train if e.kind == "chat" and not e.metadata.get("reading")]
    random.Random(seed).shuffle(plain)
    of_fact = {e.fact or e.id: e for e in plain}
    return list(of_fact.values())[:facts]


def shots_for(example: Example, shots: Sequence[Example], count: int) -> Shots:
    """At most ``count`` of the shots, without any on the fact that is asked about."""
    fit = [s for s in shots if not example.fact or s.fact != example.fact]
    return [(s.question, s.answer) for s in fit[:count]]


def _few_shot(writer: Writer, asked: Sets, shots: Sequence[Example], most: int, found: Answers, count: Count) -> None:
    short = 0
    for name, rows in asked.items():
        prompts = []
        for example in rows:
            prompt, kept = writer.few_shot(example.question, shots_for(example, shots, most))
            prompts.append(prompt)
            short += kept < most
        tell = partial(count, f"few-shot answers {name}")
        found.to_sets[name]["few-shot"] = _write(writer, rows, prompts, tell, [[] for _ in rows])
    if short:
        found.left_out.append(f"The few-shot prompt of {short} questions has fewer than {most} examples.")


def _probe(writer: Writer, count: Callable[[int, int], None]) -> dict[str, list[str]]:
    """The model's answers to the general questions and the instructions of forgetting."""
    from tinyforge.evaluate.probes import INSTRUCTIONS, general_questions

    asked = {"questions": [prompt for prompt, _ in general_questions()]}
    asked["instructions"] = [instruction.messages for instruction in INSTRUCTIONS]
    total = sum(map(len, asked.values()))
    tell = _adding(count, total)
    return {kind: [text.strip() for text in writer.answer_all(prompts, tell)] for kind, prompts in asked.items()}


def _adding(count: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    done = 0

    def tell(finished: int) -> None:
        nonlocal done
        done += finished
        count(done, total)

    return tell


def _write(
    writer: Writer,
    rows: Sequence[Example],
    prompts: Sequence[list[Message]],
    count: Callable[[int, int], None],
    hits: Sequence[Sequence[Hit]],
) -> list[Answer]:
    from tinyforge.dataset.prompts import NOT_FOUND
    from tinyforge.evaluate.compare import Answer
    from tinyforge.pipeline.answering import likelihoods

    texts = writer.answer_all(prompts, _adding(count, len(rows)))
    nats = likelihoods(writer, prompts, [e.answer for e in rows])
    return [
        Answer(text.strip(), nll, tokens, text.strip() == NOT_FOUND, tuple(found))
        for text, (nll, tokens), found in zip(texts, nats, hits, strict=True)
    ]

"""Ask every variant the held-out questions and write down what came out: the evaluate stage of a build."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example, Hit, Message
from tinyforge.run import Run, read_json, write_json

if TYPE_CHECKING:
    from tinyforge.evaluate.compare import Answer
    from tinyforge.models.generate import Writer
    from tinyforge.models.resolve import Base
    from tinyforge.retrieve.index import Index

Count = Callable[[str, int, int], None]
Sets = Mapping[str, Sequence[Example]]
CURVE_POINTS = 400


def examine(
    job: Job, base: Base, documents: Sequence[Document], sets: Sets, config: Config, count: Count, command: str
) -> dict[str, Any]:
    """Answer both held-out sets with every variant; write report.json, report.html and answering.json.

    ``sets["dev"]`` sets the similarity below which a question is declined. Returns the report.
    """
    from tinyforge.evaluate.answers import question_rows
    from tinyforge.evaluate.compare import difference_table, plain, recall_at, score_table
    from tinyforge.evaluate.report import write_report
    from tinyforge.evaluate.verdict import verdict
    from tinyforge.retrieve.index import Index

    limit, k = config.evaluate.max_questions, config.retrieve.passages
    asked = {name: sample(sets[name], limit, config.seed) for name in ("wordings", "documents")}
    index = Index.open(job.run.path("index"))
    hits = {name: index.search_many([e.question for e in rows], k) for name, rows in asked.items()}
    answers = _answers(job, base, asked, hits, index, config, count)
    settings: Any = {"resamples": config.evaluate.resamples, "seed": config.seed}
    scores = {name: score_table(rows, answers[name], **settings) for name, rows in asked.items()}
    differences = difference_table(asked, answers, **settings)
    found = verdict(scores, differences)
    questions = [example for rows in asked.values() for example in rows]
    places = [found for name in asked for found in hits[name]]
    by_id = {d.id: d for d in documents}
    report = {
        "verdict": found.text,
        "choice": found.choice,
        "reasons": list(found.reasons),
        "scores": plain(scores),
        "differences": plain(differences),
        "recall": plain({f"recall@{k}": recall_at(places, questions, k, **settings) for k in (1, 3)}),
        "questions": [row for name in asked for row in question_rows(name, asked[name], answers[name], by_id)],
        **_account(job, documents, config, command),
    }
    _write_answering(job.run, found.choice, index, sets["dev"], config)
    write_json(job.run.path("report.json"), report)
    write_report(report, job.run.path("report.html"))
    return report


def sample(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """At most ``limit`` of the examples, drawn at random but the same each time, in their own order."""
    if len(examples) <= limit:
        return list(examples)
    chosen = random.Random(seed).sample(range(len(examples)), limit)
    return [examples[i] for i in sorted(chosen)]


def _answers(
    job: Job, base: Base, asked: Sets, hits: Mapping[str, list[list[Hit]]], index: Index, config: Config, count: Count
) -> dict[str, dict[str, list[Answer]]]:
    """``[set][variant]``, one answer per question."""
    from tinyforge.evaluate.compare import Answer
    from tinyforge.retrieve.quote import quote_many
    from tinyforge.serve.load import load_writer

    answers: dict[str, dict[str, list[Answer]]] = {}
    for name, rows in asked.items():
        quotes = quote_many([e.question for e in rows], hits[name], index.embedder)
        given = zip(quotes, hits[name], strict=True)
        answers[name] = {"quote": [Answer(q.text, hits=tuple(found)) for q, found in given]}
    for model in ("base", "tuned"):
        writer = load_writer(job.run, model, config)
        for retrieval in (False, True):
            variant = f"{model}+retrieval" if retrieval else model
            for name, rows in asked.items():
                passages = hits[name] if retrieval else [[] for _ in rows]
                tell = partial(count, f"{variant} answers {name}")
                answers[name][variant] = _write(writer, rows, passages, tell)
    return answers


def _write(
    writer: Writer, rows: Sequence[Example], passages: Sequence[Sequence[Hit]], count: Callable[[int, int], None]
) -> list[Answer]:
    from tinyforge.dataset.prompts import NOT_FOUND
    from tinyforge.evaluate.compare import Answer

    prompts = [writer.prompt(e.question, hits) for e, hits in zip(rows, passages, strict=True)]
    done = 0

    def tell(finished: int) -> None:
        nonlocal done
        done += finished
        count(done, len(rows))

    texts = writer.answer_all(prompts, tell)
    likelihoods = reference_likelihoods(writer, prompts, [e.answer for e in rows])
    return [
        Answer(text.strip(), nll, tokens, text.strip() == NOT_FOUND, tuple(hits))
        for text, (nll, tokens), hits in zip(texts, likelihoods, passages, strict=True)
    ]


def reference_likelihoods(
    writer: Writer, prompts: Sequence[Sequence[Message]], references: Sequence[str]
) -> list[tuple[float, int]]:
    """For each prompt, the negative log likelihood (nats, summed) of its reference answer and its number of tokens."""
    from tinyforge.dataset.render import render
    from tinyforge.train.loss import row_losses
    from tinyforge.train.objectives.base import pad_rows

    found = []
    for prompt, reference in zip(prompts, references, strict=True):
        batch = pad_rows([render([*prompt, Message("assistant", reference)], writer.tokenizer)], 0)
        losses, counts = row_losses(writer.model, batch.ids_BT, batch.labels_BT)
        found.append((losses[0], counts[0]))
    return found


def _write_answering(run: Run, choice: str, index: Index, dev: Sequence[Example], config: Config) -> None:
    """What chat and ask need to know: the variant, how many passages, and when to decline."""
    from tinyforge.serve.answer import calibrate

    questions = list(dict.fromkeys(e.question for e in dev if not e.metadata.get("reading")))
    best = [max(h.similarity for h in hits) for hits in index.search_many(questions, config.retrieve.passages)]
    threshold = calibrate(best)
    write_json(
        run.path("answering.json"),
        {"variant": choice, "threshold": threshold, "passages": config.retrieve.passages, "calibrated_on": len(best)},
    )


def _account(job: Job, documents: Sequence[Document], config: Config, command: str) -> dict[str, Any]:
    """Where the numbers come from: data, training, machine, time."""
    from tinyforge.environment import machine, versions

    stages: dict[str, Any] = {p.stem: read_json(p) for p in job.run.path("stages").glob("*.json")}
    order = [name for name in ("documents", "examples", "index", "dataset", "train") if name in stages]
    summary: dict[str, Any] = {name: stages[name]["summary"] for name in order}
    return {
        "dataset": _dataset_account(summary, documents, job.run),
        "training": _training_account(summary["train"], job.run),
        "config": config.model_dump(),
        "machine": machine(),
        "versions": versions(),
        "seed": config.seed,
        "command": command,
        "seconds": {name: stages[name]["seconds"] for name in order},
    }


def _dataset_account(summary: Mapping[str, Any], documents: Sequence[Document], run: Run) -> dict[str, Any]:
    from collections import Counter

    from tinyforge.run import read_jsonl

    facts: dict[str, str] = {}
    for row in read_jsonl(run.path("dataset", "candidates.jsonl")):
        facts[row["fact"]] = row["metadata"]["source"]
    per_source = Counter(facts.values())
    examples = summary["examples"]
    rejected = [{"stage": "examples", "reason": r, "count": c} for r, c in examples["rejected"].items()]
    rendered = summary["train"]["rendered"]["train"]["left_out"]
    cut = [{"stage": "train", "reason": r, "count": c} for r, c in rendered.items()]
    return {
        "read": [
            {
                "source": d.source,
                "characters": len(d.text),
                "sections": len(d.sections()),
                "facts": per_source.get(d.source, 0),
            }
            for d in documents
        ],
        "skipped": summary["documents"]["skipped"],
        "sections": examples["sections"],
        "sections_with_facts": examples["sections_covered"],
        "sections_with_precise_facts": examples["sections_covered_by_precise_rules"],
        "spans_verified": examples["spans_verified"],
        "examples": examples["examples"],
        "facts": examples["facts"],
        "rules": examples["rules"],
        "splits": summary["dataset"]["splits"],
        "reading": summary["dataset"]["reading"],
        "dropped": [*rejected, *summary["dataset"]["dropped"], *cut],
    }


def _training_account(train: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The figures of the training and its curve; a step that was run twice after a kill is taken once."""
    steps = {row["step"]: row for row in run.events("step")}
    kept = [steps[n] for n in sorted(steps) if n <= train["steps"]]
    thin = max(1, len(kept) // CURVE_POINTS)
    names = ("step", "loss", "dev_loss", "learning_rate", "tokens_per_second")
    curve = [
        {name: row[name] for name in names}
        for i, row in enumerate(kept)
        if i % thin == 0 or row["dev_loss"] is not None or i == len(kept) - 1
    ]
    return {
        "steps": train["steps"],
        "planned_steps": train["planned_steps"],
        "seconds": train["train_seconds"],
        "tokens": train["tokens"],
        "best_step": None if train["best_step"] == train["steps"] else train["best_step"],
        "stopped_by": train["stopped_by"],
        "general": train["general"],
        "method": train["method"],
        "parameters": train["parameters"],
        "trained": train["trained"],
        "learning_rate": train["learning_rate"],
        "precision": train["precision"],
        "curve": curve,
    }

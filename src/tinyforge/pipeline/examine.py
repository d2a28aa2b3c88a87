"""Ask every variant the held-out questions and write down what came out: the evaluate stage of a build."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.pipeline.account import account
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.variants import Answers, Count, Sets, answer_all, pick_shots
from tinyforge.records import Document, Example, Hit
from tinyforge.run import Run, read_json, write_json

if TYPE_CHECKING:
    from tinyforge.retrieve.index import Index


def examine(
    job: Job, documents: Sequence[Document], sets: Sets, config: Config, count: Count, command: str
) -> dict[str, Any]:
    """Answer both held-out sets with every variant; write report.json, report.html and answering.json.

    ``sets["dev"]`` sets the similarity below which a question is declined; ``sets["train"]`` gives the examples of the
    few-shot prompt, and is what leaks are looked for in. Returns the report.
    """
    from tinyforge.evaluate.report import write_report
    from tinyforge.retrieve.index import Index

    began = time.perf_counter()
    limit, k = config.evaluate.max_questions, config.retrieve.passages
    asked = {name: sample(sets[name], limit, config.seed) for name in ("wordings", "documents")}
    index = Index.open(job.run.path("index"))
    index.embedder.remember()  # several variants read the same sentences
    hits = {name: index.search_many([e.question for e in rows], k) for name, rows in asked.items()}
    answers = answer_all(job, asked, hits, sets["train"], index, config, count)
    report = _results(job, asked, hits, answers, documents, config)
    report["leaks"] = _leaks(asked, sets["train"], index)
    report |= account(job, documents, config, command, began)
    _write_answering(job.run, report["choice"], index, sets, config)
    write_json(job.run.path("report.json"), report)
    write_report(report, job.run.path("report.html"))
    return report


def _results(
    job: Job,
    asked: Sets,
    hits: Mapping[str, list[list[Hit]]],
    answers: Answers,
    documents: Sequence[Document],
    config: Config,
) -> dict[str, Any]:
    """The part of the report that the answers decide."""
    from tinyforge.evaluate.answers import question_rows
    from tinyforge.evaluate.compare import difference_table, plain, recall_at, score_table
    from tinyforge.evaluate.forgetting import forgetting, sentences
    from tinyforge.evaluate.measure import Failure, failure_lines
    from tinyforge.evaluate.metrics import STANDARD, expanded, find_metrics
    from tinyforge.evaluate.topics import breakdown
    from tinyforge.evaluate.verdict import verdict

    given = answers.to_sets
    settings: Any = {"resamples": config.evaluate.resamples, "seed": config.seed}
    metrics, failures = find_metrics(expanded([*STANDARD, *config.evaluate.metrics])), list[Failure]()
    scores = {
        name: score_table(rows, given[name], metrics, **settings, failures=failures) for name, rows in asked.items()
    }
    differences = difference_table(asked, given, **settings)
    general = read_json(job.run.path("stages", "train.json"))["summary"].get("general")
    forgot = forgetting(general, answers.to_probes["base"], answers.to_probes["tuned"], **settings)
    found = verdict(scores, differences, forgotten=sentences(forgot))
    questions = [example for rows in asked.values() for example in rows]
    places = [found for name in asked for found in hits[name]]
    by_id = {d.id: d for d in documents}
    rows = [row for name in asked for row in question_rows(name, asked[name], given[name], by_id)]
    return {
        "verdict": found.text,
        "choice": found.choice,
        "reasons": list(found.reasons),
        "scores": plain(scores),
        "differences": plain(differences),
        "recall": plain({f"recall@{k}": recall_at(places, questions, k, **settings) for k in (1, 3)}),
        "breakdown": breakdown(rows),
        "forgetting": forgot,
        "left_out": [*answers.left_out, *failure_lines(failures)],
        "questions": rows,
    }


def _leaks(asked: Sets, train: Sequence[Example], index: Index) -> dict[str, Any]:
    from tinyforge.evaluate.leaks import leaks

    found = {name: leaks(rows, train, index.embedder) for name, rows in asked.items()}
    return {name: {**one.to_json(), "line": one.line()} for name, one in found.items()}


def sample(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    """At most ``limit`` of the examples, drawn at random but the same each time, in their own order."""
    if len(examples) <= limit:
        return list(examples)
    chosen = random.Random(seed).sample(range(len(examples)), limit)
    return [examples[i] for i in sorted(chosen)]


def _write_answering(run: Run, choice: str, index: Index, sets: Sets, config: Config) -> None:
    """What chat and ask need to know: the variant, how many passages, when to decline, and the few-shot examples."""
    from tinyforge.models.resolve import count_parameters
    from tinyforge.retrieve.quote import closeness, quote_many
    from tinyforge.serve.answer import calibrate
    from tinyforge.serve.load import base_of

    questions = list(dict.fromkeys(e.question for e in sets["dev"] if not e.metadata.get("reading")))
    found = index.search_many(questions, config.retrieve.passages)
    quotes = quote_many(questions, found, index.embedder)
    best = [closeness(quoted, hits) for quoted, hits in zip(quotes, found, strict=True)]
    threshold = calibrate(best)
    write_json(
        run.path("answering.json"),
        {
            "variant": choice,
            "threshold": threshold,
            "passages": config.retrieve.passages,
            "sentences": config.retrieve.shown_sentences(count_parameters(base_of(run, config).folder)),
            "calibrated_on": len(best),
            "shots": [[e.question, e.answer] for e in pick_shots(sets["train"], config.evaluate.shots, config.seed)],
        },
    )

"""Ask contenders the same questions, score them, and say what of it was trained on: `tinyforge evaluate` and `compare`.

The folder that it writes holds evaluation.json and answers/, from which a second evaluation takes what it can.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.evaluate.compare import fact_clusters
from tinyforge.evaluate.legend import READING_ORDER, ordered
from tinyforge.evaluate.metrics import CLASSIFICATION, expanded, find_metrics
from tinyforge.evaluate.metrics.base import Answer, Metric, Pooled
from tinyforge.pipeline.answering import BLOCK, Asking, Contender, Hits, ask
from tinyforge.pipeline.contenders import Models, Opened, is_run, open_contender
from tinyforge.records import Example, Hit
from tinyforge.run import Run, write_json

FILE = "evaluation.json"
NAMED = 5  # places of rows left out that are said; the rest are counted
TEXT_METRICS = (
    *("exact_match", "token_f1", "rouge_l", "bleu", "chrf", "meteor", "similarity", "groundedness", "refusal_f1"),
    *("repetition", "length_ratio", "perplexity", "bits_per_byte", "declined", "seconds_per_answer"),
    "tokens_per_second",
)
CLASS_METRICS = (*CLASSIFICATION, "seconds_per_answer")


@dataclass(frozen=True)
class Wish:
    """What a person asked for: ``data`` (a file; none: a run's held-out sets), further ``metrics``, the ``variants`` of
    a run (none: all), the ``primary`` metric (none: by the data), and at most ``limit`` questions (0: all)."""

    data: str = ""
    metrics: Sequence[str] = ()
    variants: Sequence[str] = ()
    primary: str = ""
    limit: int = 0


@dataclass(frozen=True)
class Heard:
    """How the person hears of it: notes, and how many questions a contender has answered with the seconds left."""

    say: Callable[[str, str], None] = lambda stage, note: None
    count: Callable[[str, int, int, float], None] = lambda name, done, total, eta: None


@dataclass
class _Field:
    """Who takes part: ``trained`` holds, for each run, the contenders that learned from its training rows."""

    contenders: list[Contender] = field(default_factory=list)
    runs: dict[str, Opened] = field(default_factory=dict)


def evaluate(target: str, out: str | Path | None, config: Config, wish: Wish, heard: Heard) -> dict[str, Any]:
    """Every variant of a run, or a base, an adapter, an export or an endpoint, on ``wish.data`` or, for a run, on
    its own held-out sets. Returns what evaluation.json holds (see :func:`_measure`).

    Raises InputError for a target, data or metric that cannot be used.
    """
    with Models() as models:
        if not is_run(target):
            if wish.variants:
                raise InputError(f"{target}: is no run, and has no variants.", "Leave --variant out, or name a run.")
            contender, opened = open_contender(target, config, models)
            taking = _Field([contender], {target: opened} if opened else {})
        else:
            opened = Opened.open(target, config, models)
            chosen = wish.variants or [v for v in opened.variants if v != "few-shot" or config.evaluate.shots]
            taking = _Field([opened.contender(variant) for variant in dict.fromkeys(chosen)], {target: opened})
        if wish.data:
            sets = {Path(wish.data).name: read_questions(wish.data, heard)}
        elif opened is not None:
            sets = _held_out(target, opened)
        else:
            raise InputError(f"{target}: has no questions of its own.", "Give some: --data FILE")
        folder = Path(out) if out else Path(target) / "evaluation" if is_run(target) else Path("evaluation")
        return _measure("evaluate", folder, taking, sets, config, wish, heard)


def compare(targets: Sequence[str], out: str | Path | None, config: Config, wish: Wish, heard: Heard) -> dict[str, Any]:
    """Two or more contenders on the questions of ``wish.data``; the first is what the others are held against."""
    if len(set(targets)) < len(targets) or len(targets) < 2:
        raise InputError(
            "a comparison takes two or more different contenders.", "For example: tinyforge compare RUN tiny"
        )
    taking = _Field()
    with Models() as models:
        for target in targets:
            contender, opened = open_contender(target, config, models)
            taking.contenders.append(contender)
            if opened is not None:
                taking.runs[target] = opened
        sets = {Path(wish.data).name: read_questions(wish.data, heard)}
        return _measure("compare", Path(out or "comparison"), taking, sets, config, wish, heard)


def read_questions(data: str, heard: Heard) -> list[Example]:
    """The rows of a file; what cannot be used is counted aloud, with the places of the first few."""
    from tinyforge.dataset.rows import read_rows

    if not Path(data).exists():
        raise InputError(f"{data}: no such file.", "Give --data a file of questions with their answers.")
    found = read_rows(data)
    for reason, count in found.reasons.items():
        places = [row.place for row in found.dropped if row.reason == reason]
        more = f" and {count - NAMED:,} more" if count > NAMED else ""
        heard.say("", f"left out, {reason}: {count:,} ({', '.join(places[:NAMED])}{more})")
    for note in found.notes:
        heard.say("", note)
    if found.kind == "text":
        raise InputError(f"{data}: holds running text, and no questions.", "Give rows with a question and an answer.")
    return found.examples


def _held_out(target: str, opened: Opened) -> dict[str, list[Example]]:
    sets = opened.held_out()
    if not sets:
        raise InputError(f"{target}: kept no rows out of its training.", "Give questions: --data FILE")
    return sets


def sample(examples: list[Example], limit: int, seed: int) -> list[Example]:
    """At most ``limit`` of the examples (0: all), drawn at random but the same each time, in their own order."""
    if not limit or len(examples) <= limit:
        return examples
    chosen = random.Random(seed).sample(range(len(examples)), limit)
    return [examples[i] for i in sorted(chosen)]


def _measure(
    command: str,
    folder: Path,
    taking: _Field,
    sets: Mapping[str, list[Example]],
    config: Config,
    wish: Wish,
    heard: Heard,
) -> dict[str, Any]:
    """``sets[name]``: what evaluate.contest gives, with ``leaks[run]`` and ``unanswered[contender]``. The rest says
    where the numbers come from; ``reused`` counts the answers that were there already."""
    from tinyforge.environment import machine, versions

    began = time.monotonic()
    asked = {name: sample(rows, wish.limit, config.seed) for name, rows in sets.items()}
    for name, rows in asked.items():
        fact_clusters(rows, name, "Ask about two facts or more.")  # refused before anything is asked
    for name, rows in asked.items():
        if len(rows) < len(sets[name]):
            heard.say("", f"{name}: {len(rows)} of {len(sets[name])} questions, drawn with seed {config.seed}")
    plans = {name: _metrics(rows, wish, config) for name, rows in asked.items()}
    run = Run.create(folder, command)
    with run.lock():
        swap = any("context_use" in metrics for metrics, _ in plans.values())
        asking = Asking(run.path("answers"), heard.count, swap)
        answers = _answers(taking, asked, asking, heard)
        heard.say("scores", "")
        results = {}
        for name, rows in asked.items():
            pairs = _planned(list(answers[name])) if command == "evaluate" else None
            results[name] = _score(rows, answers[name], plans[name], taking, config, pairs)
        result = {
            "command": command,
            "contenders": [contender.name for contender in taking.contenders],
            "data": wish.data,
            "sets": results,
            "seed": config.seed,
            "evaluate": config.evaluate.model_dump(),
            "reused": asking.reused,
            "seconds": round(time.monotonic() - began, 1),
            "machine": machine(),
            "versions": versions(),
            "out": str(folder),
        }
        write_json(run.path(FILE), result)
    return result


def _metrics(rows: Sequence[Example], wish: Wish, config: Config) -> tuple[dict[str, Metric | Pooled], str]:
    """The metrics for these rows and the one that decides."""
    labelled = rows[0].kind == "labelled"
    standard = CLASS_METRICS if labelled else TEXT_METRICS
    found = find_metrics(expanded([*standard, *config.evaluate.metrics, *wish.metrics], labelled))
    return found, wish.primary or ("accuracy" if labelled else "token_f1")


def _answers(
    taking: _Field, asked: Mapping[str, list[Example]], asking: Asking, heard: Heard
) -> dict[str, dict[str, list[Answer]]]:
    """``[set][contender]``; contender by contender, so that each model is loaded once."""
    found: dict[str, dict[str, list[Answer]]] = {name: {} for name in asked}
    readers = dict.fromkeys(contender.reads for contender in taking.contenders if contender.reads)
    opened = {run.name: run for run in taking.runs.values()}
    hits = {(name, run): _hits(rows, opened[run], heard) for name, rows in asked.items() for run in readers}
    heard.say("answers", "")
    for contender in taking.contenders:
        for name, rows in asked.items():
            found[name][contender.name] = ask(contender, rows, hits.get((name, contender.reads), ()), asking)
    names = [contender.name for contender in taking.contenders]
    order = ordered(names, ("majority", *READING_ORDER))
    return {name: {contender: given[contender] for contender in order} for name, given in found.items()}


def _hits(rows: Sequence[Example], opened: Opened, heard: Heard) -> Hits:
    """The passages of a run for each question."""
    index, found = opened.index(), list[tuple[Hit, ...]]()
    for start in range(0, len(rows), BLOCK):
        questions = [str(e.metadata.get("question", e.question)) for e in rows[start : start + BLOCK]]
        found += [tuple(hits) for hits in index.search_many(questions, opened.config.retrieve.passages)]
        heard.count("searching", len(found), len(rows), 0.0)
    return found


def _planned(variants: Sequence[str]) -> list[tuple[str, str]]:
    """What is asked of one model: is each variant better than the first, and does tuning help a reader?"""
    further = ("base+retrieval", "tuned+retrieval"), ("tuned", "tuned+retrieval"), ("quote", "tuned+retrieval")
    pairs = [(variants[0], variant) for variant in variants[1:]]
    return [*pairs, *(pair for pair in further if set(pair) <= set(variants) and pair not in pairs)]


def _score(
    rows: list[Example],
    answers: Mapping[str, list[Answer]],
    plan: tuple[dict[str, Metric | Pooled], str],
    taking: _Field,
    config: Config,
    pairs: Sequence[tuple[str, str]] | None,
) -> dict[str, Any]:
    from tinyforge.evaluate.contest import contest
    from tinyforge.evaluate.leaks import leaks

    metrics, primary = plan
    settings: Any = {"resamples": config.evaluate.resamples, "seed": config.seed}
    result = contest(rows, answers, metrics, primary, **settings, pairs=pairs)
    result["leaks"] = {
        name: leaks(rows, opened.training()).to_json() for name, opened in taking.runs.items() if opened.training()
    }
    result["unanswered"] = {
        name: [{"question": e.id, "error": a.error} for e, a in zip(rows, given, strict=True) if a.error]
        for name, given in answers.items()
    }
    result["answers"] = [
        {
            "id": example.id,
            "question": example.question,
            "reference": example.label or example.answer,
            "answers": {name: given[i].text for name, given in answers.items()},
        }
        for i, example in enumerate(rows)
    ]
    return result

"""A person's documents into a tuned model they can talk to: the main job, stage by stage.

documents -> examples -> index -> dataset -> train -> evaluate -> report; each arrow is a file in the run.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import TinyForgeError
from tinyforge.pipeline.documents import documents_stage
from tinyforge.pipeline.replay import replay_inputs
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example, Span
from tinyforge.run import Run, read_json, read_jsonl, write_json, write_jsonl

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base
    from tinyforge.train.loop import Status

SPLITS = ("train", "dev", "wordings", "documents")
_REPORT = "This is a fault of TinyForge: please report it with the run folder."


@dataclass(frozen=True)
class Watch:
    """How the job tells a person what it does: stages and notes, training steps, and counts of finished things."""

    say: Callable[[str, str], None] = lambda stage, note: None
    on_status: Callable[[Status], None] = lambda status: None
    count: Callable[[str, int, int], None] = lambda name, done, total: None


def build(sources: Sequence[str | Path], out: str | Path, config: Config, watch: Watch, command: str) -> dict[str, Any]:
    """Run every stage that is not done yet and return the report (also ``out/report.json`` and ``report.html``).

    ``command`` is what the person typed, for the report. Raises InputError for sources, base or folder that cannot be
    used; whatever stage was finished before stays and is not repeated.
    """
    from tinyforge.ingest import fingerprint
    from tinyforge.models.resolve import resolve
    from tinyforge.train.distributed import join

    inputs = fingerprint(sources, config.ingest)  # refuses before anything is written
    world = join(config.train)
    base = resolve(config.base)
    run = Run.create(out, "build", continues=("ingest",))
    with run.lock():
        write_json(run.path("config.json"), config.model_dump())
        job = Job(run, watch.say, world=world)
        documents_key = str(documents_stage(job, sources, inputs, config)["key"])
        examples_key = _examples_stage(job, documents_key, config)
        index_key = _index_stage(job, documents_key, config)
        dataset_key = _dataset_stage(job, [examples_key, index_key], base, config)
        train_key = _train_stage(job, dataset_key, base, config, watch)
        _evaluate_stage(job, train_key, base, config, watch, command)
        report: dict[str, Any] = read_json(run.path("report.json"))
        if not job.seconds:
            watch.say("", "nothing changed since the last build; everything was reused")
        return report


def _documents(run: Run) -> list[Document]:
    return [Document.from_json(row) for row in read_jsonl(run.path("documents.jsonl"))]


def _examples(run: Run, name: str) -> list[Example]:
    return [Example.from_json(row) for row in read_jsonl(run.path("dataset", f"{name}.jsonl"))]


def _write_examples(run: Run, name: str, examples: Sequence[Example]) -> None:
    write_jsonl(run.path("dataset", f"{name}.jsonl"), (e.to_json() for e in examples))


def _examples_stage(job: Job, documents_key: str, config: Config) -> str:
    from tinyforge.synthesize import synthesize, verify

    def work(key: str) -> dict[str, Any]:
        documents = _documents(job.run)
        made = synthesize(documents, config.synthesize, config.seed)
        by_id = {d.id: d for d in documents}
        broken = [e for e in made.examples if not verify(e, by_id)]
        if broken:
            raise TinyForgeError(
                f"{len(broken)} answers are not in their spans, first {broken[0].id}.", "Please report."
            )
        _write_examples(job.run, "candidates", made.examples)
        write_jsonl(job.run.path("dataset", "rejected.jsonl"), (asdict(r) for r in made.rejected))
        facts = {e.fact: e for e in made.examples}
        coverage = made.coverage
        job.say("examples", f"{len(facts)} facts, {len(made.examples)} questions, {len(made.rejected)} rejected")
        job.say("examples", f"{coverage.covered} of {coverage.sections} sections yield an example")
        return {
            "key": key,
            "facts": len(facts),
            "examples": len(made.examples),
            "spans_verified": len(made.examples) - len(broken),
            "rules": dict(Counter(e.rule for e in facts.values()).most_common()),
            "rejected": dict(Counter(r.gate for r in made.rejected).most_common()),
            "sections": coverage.sections,
            "sections_covered": coverage.covered,
            "sections_covered_by_precise_rules": coverage.precise,
            "uncovered": [asdict(u) for u in coverage.uncovered],
        }

    inputs = [documents_key, config.synthesize.model_dump(), config.seed]
    return str(job.stage("examples", inputs, work)["key"])


def _index_stage(job: Job, documents_key: str, config: Config) -> str:
    from tinyforge.retrieve.index import Index

    def work(key: str) -> dict[str, Any]:
        index = Index.build(job.run.path("index"), _documents(job.run), config.retrieve)
        job.say("index", f"{index.meta['passages']} passages")
        return {"key": key, "passages": index.meta["passages"]}

    inputs = [documents_key, config.retrieve.embedding_model, config.retrieve.passage_characters]
    return str(job.stage("index", inputs, work)["key"])


def _dataset_stage(job: Job, parents: list[str], base: Base, config: Config) -> str:
    def work(key: str) -> dict[str, Any]:
        from tinyforge.dataset.split import check_leaks, split

        result = split(_examples(job.run, "candidates"), config.dataset, config.seed)
        leaks = check_leaks(result.examples)
        if leaks:
            raise TinyForgeError(f"the split leaks: {leaks[0]} ({len(leaks)} in all).", _REPORT)
        sets = {name: [e for e in result.examples if e.split == name] for name in SPLITS}
        reading, left_out = _reading(job.run, sets, base, config)
        for name in SPLITS:
            _write_examples(job.run, name, [*sets[name], *reading.get(name, [])])
        shown = ", ".join(f"{len({e.fact for e in sets[name]})} facts in {name}" for name in ("train", "documents"))
        job.say("dataset", shown)
        dropped = Counter(str(reason) for reason in result.dropped)
        return {
            "key": key,
            "splits": {n: {"facts": len({e.fact for e in sets[n]}), "examples": len(sets[n])} for n in SPLITS},
            "reading": {name: len(rows) for name, rows in reading.items()},
            "dropped": [
                {"stage": "dataset", "reason": reason, "count": count}
                for reason, count in [*dropped.items(), *left_out.items()]
            ],
        }

    inputs = [parents, base.hash, config.dataset.model_dump(), config.retrieve.passages, config.seed]
    return str(job.stage("dataset", inputs, work)["key"])


def _reading(
    run: Run, sets: dict[str, list[Example]], base: Base, config: Config
) -> tuple[dict[str, list[Example]], Counter[str]]:
    """Training and dev questions that come with passages; facts of the documents test stay out of their prompts."""
    from tinyforge.dataset.reading import reading_examples
    from tinyforge.dataset.render import prompt_ids
    from tinyforge.models.resolve import load_tokenizer
    from tinyforge.retrieve.index import Index

    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    index = Index.open(run.path("index"))
    untaught: list[Span] = [span for e in sets["documents"] for span in e.evidence]
    taught = {e.fact for e in sets["train"]}
    rng = random.Random(config.seed)
    train = [e for e in sets["train"] if rng.random() < config.dataset.reading_share]
    dev = [e for e in sets["dev"] if e.fact not in taught]
    result, left_out = {}, Counter[str]()
    for name, chosen in (("train", train), ("dev", dev)):
        if not chosen:
            continue
        answers = max(len(tokenizer(e.answer)["input_ids"]) for e in chosen)
        limit = config.dataset.max_length - answers - 8
        result[name], dropped = reading_examples(
            chosen,
            index.search_many,
            config.retrieve.passages,
            untaught,
            lambda messages: len(prompt_ids(messages, tokenizer)),
            limit,
            config.seed,
        )
        left_out.update(dropped)
    return result, left_out


def _train_stage(job: Job, dataset_key: str, base: Base, config: Config, watch: Watch) -> str:
    from tinyforge.pipeline.tune import tune

    settings = config.train.decisive()
    inputs = [dataset_key, base.hash, settings, config.dataset.max_length, config.seed, replay_inputs(config.train)]

    def work(key: str) -> dict[str, Any]:
        train, dev = _examples(job.run, "train"), _examples(job.run, "dev")
        return {"key": key, **tune(job, key, base, train, dev, config, watch.on_status)}

    trained = job.stage("train", inputs, work, together=True)
    # Only now: a kill just before the stage is recorded must find something to continue from.
    if job.world.first:
        shutil.rmtree(job.run.path("checkpoints"), ignore_errors=True)
    return str(trained["key"])


def _evaluate_stage(job: Job, train_key: str, base: Base, config: Config, watch: Watch, command: str) -> None:
    from tinyforge.pipeline.examine import examine

    def work(key: str) -> dict[str, Any]:
        sets = {name: _examples(job.run, name) for name in ("wordings", "documents", "dev")}
        report = examine(job, base, _documents(job.run), sets, config, watch.count, command)
        return {"key": key, "verdict": report["verdict"], "choice": report["choice"]}

    inputs = [train_key, config.evaluate.model_dump(), config.retrieve.model_dump(), config.seed]
    job.stage("evaluate", inputs, work)

"""Sources into a dataset: the stages that `synthesize` is and `build` begins with.

documents -> index -> examples -> dataset; no weights are loaded but the embedding model's.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import TinyForgeError
from tinyforge.pipeline.card import card_stage
from tinyforge.pipeline.documents import documents_stage
from tinyforge.pipeline.examples import SPLITS, examples_stage, read_documents, read_examples, write_examples
from tinyforge.pipeline.placement import is_own, join, with_passages
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.teacher import Confirm, unconfirmed
from tinyforge.records import Example, Message, Span
from tinyforge.run import Run, write_json

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base

_REPORT = "This is a fault of TinyForge: please report it with the run folder."


def synthesize(
    sources: Sequence[str | Path],
    out: str | Path,
    config: Config,
    say: Callable[[str, str], None],
    confirm: Confirm = unconfirmed,
    count: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> dict[str, Any]:
    """The dataset that the sources give, in ``out/dataset``; the summaries of its stages, by name.

    Continues in the folder of an `ingest`; `build` continues in this one. Raises InputError for sources, base or folder
    that cannot be used, or when ``confirm`` declines what a teacher may cost; whatever stage was finished before stays
    and is not repeated.
    """
    from tinyforge.ingest import fingerprint
    from tinyforge.models.resolve import resolve

    inputs = fingerprint(sources, config.ingest)  # refuses before anything is written
    base = resolve(config.base)
    run = Run.create(out, "synthesize", continues=("ingest",))
    with run.lock():
        write_json(run.path("config.json"), config.model_dump())
        job = Job(run, say, count=count)
        made = dataset_stages(job, sources, inputs, base, config, confirm)
        if not job.seconds:
            say("", "nothing changed since the last time; everything was reused")
        return made


def dataset_stages(
    job: Job,
    sources: Sequence[str | Path],
    inputs: list[list[str]],
    base: Base,
    config: Config,
    confirm: Confirm = unconfirmed,
) -> dict[str, Any]:
    """Every stage up to the dataset that is not done yet; their summaries, by name. ``inputs``: see documents_stage."""
    documents = documents_stage(job, sources, inputs, config)
    index = _index_stage(job, documents["key"], config)
    examples = examples_stage(job, [documents["key"], index["key"]], config, confirm)
    dataset = _dataset_stage(job, [examples["key"], index["key"]], base, config)
    card = card_stage(job, examples, dataset)
    return {"documents": documents, "index": index, "examples": examples, "dataset": dataset, "card": card}


def _index_stage(job: Job, documents_key: str, config: Config) -> dict[str, Any]:
    from tinyforge.retrieve.index import Index

    def work(key: str) -> dict[str, Any]:
        index = Index.build(job.run.path("index"), read_documents(job.run), config.retrieve)
        job.say("index", f"{index.meta['passages']} passages")
        return {"key": key, "passages": index.meta["passages"]}

    inputs = [documents_key, config.retrieve.embedding_model, config.retrieve.passage_characters]
    return job.stage("index", inputs, work)


def _dataset_stage(job: Job, parents: list[str], base: Base, config: Config) -> dict[str, Any]:
    def work(key: str) -> dict[str, Any]:
        from tinyforge.dataset.general import retention_examples
        from tinyforge.dataset.split import check_leaks, split, without_answers_of

        found = read_examples(job.run, "candidates")
        own = [e for e in found if is_own(e)]
        result = split([e for e in found if not is_own(e)], config.dataset, config.seed)
        joined, untaught = join(own, result.examples)
        rows = [*result.examples, *(e for e in joined if not with_passages(e))]
        leaks = check_leaks(rows)
        if leaks:
            raise TinyForgeError(f"the split leaks: {leaks[0]} ({len(leaks)} in all).", _REPORT)
        sets = {name: [e for e in rows if e.split == name] for name in SPLITS}
        reading, left_out = _reading(job.run, sets, [e for e in joined if with_passages(e)], base, config)
        kept, given_away = without_answers_of(sets["documents"], reading.get("train", []))
        reading |= {"train": kept} if kept else {}
        leaks = check_leaks([*rows, *(row for part in reading.values() for row in part)])
        if leaks:
            raise TinyForgeError(f"the passages leak: {leaks[0]} ({len(leaks)} in all).", _REPORT)
        for name in SPLITS:
            write_examples(job.run, name, [*sets[name], *reading.get(name, [])])
        write_examples(job.run, "retention", retention_examples())
        shown = ", ".join(f"{len({e.fact for e in sets[name]})} facts in {name}" for name in ("train", "documents"))
        job.say("dataset", shown)
        dropped = Counter(row.reason for row in result.dropped)
        return {
            "key": key,
            "splits": {n: {"facts": len({e.fact for e in sets[n]}), "examples": len(sets[n])} for n in SPLITS},
            "reading": {name: len(rows) for name, rows in reading.items()},
            "dropped": [
                {"stage": "dataset", "reason": reason, "count": count}
                for reason, count in [*dropped.items(), *untaught.items(), *left_out.items(), *given_away.items()]
            ],
        }

    inputs = [parents, base.hash, config.dataset.model_dump(), config.retrieve.passages, config.seed]
    return job.stage("dataset", inputs, work)


def _reading(
    run: Run, sets: dict[str, list[Example]], asked: Sequence[Example], base: Base, config: Config
) -> tuple[dict[str, list[Example]], Counter[str]]:
    """Training and dev questions that come with passages; facts of the documents test stay out of their prompts.

    ``asked`` are a teacher's examples that are to be trained with passages, and only so.
    """
    from tinyforge.dataset.prompts import fit
    from tinyforge.dataset.reading import carries, reading_examples, with_prompt
    from tinyforge.dataset.render import prompt_ids
    from tinyforge.models.resolve import load_tokenizer
    from tinyforge.retrieve.index import Index

    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    index = Index.open(run.path("index"))
    untaught: list[Span] = [span for e in sets["documents"] for span in e.evidence]
    taught = {e.fact for e in sets["train"]}
    rng = random.Random(config.seed)
    train = [e for e in sets["train"] if rng.random() < config.dataset.reading_share]
    train = [e for e in train if len(e.messages) == 2] + [e for e in asked if e.evidence]
    dev = [e for e in sets["dev"] if e.fact not in taught]

    def length(messages: list[Message]) -> int:
        return len(prompt_ids(messages, tokenizer))

    result: dict[str, list[Example]] = {}
    left_out = Counter[str]()
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
            length,
            limit,
            config.seed,
        )
        left_out.update(dropped)
    missing = [e for e in asked if not e.evidence]
    hits = index.search_many([e.question for e in missing], config.retrieve.passages + len(SPLITS)) if missing else []
    for example, found in zip(missing, hits, strict=True):
        allowed = [hit for hit in found if not carries(hit, untaught)]
        _, cut = fit(example.question, allowed[: config.retrieve.passages], length, config.dataset.max_length - 32)
        shown = allowed[: config.retrieve.passages - cut]
        if shown:
            result.setdefault("train", []).append(with_prompt(example, shown, "missing"))
        else:
            left_out["no passage for an unanswerable question"] += 1
    return result, left_out

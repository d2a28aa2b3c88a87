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
    from tinyforge.dataset.extracts import Nearest
    from tinyforge.dataset.reading import Length
    from tinyforge.models.resolve import Base
    from tinyforge.retrieve.index import Index

WHOLE_PASSAGES = 1 / 6  # of the reading questions: each is about six times as long as with sentences
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

    given = [config.retrieve.passages, config.retrieve.sentences]
    inputs = [parents, base.hash, config.dataset.model_dump(), given, config.seed]
    return job.stage("dataset", inputs, work)


def _reading(
    run: Run, sets: dict[str, list[Example]], asked: Sequence[Example], base: Base, config: Config
) -> tuple[dict[str, list[Example]], Counter[str]]:
    """Training and dev questions that come with passages; facts of the documents test stay out of their prompts.

    ``asked`` are a teacher's examples that are to be trained with passages, and only so.
    """
    from tinyforge.dataset.render import prompt_ids
    from tinyforge.models.resolve import count_parameters, load_tokenizer
    from tinyforge.retrieve.index import Index

    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    index = Index.open(run.path("index"))
    sentences = config.retrieve.shown_sentences(count_parameters(base.folder))
    untaught: list[Span] = [span for e in sets["documents"] for span in e.evidence]
    taught = {e.fact for e in sets["train"]}
    rng = random.Random(config.seed)
    share = config.dataset.reading_share * (1 if sentences else WHOLE_PASSAGES)
    train = [e for e in sets["train"] if rng.random() < share]
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
        result[name], dropped = _with_passages(chosen, index, sentences, untaught, length, limit, config)
        left_out.update(dropped)
    missing = [e for e in asked if not e.evidence]
    made, dropped = _declined(missing, index, sentences, untaught, length, config)
    left_out.update(dropped)
    if made:
        result["train"] = [*result.get("train", []), *made]
    return result, left_out


def _with_passages(
    examples: Sequence[Example],
    index: Index,
    sentences: int,
    untaught: Sequence[Span],
    length: Length,
    limit: int,
    config: Config,
) -> tuple[list[Example], dict[str, int]]:
    """The examples asked with what the search finds for them: whole passages, or so many of their ``sentences``."""
    from tinyforge.dataset.extracts import Extracts, extract_examples
    from tinyforge.dataset.reading import reading_examples
    from tinyforge.retrieve.quote import sentences_of

    k = config.retrieve.passages
    if not sentences:
        return reading_examples(examples, index.search_many, k, untaught, length, limit, config.seed)
    extracts = Extracts(index.search_many, _nearest(index), sentences_of, k, sentences)
    return extract_examples(examples, extracts, untaught, length, limit, config.seed)


def _nearest(index: Index) -> Nearest:
    from tinyforge.retrieve.quote import nearest_many

    return lambda questions, hits: nearest_many(questions, hits, index.embedder, 0)


def _declined(
    examples: Sequence[Example],
    index: Index,
    sentences: int,
    untaught: Sequence[Span],
    length: Length,
    config: Config,
) -> tuple[list[Example], Counter[str]]:
    """A teacher's questions that no document answers, with what the search finds for them, to be declined."""
    from tinyforge.dataset.prompts import fit
    from tinyforge.dataset.reading import carries, with_prompt

    if not examples:
        return [], Counter()
    k, questions = config.retrieve.passages, [e.question for e in examples]
    found = index.search_many(questions, k + len(SPLITS))
    shown = [[hit for hit in hits if not carries(hit, untaught)][:k] for hits in found]
    if sentences:
        near = _nearest(index)(questions, shown)
        shown = [hits[:sentences] for hits in near]
    made, left_out = list[Example](), Counter[str]()
    for example, hits in zip(examples, shown, strict=True):
        _, cut = fit(example.question, hits, length, config.dataset.max_length - 32)
        if kept := hits[: len(hits) - cut]:
            made.append(with_prompt(example, kept, "missing"))
        else:
            left_out["no passage for an unanswerable question"] += 1
    return made, left_out

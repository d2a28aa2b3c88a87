"""Documents into examples: the stage that says what may be learned, and the ledger of what was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.pipeline.rounds import Written
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.teacher import Confirm, identity, teach, unconfirmed
from tinyforge.records import Document, Example
from tinyforge.run import Run, hash_file, read_jsonl, write_jsonl
from tinyforge.synthesize import Rejected, Synthesis, rules_version, synthesize, verify
from tinyforge.synthesize.edits import apply_edits, read_edits
from tinyforge.synthesize.ledger import SHORTEST_ID, Entry, entries, why, write_ledger

SPLITS = ("train", "dev", "wordings", "documents")
LEDGER = ("dataset", "ledger.sqlite")
EDITS = ("edits.jsonl",)


def read_documents(run: Run) -> list[Document]:
    return [Document.from_json(row) for row in read_jsonl(run.path("documents.jsonl"))]


def read_examples(run: Run, name: str) -> list[Example]:
    return [Example.from_json(row) for row in read_jsonl(run.path("dataset", f"{name}.jsonl"))]


def write_examples(run: Run, name: str, examples: Sequence[Example]) -> None:
    write_jsonl(run.path("dataset", f"{name}.jsonl"), (e.to_json() for e in examples))


def examples_stage(job: Job, parents: Sequence[str], config: Config, confirm: Confirm = unconfirmed) -> dict[str, Any]:
    """Stage ``examples``: write candidates.jsonl and the ledger; returns its summary.

    ``parents`` are the keys of what it is made from; ``confirm`` is asked before a teacher is. What a person changed is
    applied last, and outlives every rerun.
    """
    run = job.run
    edits = run.path(*EDITS)

    def work(key: str) -> dict[str, Any]:
        documents = read_documents(run)
        made = synthesize(documents, config.synthesize, config.seed)
        written = Written()
        taught: dict[str, Any] = {}
        if config.synthesize.teacher:
            written, taught = teach(job, documents, made.examples, config, confirm)
        kept, excluded, unused = apply_edits([*made.examples, *written.examples], read_edits(edits))
        _verify(kept, documents)
        write_examples(run, "candidates", kept)
        rejected = [*made.rejected, *written.rejected, *excluded]
        write_ledger(run.path(*LEDGER), entries(kept, rejected, rules_version()))
        for edit in unused:
            job.say("examples", f"a change of yours fits nothing any more: {edit.asked!r} in {edit.source}")
        unfit = [asdict(edit) for edit in unused]
        return {"key": key, **_summary(job, made, kept, rejected), "edits_unused": unfit, "teacher": taught}

    changing = [edits, Path(config.synthesize.focus)] if config.synthesize.focus else [edits]
    changed = [hash_file(path) if path.is_file() else "" for path in changing]
    teacher = identity(config.synthesize.teacher) if config.synthesize.teacher else ""
    inputs = [list(parents), config.synthesize.decisive(), config.seed, rules_version(), changed, teacher]
    return job.stage("examples", inputs, work)


def _verify(examples: Sequence[Example], documents: Sequence[Document]) -> None:
    """Every answer is the text of its spans, but where a person or a teacher wrote it."""
    by_id = {d.id: d for d in documents}
    broken = [e for e in examples if _copied(e) and not verify(e, by_id)]
    if broken:
        raise TinyForgeError(f"{len(broken)} answers are not in their spans, first {broken[0].id}.", "Please report.")


def _copied(example: Example) -> bool:
    """Whether its answer is meant to be the text of its spans, word for word."""
    said = example.metadata
    return not said.get("edited") and ("teacher" not in said or example.rule == "teacher_paraphrase")


def _summary(job: Job, made: Synthesis, kept: Sequence[Example], rejected: Sequence[Rejected]) -> dict[str, Any]:
    facts = {e.fact: e for e in reversed(kept)}
    coverage = made.coverage
    edited = sum(bool(e.metadata.get("edited")) for e in kept)
    job.say("examples", f"{len(facts)} facts, {len(kept)} questions, {len(rejected)} candidates rejected")
    job.say("examples", f"{coverage.covered} of {coverage.sections} sections yield an example")
    return {
        "facts": len(facts),
        "examples": len(kept),
        "spans_verified": sum(map(_copied, kept)),
        "rules": dict(Counter(e.rule for e in facts.values()).most_common()),
        "rejected": dict(Counter(r.gate for r in rejected).most_common()),
        "sections": coverage.sections,
        "sections_covered": coverage.covered,
        "sections_covered_by_precise_rules": coverage.precise,
        "uncovered": [asdict(u) for u in coverage.uncovered],
        "edited": edited,
    }


def ledger_entries(run: Run, name: str) -> list[Entry]:
    """What the ledger knows of a fact, a candidate or a row of the dataset, by the beginning of its id.

    Raises InputError when there is no such id.
    """
    try:
        return why(run.path(*LEDGER), name)
    except InputError as unknown:
        facts = {row["fact"] for split in _splits(run) for row in _rows(run, split) if row["id"].startswith(name)}
        if len(facts) != 1 or len(name) < SHORTEST_ID:
            raise unknown from None
        return why(run.path(*LEDGER), facts.pop())  # a row that came with passages is one more of its fact


def splits_of(run: Run, fact: str) -> dict[str, int]:
    """In which parts of the dataset a fact's rows are, and how many."""
    counts = {name: sum(row["fact"] == fact for row in _rows(run, name)) for name in _splits(run)}
    return {name: count for name, count in counts.items() if count}


def _splits(run: Run) -> list[str]:
    return [name for name in SPLITS if run.path("dataset", f"{name}.jsonl").is_file()]


def _rows(run: Run, name: str) -> Iterator[dict[str, Any]]:
    return read_jsonl(run.path("dataset", f"{name}.jsonl"))

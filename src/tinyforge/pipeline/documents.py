"""Sources into documents.jsonl: the stage that `ingest` is and `build` begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document
from tinyforge.run import Run, write_json, write_jsonl

Summary = dict[str, Any]


def documents_stage(job: Job, sources: Sequence[str | Path], inputs: list[list[str]], config: Config) -> Summary:
    """Stage ``documents``: write documents.jsonl; returns its summary.

    ``inputs`` is the sources' ``fingerprint``. The summary: ``key``, counts, ``files`` (see ``summary_of``) and
    ``skipped``, each ``{source, reason}``.
    """
    from tinyforge.ingest import read_sources
    from tinyforge.ingest.summary import summary_of

    def work(key: str) -> Summary:
        def say(name: str, outcome: str) -> None:
            job.say("documents", f"{name}: {outcome}")

        found = read_sources(sources, config.ingest, say, pages=job.run.path("pages"))
        documents, replaced = _redacted(job, found.documents, config)
        write_jsonl(job.run.path("documents.jsonl"), (d.to_json() for d in documents))
        characters = sum(len(d.text) for d in documents)
        job.say("documents", f"{len(found.documents)} read ({characters:,} characters), {len(found.skipped)} skipped")
        return {
            "key": key,
            "documents": len(found.documents),
            "characters": characters,
            "files": summary_of(documents),
            "replaced": replaced,
            "skipped": [{"source": s.path, "reason": f"{s.reason} {s.fix}".strip()} for s in found.skipped],
        }

    summary = job.stage("documents", [__version__, inputs, config.ingest.model_dump()], work)
    for skipped in summary["skipped"] if "documents" in job.reused else ():
        job.say("documents", f"{skipped['source']}: skipped: {skipped['reason']}")
    return summary


def _redacted(job: Job, documents: Sequence[Document], config: Config) -> tuple[list[Document], dict[str, int]]:
    """The documents as they may be stored, and how many stand-ins of each kind there are; the person is told."""
    from tinyforge.ingest.privacy import in_words, redact_documents
    from tinyforge.ingest.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms(job.run.folder)
    kept, replaced = redact_documents(documents, config.ingest.redact, pseudonyms)
    if replaced:
        pseudonyms.save()
        job.say("documents", f"replaced by stand-ins: {in_words(replaced)} (ingest.redact is {config.ingest.redact})")
    return kept, dict(replaced)


def ingest(sources: Sequence[str | Path], out: str | Path, config: Config, say: Callable[[str, str], None]) -> Summary:
    """Read the sources into ``out/documents.jsonl``; returns the stage's summary. `build` can continue in ``out``.

    Raises InputError for sources or a folder that cannot be used, before anything is written.
    """
    from tinyforge.ingest import fingerprint

    inputs = fingerprint(sources, config.ingest)
    run = Run.create(out, "ingest")
    with run.lock():
        write_json(run.path("config.json"), config.model_dump())
        return documents_stage(Job(run, say), sources, inputs, config)

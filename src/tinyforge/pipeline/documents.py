"""Sources into documents.jsonl: the stage that `ingest` is and `build` begins with."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, write_json, write_jsonl

Summary = dict[str, Any]


def documents_stage(job: Job, sources: Sequence[str | Path], inputs: list[list[str]], config: Config) -> Summary:
    """Stage ``documents``: write documents.jsonl; returns its summary.

    ``inputs`` is the sources' ``fingerprint``. The summary: ``key``, counts, ``files`` (see ``ingest/summary.py``) and
    ``skipped``, each ``{source, reason}``.
    """
    from tinyforge.ingest import Skipped, stream_sources
    from tinyforge.ingest.privacy import in_words, redact_documents
    from tinyforge.ingest.pseudonyms import Pseudonyms
    from tinyforge.ingest.summary import Summary as Counts

    def work(key: str) -> Summary:
        def say(name: str, outcome: str) -> None:
            job.say("documents", f"{name}: {outcome}")

        counts, skipped, replaced = Counts(), list[Skipped](), Counter[str]()
        pseudonyms = Pseudonyms(job.run.folder)
        pages = job.run.path("pages")

        def rows() -> Iterator[Any]:
            """One document at a time, so that memory does not grow with the sources."""
            read = stream_sources(sources, config.ingest, skipped, say, pages=pages)
            for document in redact_documents(read, config.ingest.redact, pseudonyms, replaced):
                counts.add(document)
                yield document.to_json()
            if replaced:  # before the file is in its place, so that none can exist without its stand-ins
                pseudonyms.save()

        documents = write_jsonl(job.run.path("documents.jsonl"), rows())
        if replaced:
            told = in_words(replaced)
            job.say("documents", f"replaced by stand-ins: {told} (ingest.redact is {config.ingest.redact})")
        if config.ingest.redact != "off":
            shutil.rmtree(pages, ignore_errors=True)  # they hold what was just replaced
        characters = counts.total("characters")
        job.say("documents", f"{documents} read ({characters:,} characters), {len(skipped)} skipped")
        return {
            "key": key,
            "documents": documents,
            "characters": characters,
            "files": counts.files,
            "replaced": dict(replaced),
            "skipped": [{"source": s.path, "reason": f"{s.reason} {s.fix}".strip()} for s in skipped],
        }

    summary = job.stage("documents", [__version__, inputs, config.ingest.model_dump()], work)
    for skipped in summary["skipped"] if "documents" in job.reused else ():
        job.say("documents", f"{skipped['source']}: skipped: {skipped['reason']}")
    return summary


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

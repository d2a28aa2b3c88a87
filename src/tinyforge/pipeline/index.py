"""Sources into a knowledge base: an index that stands alone, or beside a run in `tinyforge chat --knowledge`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.records import Document
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.store import exists, read_meta

Summary = dict[str, Any]


def make_index(
    sources: Sequence[str | Path], out: str, config: Config, say: Callable[[str, str], None]
) -> tuple[Summary, Index]:
    """Read the sources and make the index at ``out`` hold them, and nothing else; ``out`` is a folder or a URL.

    Only passages that changed are embedded. The summary: ``added``, ``changed``, ``unchanged`` and ``removed`` sources,
    ``passages``, how many were ``embedded``, ``replaced`` stand-ins and ``skipped`` files, each ``{source, reason}``.
    Raises InputError when ``out`` holds something else, or an index of another embedding model, or is the folder that
    the person stands in.
    """
    from tinyforge.ingest import read_sources

    before = _before(out, Embedder(config.retrieve.embedding_model))
    say("documents", "")
    found = read_sources(sources, config.ingest, lambda name, outcome: say("documents", f"{name}: {outcome}"))
    documents, replaced = _redacted(found.documents, config)
    say("index", "")
    index = Index.build(out, documents, config.retrieve)
    return {
        **_changes(before, [(d.source, d.id) for d in documents]),
        "passages": index.meta["passages"],
        "embedded": index.embedded,
        "replaced": replaced,
        "skipped": [{"source": s.path, "reason": f"{s.reason} {s.fix}".strip()} for s in found.skipped],
    }, index


def _before(out: str, embedder: Embedder) -> list[tuple[str, str]]:
    """``(source, document)`` of the index that is there, once it is known that it may be replaced."""
    location = out if "://" in out else Path(out)
    if isinstance(location, Path) and Path.cwd().is_relative_to(location.resolve()):
        raise InputError(
            f"{out}: is the folder that this runs in, and an index is replaced as a whole.",
            "Run it from elsewhere, or give --out a folder of its own, such as index.",
        )
    if not exists(location):
        if isinstance(location, Path) and location.exists() and (not location.is_dir() or any(location.iterdir())):
            raise InputError(f"{out}: holds something that is no index.", "Give --out a new or empty folder.")
        return []
    meta = read_meta(location)
    if "embedding_hash" not in meta:
        raise InputError(f"{out}: holds something that is no index.", "Give --out a new or empty folder.")
    if meta["embedding_hash"] != embedder.content_hash:
        raise InputError(
            f"{out}: was embedded with {meta['embedding_model']!r}, not with {embedder.name!r}.",
            f"Say --set retrieve.embedding_model={meta['embedding_model']}, or give another --out.",
        )
    return [(source, document) for source, document in meta.get("documents", ())]


def _redacted(documents: Sequence[Document], config: Config) -> tuple[list[Document], dict[str, int]]:
    """The documents with stand-ins for what is secret. They are numbered as they come, so no key has to be kept."""
    from tinyforge.ingest.privacy import redact_documents
    from tinyforge.ingest.pseudonyms import Pseudonyms

    replaced = Counter[str]()
    with tempfile.TemporaryDirectory() as nowhere:
        kept = list(redact_documents(documents, config.ingest.redact, Pseudonyms(Path(nowhere)), replaced))
    return kept, dict(replaced)


def _changes(before: Sequence[tuple[str, str]], now: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The sources by what became of them; documents are compared by their ids, which are hashes of their content."""
    known, given = _by_source(before), _by_source(now)
    kept = [source for source in given if source in known]
    return {
        "added": [source for source in given if source not in known],
        "changed": [source for source in kept if known[source] != given[source]],
        "unchanged": [source for source in kept if known[source] == given[source]],
        "removed": [source for source in known if source not in given],
    }


def _by_source(documents: Sequence[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for source, document in documents:
        found.setdefault(source, set()).add(document)
    return found

"""Documents from files: one small file per format, and the walk that decides what is read.

    read_sources   files and folders -> documents, and what was skipped and why
    builder.py     the text and its spans; the only place that computes offsets
    walk.py        which files, under which names
    reading.py     bytes -> characters
    markdown.py, text.py, html.py (html_table.py), pdf.py (pdf_lines.py, pdf_table.py), docx.py (docx_text.py)

Blocks are ordered by where they start and do not overlap, with one exception: a ``table_row`` covers its line of a
table and comes right before the ``table_cell`` blocks inside of it. Work on rows or on cells, not on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyforge import plugins
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.walk import Found, Skipped, find_files
from tinyforge.records import Document, content_id

__all__ = ["FORMATS", "Ingested", "Skipped", "read_sources"]

FORMATS: dict[str, str] = {
    ".md": "tinyforge.ingest.markdown:parse",
    ".markdown": "tinyforge.ingest.markdown:parse",
    ".txt": "tinyforge.ingest.text:parse",
    ".text": "tinyforge.ingest.text:parse",
    ".html": "tinyforge.ingest.html:parse",
    ".htm": "tinyforge.ingest.html:parse",
    ".pdf": "tinyforge.ingest.pdf:parse",
    ".docx": "tinyforge.ingest.docx:parse",
}


@dataclass(frozen=True)
class Ingested:
    """What was read, in the order of the walk, and what was not."""

    documents: list[Document]
    skipped: list[Skipped]


def read_sources(
    sources: Sequence[str | Path], config: IngestConfig, on_file: Callable[[str, str], None] | None = None
) -> Ingested:
    """Read files and folders (walked in sorted order, hidden entries left alone).

    ``on_file(name, outcome)`` is called after each file: the outcome is ``"read"`` or ``"skipped: <reason>"``.
    Raises InputError, before anything is read, for a missing path and for a folder without a supported file; and
    afterwards when not one file could be read. Every other trouble is one file's own and is listed in ``skipped``.
    """
    files, skipped = find_files([str(source) for source in sources], FORMATS)
    documents: list[Document] = []
    seen: dict[str, str] = {}
    report = on_file or (lambda name, outcome: None)
    for skip in skipped:
        report(skip.path, f"skipped: {skip.reason}")
    for file in files:
        problem = _read_one(file, config, documents, seen)
        if problem is not None:
            skipped.append(problem)
        report(file.name, "read" if problem is None else f"skipped: {problem.reason}")
    if not documents:
        raise _nothing_read(skipped)
    return Ingested(documents, skipped)


def _read_one(file: Found, config: IngestConfig, documents: list[Document], seen: dict[str, str]) -> Skipped | None:
    """Append the documents of one file that hold something new; else the reason why there are none."""
    path = str(file.path)
    try:
        _check_size(file.path, config)
        parse = plugins.load("ingest", file.path.suffix.lower(), FORMATS)
        found = [document for document in parse(file.path, file.name) if document.text]
    except TinyForgeError as error:
        return Skipped(path, error.message.removeprefix(f"{path}: "), error.fix)
    except PermissionError:
        return Skipped(path, "cannot be opened (permission denied).", f'Allow reading it: chmod u+r "{path}"')
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        return Skipped(
            path,
            f"the {file.path.suffix.lower()} parser failed ({type(error).__name__}: {told}).",
            "Save the file again from the program that made it, or convert it to Markdown or text.",
        )
    if not found:
        return Skipped(path, "holds no text.", "Write something into it, or take it away.")
    return _keep_new(path, found, documents, seen)


def _keep_new(path: str, found: list[Document], documents: list[Document], seen: dict[str, str]) -> Skipped | None:
    first_known = ""
    kept = False
    for document in found:
        known = seen.setdefault(content_id(document.text), document.source)
        if known == document.source:
            documents.append(document)
            kept = True
        else:
            first_known = first_known or known
    return None if kept else Skipped(path, f"same text as {first_known}.", "Nothing to do: the text is kept once.")


def _check_size(path: Path, config: IngestConfig) -> None:
    size = path.stat().st_size
    if size == 0:
        raise InputError(f"{path}: empty file (0 bytes).", "Put text into it, or take it away.")
    megabytes = size / 1e6
    if megabytes > config.max_file_mb:
        raise InputError(
            f"{path}: {megabytes:.1f} MB is more than ingest.max_file_mb = {config.max_file_mb:g}.",
            f"Split the file, or say --set ingest.max_file_mb={int(megabytes) + 1}",
        )


def _nothing_read(skipped: list[Skipped]) -> InputError:
    reasons = "; ".join(f"{skip.path}: {skip.reason.rstrip('.')}" for skip in skipped[:3])
    more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return InputError(
        f"0 of {len(skipped)} files readable ({reasons}{more}).", skipped[0].fix if skipped else "Give a file."
    )

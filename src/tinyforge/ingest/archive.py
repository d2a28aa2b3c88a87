"""Archives as sources: opened by a worker process into a folder for the time of reading, then gone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import TinyForgeError
from tinyforge.ingest import notion
from tinyforge.ingest.pool import Pool
from tinyforge.ingest.unpack import ARCHIVES, suffix_of
from tinyforge.ingest.walk import Found, Skipped, chats_among, known_suffixes

if TYPE_CHECKING:
    from tinyforge.config import IngestConfig


@dataclass(frozen=True)
class Inside:
    """The readable members of an archive as files, and the rest."""

    files: list[Found]
    skipped: list[Skipped]


def is_archive(path: Path) -> bool:
    return suffix_of(path.name) in ARCHIVES


@contextmanager
def opened(archive: Found, config: IngestConfig, pool: Pool, formats: Mapping[str, str]) -> Iterator[Inside]:
    """The members of an archive, named ``archive.zip/inner/file.md``; their files are there within the context only."""
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as folder:
        try:
            listing = pool.run(
                "tinyforge.ingest.unpack:unpack",
                path=str(archive.path.absolute()),
                into=folder,
                suffixes=known_suffixes(formats),
                file_mb=config.max_file_mb,
                archive_mb=config.archive_mb,
                archive_files=config.archive_files,
            )
        except TinyForgeError as error:
            inside = Inside([], [Skipped(archive.at, error.message, error.fix)])
        else:
            inside = _inside(archive, Path(folder), listing)
        yield inside


def _inside(archive: Found, folder: Path, listing: dict[str, Any]) -> Inside:
    skipped = [Skipped(f"{archive.at}/{name}", reason, fix) for name, reason, fix in listing["skipped"]]
    members: dict[str, str] = dict(listing["members"])
    chats, told = chats_among(members, archive.at)
    skipped += told
    members = {name: file for name, file in members.items() if not name.startswith(chats)}
    for name in notion.replaced_views(list(members)):
        del members[name]
        skipped.append(
            Skipped(f"{archive.at}/{name}", "its rows stand in the file with _all as well.", "Nothing to do.")
        )
    from_notion = any(map(notion.is_page, members))
    files = []
    for name, plain in zip(members, notion.plain_names(list(members)), strict=True):
        about: dict[str, Any] = {"export": "notion", "breadcrumb": notion.breadcrumb(plain)} if from_notion else {}
        files.append(Found(folder / members[name], folder, f"{archive.name}/{plain}", f"{archive.at}/{name}", about))
    if not files and not skipped:
        skipped.append(Skipped(archive.at, "an archive without a file in it.", "Nothing to do."))
    return Inside(sorted(files, key=lambda found: found.name), skipped)

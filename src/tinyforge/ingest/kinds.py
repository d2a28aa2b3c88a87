"""Which kind of source each given one is: a path, or a database, a repository, an endpoint or a site by its address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyforge.ingest.endpoint import is_endpoint
from tinyforge.ingest.repository import is_repository
from tinyforge.ingest.sql import is_database
from tinyforge.ingest.web import is_url


@dataclass(frozen=True)
class Kinds:
    """The sources by kind, each in the order in which they were given."""

    paths: list[str]
    sites: list[str]
    endpoints: list[str]
    repositories: list[str]
    databases: list[str]

    @property
    def only_paths(self) -> bool:
        return not (self.sites or self.endpoints or self.repositories or self.databases)


def kinds_of(sources: Sequence[str | Path]) -> Kinds:
    found = Kinds([], [], [], [], [])
    for source in map(str, sources):
        if is_database(source):
            found.databases.append(source)
        elif is_endpoint(source):
            found.endpoints.append(source)
        elif is_repository(source):
            found.repositories.append(source)
        elif is_url(source):
            found.sites.append(source)
        else:
            found.paths.append(source)
    return found

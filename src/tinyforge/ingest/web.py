"""A page or a site as a source: fetched into the run once, then read from there.

An address that ends in a slash stands for the pages below it, found by their links; any other for itself.
"""

from __future__ import annotations

import mimetypes
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from tinyforge.errors import InputError
from tinyforge.ingest.fetch import Fetcher, Page, split_url
from tinyforge.ingest.pool import Pool
from tinyforge.ingest.robots import NOTHING, Robots, parse_robots
from tinyforge.ingest.walk import Found, Skipped

if TYPE_CHECKING:
    from tinyforge.config import IngestConfig

_ROBOTS_MB = 0.5


def is_url(source: str) -> bool:
    return source.lower().startswith(("http://", "https://"))


@dataclass
class _Site:
    """What is being collected of one site; ``root`` is the beginning that its pages' addresses share."""

    root: str
    robots: Robots
    formats: Mapping[str, str]
    files: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def fetch_site(
    url: str,
    config: IngestConfig,
    folder: Path,
    pool: Pool,
    formats: Mapping[str, str],
) -> tuple[list[Found], list[Skipped]]:
    """The pages at and, for an address ending in a slash, below ``url``, as files in ``folder``; and what is not read.

    Pages that ``folder`` holds are not fetched again. Raises InputError when the first page cannot be had.
    """
    allowed = config.private_hosts
    fetcher = Fetcher(folder, config.max_file_mb, config.web_seconds, allowed)
    robots = _robots(url, fetcher, allowed)
    fetcher.pause = max(config.web_seconds, robots.delay)
    start = urlunsplit(split_url(url))
    if not robots.allows(_path(start)):
        raise InputError(f"{url}: robots.txt of the site asks not to read it.", "Ask the site, or choose another page.")
    first = fetcher.get(start)
    if first.problem:
        raise InputError(f"{url}: {first.problem}", first.fix)
    site = _Site(first.url[: first.url.rindex("/") + 1], robots, formats)
    _collect(start, first.url.endswith("/"), config, fetcher, pool, site)
    site.skipped += [Skipped(url, f"{count:,} {what}", fix) for (what, fix), count in _told(site, config)]
    return site.files, site.skipped


def _told(site: _Site, config: IngestConfig) -> Iterator[tuple[tuple[str, str], int]]:
    fixes = {
        "depth": ("pages deeper than ingest.web_depth.", f"Say --set ingest.web_depth={2 * config.web_depth + 1}"),
        "pages": ("pages beyond ingest.web_pages.", f"Say --set ingest.web_pages={2 * config.web_pages}"),
        "size": ("pages beyond ingest.web_mb.", f"Say --set ingest.web_mb={2 * config.web_mb:g}"),
        "outside": ("links that lead elsewhere.", "Give the other address as a source of its own."),
        "query": ("links with a query (?...).", "Give such a page as a source of its own."),
        "kind": ("links to files of other kinds.", "Nothing to do."),
        "robots": ("pages that robots.txt asks not to read.", "Nothing to do."),
    }
    for reason, count in sorted(site.left_out.items()):
        yield fixes[reason], count


def _robots(url: str, fetcher: Fetcher, allowed: Collection[str]) -> Robots:
    """The site's wishes. Where its server fails, RFC 9309 has us take them for a no."""
    place = split_url(url)
    address = urlunsplit((place.scheme, place.netloc, "/robots.txt", "", ""))
    small = Fetcher(fetcher.folder, _ROBOTS_MB, 0.0, allowed)
    try:
        page = small.get(address, keep_as=".txt")
    except InputError as error:
        raise InputError(f"{address} cannot be had: {error.message}", error.fix) from error
    if page.problem:
        return Robots() if 400 <= page.status < 500 else NOTHING
    return parse_robots((fetcher.folder / page.file).read_text(encoding="utf-8", errors="replace"))


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _collect(start: str, below: bool, config: IngestConfig, fetcher: Fetcher, pool: Pool, site: _Site) -> None:
    """Breadth first, in the order of the links, so that a limit cuts off what is farthest from the start."""
    queue = deque([(start, 0)])
    known = {start}
    read: set[str] = set()
    while queue:
        url, depth = queue.popleft()
        if len(read) >= config.web_pages or site.bytes > config.web_mb * 1e6:
            site.left_out["pages" if len(read) >= config.web_pages else "size"] += 1 + len(queue)
            return
        page = _fetched(url, fetcher, site)
        if page is None or page.url in read:
            continue
        if not page.url.startswith(site.root):
            site.left_out["outside"] += 1
            continue
        read.add(page.url)
        _keep(page, fetcher, site)
        if not below or not page.file.endswith(".html"):
            continue
        for link in _links(page, fetcher, pool, site):
            if link in known or not _wanted(link, site):
                continue
            known.add(link)
            if depth < config.web_depth:
                queue.append((link, depth + 1))
            else:
                site.left_out["depth"] += 1


def _fetched(url: str, fetcher: Fetcher, site: _Site) -> Page | None:
    try:
        page = fetcher.get(url)
    except InputError as error:
        site.skipped.append(Skipped(url, error.message.removeprefix(f"{url}: "), error.fix))
        return None
    if page.problem:
        site.skipped.append(Skipped(url, page.problem, page.fix))
        return None
    return page


def _keep(page: Page, fetcher: Fetcher, site: _Site) -> None:
    file = fetcher.folder / page.file
    site.bytes += file.stat().st_size
    site.files.append(Found(file, fetcher.folder, page.url, page.url, {"url": page.url}))


def _links(page: Page, fetcher: Fetcher, pool: Pool, site: _Site) -> list[str]:
    try:
        found: list[str] = pool.run(
            "tinyforge.ingest.links:links", path=str((fetcher.folder / page.file).absolute()), url=page.url
        )
    except InputError as error:
        site.skipped.append(Skipped(page.url, f"its links cannot be read: {error.message}", error.fix))
        return []
    addresses: dict[str, None] = {}
    for link in found:
        try:
            addresses[urlunsplit(split_url(link))] = None
        except InputError:  # mailto:, javascript: and the like
            continue
    return list(addresses)


def _wanted(link: str, site: _Site) -> bool:
    """Whether a link leads to a page of the site; what is left out is counted."""
    reason = ""
    suffix = Path(urlsplit(link).path).suffix.lower()
    kind = mimetypes.guess_type(f"a{suffix}")[0] or ""
    if not link.startswith(site.root):
        reason = "outside"
    elif urlsplit(link).query:
        reason = "query"
    elif suffix not in site.formats and kind and not kind.startswith("text/html"):
        reason = "kind"
    elif not site.robots.allows(_path(link)):
        reason = "robots"
    if reason:
        site.left_out[reason] += 1
    return not reason

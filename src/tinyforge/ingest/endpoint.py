"""A REST endpoint that answers with JSON as a source: ``api+https://host/path``, page after page.

Where the next page is, the server says in most cases (a Link header, or an address in its answer); ``ingest.api_next``
says it for the others. Requests go through ``fetch.py``, under the same rules for addresses as those of a site; they
carry ``ingest.api_headers``, whose secrets come from the environment and are kept nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest.fetch import Fetcher, Page, same_place, split_url
from tinyforge.ingest.pool import Pool
from tinyforge.ingest.secrets import Secrets
from tinyforge.ingest.walk import Found, Skipped

if TYPE_CHECKING:
    from tinyforge.config import IngestConfig

_PREFIX = "api+"
_HEADER = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+):[ \t]*(\S[^\r\n]*)")
_SECRET = re.compile(r"auth|cookie|key|token|secret|password", re.IGNORECASE)
_WAYS = re.compile(r"|link|none|body:[^:]+|cursor:[^:]+:[^:]+|page:[^:]+|offset:[^:]+")


def is_endpoint(source: str) -> bool:
    return source.lower().startswith((f"{_PREFIX}http://", f"{_PREFIX}https://"))


@dataclass
class _Reading:
    """What is being collected of one endpoint; ``digests`` are the pages' items, to notice one that comes again."""

    source: str
    way: list[str]
    files: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    bytes: int = 0
    items: int = 0


def fetch_endpoint(source: str, config: IngestConfig, folder: Path, pool: Pool) -> tuple[list[Found], list[Skipped]]:
    """The items of every page as files in ``folder``, and what is not read; pages that are there are not asked again.

    Raises InputError for an address, a header or an ``ingest.api_next`` that is wrong, for a page that cannot be had
    (those before it are kept), is no JSON, or leads to another host: nothing after it could be read.
    """
    secrets = Secrets()
    url = _address(secrets.fill(source[len(_PREFIX) :]), secrets)
    headers = _headers(config.api_headers, secrets)
    _refuse_plain(url, secrets, config)
    fetcher = Fetcher(folder, config.max_file_mb, config.web_seconds, config.private_hosts, headers, secrets)
    reading = _Reading(secrets.hide(source), _way(config.api_next))
    following = url
    while following:
        reading.asked.add(following)
        following = _step(following, url, config, fetcher, pool, reading)
    return reading.files, reading.skipped


def _headers(given: list[str], secrets: Secrets) -> dict[str, str]:
    found = {"Accept": "application/json"}
    for line in given:
        parts = _HEADER.fullmatch(line)
        if parts is None:
            raise InputError(f"header {line.partition(':')[0]!r}: not of the form NAME: VALUE.", _EXAMPLE)
        filled = secrets.fill(parts[2])
        if _SECRET.search(parts[1]) and filled == parts[2]:
            raise InputError(
                f"header {parts[1]}: its value would be kept in the run's config.json.", f"Name a variable: {_EXAMPLE}"
            )
        found[parts[1]] = filled
    return found


_EXAMPLE = "for example: export TOKEN=..., and --header 'Authorization: Bearer {TOKEN}'"


def _refuse_plain(url: str, secrets: Secrets, config: IngestConfig) -> None:
    """A secret is sent without encryption only to a host that the person has named as their own."""
    parts = split_url(url)
    if secrets.used and parts.scheme == "http" and parts.hostname not in config.private_hosts:
        raise InputError(f"{secrets.hide(url)}: what is secret is not sent over http.", "Give the https address.")


def _way(given: str) -> list[str]:
    if not _WAYS.fullmatch(given):
        raise InputError(
            f"ingest.api_next = {given!r}: not a way to the next page.",
            "One of: link, body:FIELD, cursor:FIELD:PARAMETER, page:PARAMETER, offset:PARAMETER, none.",
        )
    return given.split(":")


def _step(url: str, first: str, config: IngestConfig, fetcher: Fetcher, pool: Pool, reading: _Reading) -> str:
    """Read one page; returns the address of the next one, or nothing."""
    page = fetcher.get(url, keep_as=".body.json")
    if page.status == 404 and reading.files and reading.way[0] in ("page", "offset"):
        return ""  # how some say that there is no such page any more
    if page.problem:
        asks = page.status in (401, 403)
        raise InputError(f"{page.url}: {page.problem}", f"Say who asks, {_EXAMPLE}" if asks else page.fix)
    told = _told(page, config, fetcher, pool, reading)
    if told["digest"] in reading.digests and told["items"]:
        raise InputError(
            f"{page.url}: has the items of a page before it, so these pages never end.",
            "Say how to reach the next one: --set ingest.api_next=page:PARAMETER (or cursor:..., offset:...)",
        )
    reading.digests.add(told["digest"])
    if told["items"]:
        file = fetcher.folder / told["file"]
        reading.bytes += file.stat().st_size
        reading.items += told["items"]
        parts = urlsplit(page.url)
        about = {"url": page.url, "format": "api", "title": Path(parts.path).name or parts.netloc}
        reading.files.append(Found(file, fetcher.folder, page.url, page.url, about))
    following = _next(url, page, told, fetcher.secrets, reading)
    if not following:
        return ""
    if not same_place(split_url(first), split_url(following)):
        raise InputError(
            f"{page.url}: its next page is on another host, {urlsplit(following).netloc}.",
            "Give that address as a source of its own, if you mean it.",
        )
    if following in reading.asked:
        raise InputError(f"{page.url}: its next page is one that was read.", "Correct ingest.api_next.")
    return "" if _full(page, config, reading) else following


def _told(page: Page, config: IngestConfig, fetcher: Fetcher, pool: Pool, reading: _Reading) -> dict[str, Any]:
    body = fetcher.folder / page.file
    arguments = {"path": str(body.absolute()), "items": config.api_items}
    arguments["following"] = reading.way[1] if reading.way[0] in ("body", "cursor") else ""
    try:
        told: dict[str, Any] = pool.run("tinyforge.ingest.endpoint_page:read_page", **arguments)
    except TinyForgeError as error:
        raise InputError(f"{page.url}: {error.message}", error.fix) from error
    return told


def _next(url: str, page: Page, told: Mapping[str, Any], secrets: Secrets, reading: _Reading) -> str:
    """The address of the next page by the way that is asked for; by default what the server says."""
    kind = reading.way[0]
    if kind in ("page", "offset"):
        if not told["items"]:
            return ""
        given = dict(parse_qsl(urlsplit(url).query)).get(reading.way[1], "")
        start = int(given) if given.isdecimal() else int(kind == "page")
        return _with(url, reading.way[1], str(start + (1 if kind == "page" else told["items"])))
    if kind == "cursor":
        return _with(url, reading.way[2], told["next"]) if told["next"] else ""
    if kind == "none":
        return ""
    named = page.next if kind == "link" else told["next"] if kind == "body" else page.next or told["next"]
    if named:
        return _address(urljoin(url, secrets.reveal(named)), secrets)
    if told["more"] and not kind:
        fix = "Say how to ask for it: --set ingest.api_next=cursor:FIELD:PARAMETER (or page:PARAMETER)"
        reading.skipped.append(Skipped(page.url, f"says by {told['more']} that there is more, but not where.", fix))
    return ""


def _address(url: str, secrets: Secrets) -> str:
    """The address in its plain form. Raises InputError, without what is secret, where it is none."""
    try:
        return urlunsplit(split_url(url))
    except InputError as error:
        raise InputError(secrets.hide(error.message), secrets.hide(error.fix)) from None


def _with(url: str, name: str, value: str) -> str:
    parts = urlsplit(url)
    query = [(key, old) for key, old in parse_qsl(parts.query, keep_blank_values=True) if key != name]
    return urlunsplit(parts._replace(query=urlencode([*query, (name, value)])))


def _full(page: Page, config: IngestConfig, reading: _Reading) -> bool:
    """Whether a limit ends the reading here, although there is more; then it is noted."""
    if len(reading.asked) >= config.web_pages:
        told, fix = "pages beyond ingest.web_pages.", f"Say --set ingest.web_pages={2 * config.web_pages}"
    elif reading.bytes >= config.web_mb * 1e6:
        told, fix = "pages beyond ingest.web_mb.", f"Say --set ingest.web_mb={2 * config.web_mb:g}"
    else:
        return False
    reading.skipped.append(Skipped(page.url, told, fix))
    return True

"""Pages by HTTP, one at a time: from a checked address, of one host, within limits, and kept for the next time.

A host's name is resolved and checked for every request, also for each redirect, and the connection goes to the
address that was checked, while the certificate is checked for the name. Proxies from the environment are not used:
behind one, there is no address to check.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import time
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from tinyforge import __version__
from tinyforge.errors import InputError
from tinyforge.ingest.address import checked_address
from tinyforge.ingest.robots import AGENT
from tinyforge.ingest.secrets import Secrets
from tinyforge.run import write_atomic, write_json

_REDIRECTS = 5
_SECONDS = 20.0  # for connecting, and between two pieces of an answer
_SECONDS_IN_ALL = 120.0
_WAITS = 2  # times that a busy server is asked again
_LONGEST_WAIT = 30.0
_PORTS = {"http": 80, "https": 443}
_LONGEST_HEADER = 4000
_LINK = re.compile(r"<([^<>]*)>((?:\s*;\s*[^\s;,=]+\s*(?:=\s*(?:\"[^\"]*\"|[^\s;,\"]*))?)*)")
_OFFICE = "application/vnd.openxmlformats-officedocument"
TYPES = {
    "text/html": ".html",
    "application/xhtml+xml": ".html",
    "text/plain": ".txt",
    "text/markdown": ".md",
    "text/x-rst": ".rst",
    "text/csv": ".csv",
    "application/json": ".json",
    "application/pdf": ".pdf",
    "application/epub+zip": ".epub",
    f"{_OFFICE}.wordprocessingml.document": ".docx",
    f"{_OFFICE}.presentationml.presentation": ".pptx",
    f"{_OFFICE}.spreadsheetml.sheet": ".xlsx",
}


@dataclass(frozen=True)
class Page:
    """What an address answered: ``url`` after redirects, and the file that holds the body ("" where it is refused).

    ``next`` is the address of the next page, where the answer's header names one (RFC 8288).
    """

    url: str
    status: int
    kind: str
    file: str
    problem: str = ""
    fix: str = ""
    next: str = ""


def split_url(url: str) -> SplitResult:
    """The parts of an http or https address without its fragment, the host in small letters and an empty path as /.

    Raises InputError for anything else.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: not an address ({error}).", "Give it as https://host/path") from error
    if parts.scheme.lower() not in _PORTS or not parts.hostname:
        raise InputError(f"{url}: not an http or https address.", "Give it as https://host/path")
    if parts.username or parts.password:
        raise InputError(f"{parts.hostname}: the address holds a user name or a password.", "Give it without.")
    scheme = parts.scheme.lower()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port in (None, _PORTS[scheme]) else f"{host}:{port}"
    return SplitResult(scheme, place, parts.path or "/", parts.query, "")


class Fetcher:
    """Fetches into ``folder``; what is there already is not asked for again.

    ``allowed`` are hosts and addresses that may be asked although they are not public, ``pause`` the seconds between
    requests, ``headers`` what is sent besides; what ``secrets`` holds is kept out of files and messages.
    """

    def __init__(
        self,
        folder: Path,
        largest_mb: float,
        pause: float,
        allowed: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is fetched may be private
        self.folder = folder
        self.largest = int(largest_mb * 1e6)
        self.pause = pause
        self.allowed = allowed
        self.headers = dict(headers or {})
        self.secrets = secrets or Secrets({})
        self._next = 0.0
        self._pools: dict[tuple[str, str, str], Any] = {}

    def get(self, url: str, keep_as: str = "") -> Page:
        """The page at an address; redirects are followed within its host. ``keep_as`` is the extension to keep it
        under whatever its type; by default the type decides, and one that is not read is refused.

        Raises InputError where it cannot be had now: then nothing is kept. What a server refuses for good (404), or
        what is of a kind or a size that is not read, comes back, and is kept, as a Page with a ``problem``.
        """
        shown = self.secrets.hide(url)
        kept = self.folder / f"{hashlib.sha256(shown.encode()).hexdigest()[:24]}.page.json"
        if kept.is_file():
            return Page(**json.loads(kept.read_text(encoding="utf-8")))
        try:
            page = self._followed(url, kept.name.partition(".")[0], keep_as)
        except InputError as error:
            raise InputError(self.secrets.hide(error.message), self.secrets.hide(error.fix)) from None
        page = replace(page, url=self.secrets.hide(page.url), next=self.secrets.hide(page.next))
        if page.status not in {401, 403}:  # which another header may change
            write_json(kept, asdict(page))
        return page

    def _followed(self, url: str, stem: str, keep_as: str) -> Page:
        first = parts = split_url(url)
        for _ in range(_REDIRECTS + 1):
            response = self._request(parts)
            try:
                target = response.get_redirect_location()
                if not target:
                    return self._page(urlunsplit(parts), response, stem, keep_as)
            finally:
                response.close()
            parts = split_url(urljoin(urlunsplit(parts), target))
            if not same_place(first, parts):
                message = f"{url}: redirects to {urlunsplit(parts)}, another host."
                raise InputError(message, "Give that address, if you mean it.")
        raise InputError(f"{url}: redirects more than {_REDIRECTS} times.", "Give the address where it ends.")

    def _request(self, parts: SplitResult) -> Any:
        import urllib3

        for attempt in range(_WAITS + 1):
            self._wait()
            try:
                response = self._pool(parts).urlopen(
                    "GET",
                    urlunsplit(("", "", parts.path, parts.query, "")),
                    headers={"User-Agent": _agent(), **self.headers, "Host": parts.netloc, "Accept-Encoding": "gzip"},
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    assert_same_host=False,
                    timeout=urllib3.Timeout(connect=_SECONDS, read=_SECONDS),
                )
            except urllib3.exceptions.HTTPError as error:
                told = " ".join(str(error).split())[:200]
                raise InputError(f"{urlunsplit(parts)}: {told}.", "Check the network, and run it again.") from error
            if response.status not in {429, 503} or attempt == _WAITS:
                return response
            asked = response.headers.get("Retry-After", "")
            response.close()
            self._next = time.monotonic() + min(float(asked) if asked.isdecimal() else 5.0, _LONGEST_WAIT)
        raise AssertionError("the last attempt returns")

    def _wait(self) -> None:
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self.pause

    def _pool(self, parts: SplitResult) -> Any:
        import urllib3

        host = str(parts.hostname)
        port = parts.port or _PORTS[parts.scheme]
        address = checked_address(host, port, self.allowed)
        key = (parts.scheme, parts.netloc, address)
        if key not in self._pools:
            target = f"[{address}]" if ":" in address else address
            if parts.scheme == "https":
                context = ssl.create_default_context()
                self._pools[key] = urllib3.HTTPSConnectionPool(
                    target, port, ssl_context=context, server_hostname=host, assert_hostname=host
                )
            else:
                self._pools[key] = urllib3.HTTPConnectionPool(target, port)
        return self._pools[key]

    def _page(self, url: str, response: Any, stem: str, keep_as: str) -> Page:
        kind, _, rest = response.headers.get("Content-Type", "").partition(";")
        kind = kind.strip().lower()
        if response.status >= 500 or response.status in {408, 425, 429}:
            raise InputError(f"{url}: the server answers {response.status}.", "Run it again later.")
        if response.status != 200:
            return Page(url, response.status, kind, "", f"the server answers {response.status}.", "Check the address.")
        suffix = keep_as or _suffix(kind, url)
        if not suffix:
            return Page(url, 200, kind, "", f"unsupported content type {kind or '(none)'}.", "Nothing to do.")
        body = self._body(url, response)
        if body is None:
            megabytes = self.largest / 1e6
            fix = f"Say --set ingest.max_file_mb={2 * megabytes:g}"
            return Page(url, 200, kind, "", f"more than ingest.max_file_mb = {megabytes:g}.", fix)
        file = self.folder / f"{stem}{suffix}"
        if suffix in {".html", ".txt", ".md", ".rst", ".csv"}:
            body = _as_utf8(body, rest)

        def write(handle: IO[bytes]) -> None:
            handle.write(body)

        write_atomic(file, write)
        return Page(url, 200, kind, file.name, next=_next(url, response.headers.get("Link", "")))

    def _body(self, url: str, response: Any) -> bytes | None:
        """The unpacked body; None where it is larger than the limit. Raises InputError when it stalls."""
        import urllib3

        deadline = time.monotonic() + _SECONDS_IN_ALL
        body = bytearray()
        try:
            for piece in response.stream(1 << 16, decode_content=True):
                body += piece
                if len(body) > self.largest:
                    return None
                if time.monotonic() > deadline:
                    raise InputError(f"{url}: takes longer than {_SECONDS_IN_ALL:g} s.", "Run it again later.")
        except urllib3.exceptions.HTTPError as error:
            told = " ".join(str(error).split())[:200]
            raise InputError(f"{url}: broke off ({told}).", "Run it again.") from error
        return bytes(body)


def _agent() -> str:
    return f"{AGENT}/{__version__} (+https://github.com/tinyforgeai/tinyforge)"


def _next(url: str, header: str) -> str:
    """The address that a Link header calls the next page."""
    for target, parameters in _LINK.findall(header[:_LONGEST_HEADER]):
        relations = re.search(r"""\brel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", parameters, re.IGNORECASE)
        if relations and "next" in (relations[1] or relations[2]).lower().split():
            return urljoin(url, str(target))
    return ""


def same_place(first: SplitResult, other: SplitResult) -> bool:
    """The same host and port, or the step from http to https on the usual ports."""
    if first.scheme == other.scheme:
        return first.netloc == other.netloc
    return (first.scheme, other.scheme) == ("http", "https") and first.netloc == other.netloc == first.hostname


def _suffix(kind: str, url: str) -> str:
    """The extension to keep a body under; plain text may be Markdown by its name. Empty for what is not read."""
    suffix = TYPES.get(kind, "")
    named = Path(urlsplit(url).path).suffix.lower()
    return named if suffix == ".txt" and named in {".md", ".markdown", ".rst", ".csv"} else suffix


def _as_utf8(body: bytes, parameters: str) -> bytes:
    """Text in the encoding that the server names, as UTF-8."""
    name = parameters.lower().partition("charset=")[2].split(";")[0].strip(" \"'")
    try:
        return body.decode(name).encode("utf-8") if name and name not in {"utf-8", "utf8"} else body
    except (LookupError, UnicodeDecodeError):
        return body  # the reader finds out, or says what is wrong

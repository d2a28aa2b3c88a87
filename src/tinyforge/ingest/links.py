"""What a worker process finds in a page of a site: the addresses that it links to."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urldefrag, urljoin

from bs4 import BeautifulSoup
from bs4.element import Tag

from tinyforge.ingest.reading import read_text

_MOST = 5000


def links(path: str, url: str) -> list[str]:
    """Absolute addresses without fragments, in order, each once; none where the page asks not to follow them."""
    soup = BeautifulSoup(read_text(Path(path), declared=True), "lxml")
    if any("nofollow" in str(tag.get("content", "")).lower() for tag in soup.find_all("meta", {"name": "robots"})):
        return []
    base = soup.find("base", href=True)
    start = urljoin(url, str(base["href"])) if isinstance(base, Tag) else url
    found: dict[str, None] = {}
    for tag in soup.find_all("a", href=True):
        if "nofollow" in str(tag.get("rel", "")):
            continue
        try:
            found[urldefrag(urljoin(start, str(tag["href"]).strip()))[0]] = None
        except ValueError:  # not an address
            continue
    return list(found)[:_MOST]

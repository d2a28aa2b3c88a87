from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import Ingested, read_sources
from tinyforge.ingest.address import checked_address, is_public
from tinyforge.ingest.fetch import split_url
from tinyforge.ingest.robots import Robots, matches, parse_robots
from web_server import Answer, WebServer

CONFIG = IngestConfig(web_seconds=0.0)
HERE = ["127.0.0.1"]


class Site(WebServer):
    """Its answers are set by path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        super().__init__()

    def answer(self, path: str) -> Answer:
        return self.answers.get(path, (404, {}, b"gone"))

    def page(self, path: str, *links: str, body: str = "", kind: str = "text/html; charset=utf-8") -> None:
        shown = "".join(f'<a href="{link}">{link[-9:]}</a> ' for link in links)
        html = f"<html><head><title>Page {path}</title></head><body><p>Text of {path}. {body}</p>{shown}</body></html>"
        self.answers[path] = (200, {"Content-Type": kind}, html.encode())

    def redirect(self, path: str, target: str) -> None:
        self.answers[path] = (302, {"Location": target}, b"")

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.close()


def read(site: Site, path: str, pages: Path | None = None, config: IngestConfig = CONFIG) -> Ingested:
    return read_sources([site.url + path], config.model_copy(update={"private_hosts": HERE}), pages=pages)


def paths(result: Ingested, site: Site) -> list[str]:
    return [document.source.removeprefix(site.url) for document in result.documents]


def reasons(result: Ingested, site: Site) -> dict[str, str]:
    return {skip.path.removeprefix(site.url): skip.reason for skip in result.skipped}


def test_a_site_below_its_address_is_read_once_and_then_offline(site: Site, tmp_path: Path) -> None:
    site.page("/docs/", "a.html", "b/", "/other.html", "http://example.org/", "a.html#part", "p.png", "q?x=1", "gone")
    site.page("/docs/a.html", "./", "b/c.md")
    site.page("/docs/b/", "../a.html", "mailto:a@b.example", "javascript:x()", "http://[bad")
    site.answers["/docs/b/c.md"] = (200, {"Content-Type": "text/plain"}, b"# In Markdown\n\nYes.\n")
    result = read(site, "/docs/", tmp_path / "pages")
    assert paths(result, site) == ["/docs/", "/docs/a.html", "/docs/b/", "/docs/b/c.md"]
    assert [document.title for document in result.documents][-1] == "In Markdown"
    assert result.documents[1].metadata["url"] == f"{site.url}/docs/a.html" == result.documents[1].metadata["path"]
    assert reasons(result, site)["/docs/gone"] == "the server answers 404."
    told = [skip.reason for skip in result.skipped]
    assert "2 links that lead elsewhere." in told and "1 links with a query (?...)." in told
    assert "1 links to files of other kinds." in told
    assert site.asked == ["/robots.txt", "/docs/", "/docs/a.html", "/docs/b/", "/docs/gone", "/docs/b/c.md"]
    assert all(headers["User-Agent"].startswith("tinyforge/") for headers in site.headers)
    site.close()
    assert read(site, "/docs/", tmp_path / "pages") == result


def test_an_address_without_a_slash_is_one_page(site: Site) -> None:
    site.page("/docs/a.html", "b.html")
    site.page("/docs/b.html")
    assert paths(read(site, "/docs/a.html"), site) == ["/docs/a.html"]
    site.redirect("/guide", "/guide/")
    site.page("/guide/", "x.html")
    site.page("/guide/x.html")
    assert paths(read(site, "/guide"), site) == ["/guide/", "/guide/x.html"]


def test_limits_of_pages_depth_and_size(site: Site) -> None:
    site.page("/s/", *(f"{n}.html" for n in range(9)))
    for n in range(9):
        site.page(f"/s/{n}.html", f"deeper{n}.html")
        site.page(f"/s/deeper{n}.html", "deepest.html")
    few = read(site, "/s/", config=IngestConfig(web_seconds=0.0, web_pages=4))
    assert paths(few, site) == ["/s/", "/s/0.html", "/s/1.html", "/s/2.html"]
    assert few.skipped[-1].reason == "9 pages beyond ingest.web_pages."
    assert few.skipped[-1].fix == "Say --set ingest.web_pages=8"
    flat = read(site, "/s/", config=IngestConfig(web_seconds=0.0, web_depth=1))
    assert len(flat.documents) == 10 and flat.skipped[-1].reason == "9 pages deeper than ingest.web_depth."
    small = read(site, "/s/", config=IngestConfig(web_seconds=0.0, web_mb=0.0005))
    assert len(small.documents) < 4 and "beyond ingest.web_mb" in small.skipped[-1].reason


def test_large_bodies_bombs_and_other_kinds_are_refused(site: Site) -> None:
    site.page("/s/", "large.html", "bomb.html", "kind", "none", "latin.html")
    site.page("/s/large.html", body="word " * 300_000)
    site.answers["/s/bomb.html"] = (
        200, {"Content-Type": "text/html", "Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))
    )  # fmt: skip
    site.answers["/s/kind"] = (200, {"Content-Type": "application/octet-stream"}, b"\0")
    site.answers["/s/none"] = (200, {}, b"x")
    latin = {"Content-Type": "text/html; charset=ISO-8859-1"}
    site.answers["/s/latin.html"] = (200, latin, "<p>caf\u00e9</p>".encode("latin-1"))
    result = read(site, "/s/", config=IngestConfig(web_seconds=0.0, max_file_mb=1.0))
    assert paths(result, site) == ["/s/", "/s/latin.html"] and result.documents[1].text == "caf\u00e9"
    assert reasons(result, site) == {
        "/s/large.html": "more than ingest.max_file_mb = 1.",
        "/s/bomb.html": "more than ingest.max_file_mb = 1.",
        "/s/kind": "unsupported content type application/octet-stream.",
        "/s/none": "unsupported content type (none).",
    }


def test_robots_are_respected(site: Site) -> None:
    wishes = "User-agent: *\nDisallow: /\n\nUser-Agent: TinyForge # us\nDisallow: /s/private\nCrawl-delay: 0.01\n"
    site.answers["/robots.txt"] = (200, {"Content-Type": "text/plain"}, wishes.encode())
    site.page("/s/", "private.html", "open.html")
    site.page("/s/open.html")
    site.page("/s/private.html")
    result = read(site, "/s/")
    assert paths(result, site) == ["/s/", "/s/open.html"] and "/s/private.html" not in site.asked
    assert result.skipped[-1].reason == "1 pages that robots.txt asks not to read."
    with pytest.raises(InputError, match=r"robots.txt of the site asks not to read it"):
        read(site, "/s/private.html")
    site.answers["/robots.txt"] = (503, {"Retry-After": "0"}, b"")
    with pytest.raises(InputError, match=r"robots.txt cannot be had"):
        read(site, "/s/")
    assert site.asked[-3:] == ["/robots.txt"] * 3


def test_nofollow_is_respected(site: Site) -> None:
    site.page("/s/", body='<a rel="nofollow" href="a.html">a</a><a href="b.html">b</a>')
    site.page("/s/b.html", body='<meta name="robots" content="noindex, nofollow"><a href="c.html">c</a>')
    assert paths(read(site, "/s/"), site) == ["/s/", "/s/b.html"]


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://localhost/",
        "http://example.org/",
        "//10.0.0.1/",
        "https://127.0.0.1/",
    ],
)
def test_redirects_to_another_place_are_refused(site: Site, target: str) -> None:
    site.redirect("/s/", target)
    with pytest.raises(InputError, match="another host"):
        read(site, "/s/")
    site.page("/t/", "away", "ok")
    site.redirect("/t/away", target)
    site.page("/t/ok")
    result = read(site, "/t/")
    assert paths(result, site) == ["/t/", "/t/ok"] and "another host" in reasons(result, site)["/t/away"]


def test_redirects_to_files_and_in_circles_are_refused(site: Site) -> None:
    site.redirect("/file", "file:///etc/passwd")
    with pytest.raises(InputError, match="not an http or https address"):
        read(site, "/file")
    site.redirect("/round", "/round")
    with pytest.raises(InputError, match="redirects more than 5 times"):
        read(site, "/round")


def test_this_machine_is_not_asked_without_leave(site: Site) -> None:
    site.page("/s/")
    port = site.url.rsplit(":", 1)[1]
    names = [site.url, f"http://localhost:{port}", f"http://[::1]:{port}", f"http://[::ffff:127.0.0.1]:{port}"]
    for name in [*names, "http://169.254.169.254", "http://0.0.0.0", "http://2130706433"]:
        with pytest.raises(InputError, match="not a public one"):
            read_sources([f"{name}/s/"], CONFIG)
    assert site.asked == []


def test_a_name_that_changes_its_address_is_checked_each_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rebinding: the first answer of the name server is allowed, the next one is not."""
    import socket

    real = socket.getaddrinfo
    asked: list[str] = []

    def rebinding(host: str, *arguments: object, **options: object) -> object:
        if host == "docs.example":
            asked.append(host)
            return real("127.0.0.1" if len(asked) <= 2 else "127.0.0.2", *arguments, **options)  # type: ignore[arg-type]
        return real(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    site.page("/s/", "next.html")
    site.page("/s/next.html")
    port = site.url.rsplit(":", 1)[1]
    result = read_sources([f"http://docs.example:{port}/s/"], CONFIG.model_copy(update={"private_hosts": HERE}))
    assert len(result.documents) == 1 and len(asked) == 3
    assert "127.0.0.2 is not a public one" in result.skipped[0].reason
    assert site.headers[-1]["Host"] == f"docs.example:{port}"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("127.0.0.1", False), ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("0.0.0.0", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False),
        ("::1", False), ("::", False), ("fe80::1%eth0", False), ("fc00::1", False), ("ff02::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:a9fe:a9fe", False), ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False), ("2002:7f00:1::", False), ("2001:0:7f00:1::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_one_inner_address_spoils_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    both = [(2, 1, 6, "", ("8.8.8.8", 80)), (2, 1, 6, "", ("192.168.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    with pytest.raises(InputError, match=r"192\.168\.0\.1 is not a public one"):
        checked_address("both.example", 80)
    assert checked_address("both.example", 80, ["192.168.0.1"]) == "8.8.8.8"
    assert checked_address("both.example", 80, ["both.example"]) == "8.8.8.8"  # named by the person


def test_addresses_that_cannot_be_used() -> None:
    for url in ("ftp://example.org/", "http://", "https://user:secret@example.org/", "http://example.org:99999/"):
        with pytest.raises(InputError) as error:
            split_url(url)
        assert "secret" not in str(error.value)
    assert split_url("HTTPS://Example.ORG:443").geturl() == "https://example.org/"


def test_robots_rules() -> None:
    assert matches("/a*b*c", "/a--b--c--") and not matches("/a*b*c", "/a--c--b")
    assert matches("/*.pdf$", "/x/y.pdf") and not matches("/*.pdf$", "/x/y.pdf?z") and matches("/a$", "/a")
    assert not matches("/aa*aa$", "/aaa") and matches("*", "/x") and matches("/", "/x") and not matches("/a$", "/ab")
    rules = parse_robots("User-agent: a\nUser-agent: *\nDisallow: /x\nAllow: /x/y\nDisallow: /%7Ez\nDisallow:\n")
    assert [rules.allows(path) for path in ("/x", "/x/y/z", "/~z", "/")] == [False, True, False, True]
    assert Robots(((False, "/a"), (True, "/a"))).allows("/a")
    theirs = "User-agent: other\nDisallow: /\nSitemap: x\nUser-agent: tinyforge\nAllow: /\nUser-agent: *\nDisallow: /"
    assert parse_robots(theirs).allows("/x")
    assert parse_robots("User-agent: *\nCrawl-delay: 900\n").delay == 30.0
    assert not matches("/" + "*a" * 5000 + "$", "/" + "a" * 4999)

"""REST endpoints as sources, asked of a real server on this machine: pages, headers, limits, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tinyforge.cli import main
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError
from tinyforge.ingest import Ingested, fingerprint, read_sources
from tinyforge.ingest.kinds import kinds_of
from tinyforge.ingest.secrets import Secrets
from web_server import WebServer

Answer = tuple[int, dict[str, str], Any]
BOATS = [{"title": f"Boat {n}", "seats": n, "text": f"Boat {n} was built in {1900 + n}."} for n in range(1, 8)]


class Server(WebServer):
    """Answers by path with a function from the query's parameters."""

    def __init__(self) -> None:
        self.routes: dict[str, Callable[[dict[str, str]], Answer]] = {}
        super().__init__()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(path)
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        status, headers, found = self.routes.get(parts.path, lambda _: (404, {}, {}))(given)
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        return status, {"Content-Type": "application/json", **headers}, body

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def config(**options: Any) -> IngestConfig:
    return IngestConfig(**{"web_seconds": 0.0, "private_hosts": ["127.0.0.1"], **options})


def read(server: Server, path: str, pages: Path | None = None, **options: Any) -> Ingested:
    return read_sources([f"api+{server.url}{path}"], config(**options), pages=pages)


def headings(result: Ingested) -> list[str]:
    return [d.slice(b.span) for d in result.documents for b in d.blocks if b.kind == "heading"]


EVERY = [f"Boat {n}" for n in range(1, 8)]


def by_offset(given: dict[str, str]) -> list[dict[str, Any]]:
    start = int(given.get("offset", 0))
    return BOATS[start : start + 3]


def by_page(given: dict[str, str]) -> list[dict[str, Any]]:
    start = 3 * (int(given.get("page", 1)) - 1)
    return BOATS[start : start + 3]


def linked(server: Server) -> Callable[[dict[str, str]], Answer]:
    def answer(given: dict[str, str]) -> Answer:
        following = int(given.get("page", 1)) + 1
        links = f'<{server.url}/boats?page=1>; rel="first", <{server.url}/boats?page={following}>; rel="next"'
        return 200, {"Link": links} if following <= 3 else {}, by_page(given)

    return answer


def test_a_link_header_is_followed_and_every_page_is_a_document(server: Server) -> None:
    server.routes["/boats"] = linked(server)
    result = read(server, "/boats")
    assert headings(result) == EVERY and result.skipped == []
    assert [d.source for d in result.documents] == [f"{server.url}/boats{q}" for q in ("", "?page=2", "?page=3")]
    first = result.documents[0]
    assert (first.metadata["format"], first.metadata["title"]) == ("api", "boats")
    assert first.metadata["url"] == first.metadata["path"] == first.source
    assert "Boat 2 was built in 1902." in first.text and "seats: 2" in first.text


@pytest.mark.parametrize(
    ("way", "answer"),
    [
        ("", lambda given: {"count": 7, "results": by_page(given), "next": _page(given, "/boats?page={}")}),
        ("body:paging.after", lambda given: {"data": by_page(given), "paging": {"after": _page(given, "?page={}")}}),
        ("page:page", by_page),
        ("offset:offset", lambda given: {"boats": by_offset(given)}),
        ("cursor:meta.cursor:page", lambda given: {"boats": by_page(given), "meta": {"cursor": _page(given, "{}")}}),
    ],
)
def test_each_way_to_the_next_page(server: Server, way: str, answer: Callable[[dict[str, str]], Any]) -> None:
    server.routes["/boats"] = lambda given: (200, {}, answer(given))
    assert headings(read(server, "/boats?kind=all", api_next=way)) == EVERY
    assert way in ("", "body:paging.after") or all("kind=all" in asked for asked in server.asked)


def _page(given: dict[str, str], address: str) -> str | None:
    following = int(given.get("page", 1)) + 1
    return address.format(following) if following <= 3 else None


def test_a_page_beyond_the_last_may_be_missing(server: Server) -> None:
    server.routes["/boats"] = lambda given: (200 if by_page(given) else 404, {}, by_page(given))
    assert headings(read(server, "/boats", api_next="page:page")) == EVERY


def test_the_items_are_found_or_named(server: Server) -> None:
    server.routes["/one"] = lambda _: (200, {}, BOATS[0])
    server.routes["/deep"] = lambda _: (200, {}, {"data": {"boats": BOATS[:2]}, "tags": ["a"]})
    server.routes["/two"] = lambda _: (200, {}, {"boats": BOATS[:2], "crews": [{"name": "A"}], "tags": ["a"]})
    server.routes["/tagged"] = lambda _: (200, {}, {"boats": BOATS[:2], "tags": ["a"]})
    assert headings(read(server, "/one")) == ["Boat 1"]
    assert headings(read(server, "/tagged")) == EVERY[:2]
    assert headings(read(server, "/deep", api_items="data.boats")) == EVERY[:2]
    assert headings(read(server, "/two", api_items="crews")) == ["A"]
    with pytest.raises(InputError, match=r"several lists \(boats, crews, tags\).*ingest\.api_items=boats"):
        read(server, "/two")
    with pytest.raises(InputError, match=r"has nothing at ingest\.api_items = 'data' \(its fields: boats, tags\)"):
        read(server, "/tagged", api_items="data")


def test_the_token_comes_from_the_environment_and_is_kept_nowhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control is the header that is sent: it must hold the value."""
    secret = "s3cr3t-of-the-club"
    monkeypatch.setenv("BOATS_TOKEN", secret)
    seen: list[str] = []

    def answer(given: dict[str, str]) -> Answer:
        seen.append(server.headers[-1].get("Authorization", ""))
        if seen[-1] != f"Bearer {secret}":
            return 401, {}, {}
        following = f"{server.url}/boats?page=2&key={secret}&other={{HOME}}"
        return 200, {"Link": f"<{following}>; rel=next"} if "page" not in given else {}, by_page(given)

    server.routes["/boats"] = answer
    out = tmp_path / "out"
    command = ["ingest", f"api+{server.url}/boats?key={{BOATS_TOKEN}}", "--out", str(out)]
    command += ["--set", "ingest.private_hosts=[127.0.0.1]", "--set", "ingest.redact=off"]
    assert main(command) == 2
    assert "answers 401. Say who asks" in capsys.readouterr().err
    assert main([*command, "--header", "Authorization: Bearer {BOATS_TOKEN}"]) == 0
    assert f"key={secret}" in server.asked[-1] and "other={HOME}" in unquote(server.asked[-1])
    shown = capsys.readouterr()
    kept = "".join(p.read_text(encoding="utf-8") for p in out.rglob("*") if p.is_file())
    assert secret not in kept + shown.out + shown.err
    assert "key={BOATS_TOKEN}" in kept and "Boat 4" in kept


def test_a_header_with_its_secret_in_the_command_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOATS_TOKEN", "s3cr3t-of-the-club")
    server.routes["/boats"] = lambda _: (200, {}, BOATS)
    cases = {
        "Authorization: Bearer abcdef": "would be kept in the run's config.json",
        "X-Api-Key: abc": "would be kept",
        "Authorization: Bearer {NOT_SET_ANYWHERE}": "the environment has no NOT_SET_ANYWHERE",
        "no colon": "not of the form NAME: VALUE",
        "A: b\r\nC: d": "not of the form NAME: VALUE",
    }
    for header, told in cases.items():
        with pytest.raises(InputError, match=told):
            read(server, "/boats", api_headers=[header])
    with pytest.raises(InputError, match="what is secret is not sent over http"):
        read_sources(
            [f"api+http://example.org:{server.server.server_port}/"],
            config(api_headers=["Authorization: Bearer {BOATS_TOKEN}"]),
        )
    assert server.asked == []
    assert headings(read(server, "/boats", api_headers=["Accept-Language: en"])) == EVERY
    assert server.headers[-1]["Accept-Language"] == "en"


def test_this_machine_is_not_asked_without_leave(server: Server) -> None:
    server.routes["/boats"] = lambda _: (200, {}, BOATS)
    with pytest.raises(InputError, match=r"127\.0\.0\.1 is not a public one.*private_hosts=\[127\.0\.0\.1\]"):
        read(server, "/boats", private_hosts=[])
    assert server.asked == []


@pytest.mark.parametrize("target", ["http://example.org/boats", "//10.0.0.1/", "https://127.0.0.1/boats"])
def test_the_next_page_stays_on_its_host(server: Server, target: str) -> None:
    server.routes["/boats"] = lambda _: (200, {}, {"results": BOATS, "next": target})
    with pytest.raises(InputError, match="next page is on another host"):
        read(server, "/boats")


def test_pages_that_never_end_are_noticed(server: Server) -> None:
    server.routes["/same"] = lambda _: (200, {}, BOATS)
    with pytest.raises(InputError, match="has the items of a page before it"):
        read(server, "/same", api_next="page:page")
    server.routes["/round"] = lambda _: (200, {}, {"results": BOATS, "next": "/round"})
    with pytest.raises(InputError, match="its next page is one that was read"):
        read(server, "/round")


def test_what_is_left_out_is_said(server: Server) -> None:
    server.routes["/boats"] = linked(server)
    few = read(server, "/boats", web_pages=2)
    assert headings(few) == EVERY[:6]
    assert [(s.reason, s.fix) for s in few.skipped] == [
        ("pages beyond ingest.web_pages.", "Say --set ingest.web_pages=4")
    ]
    small = read(server, "/boats", web_mb=0.0001)
    assert headings(small) == EVERY[:3] and small.skipped[0].reason == "pages beyond ingest.web_mb."
    server.routes["/vague"] = lambda _: (200, {}, {"data": BOATS, "has_more": True})
    assert read(server, "/vague").skipped[0].reason == "says by has_more that there is more, but not where."
    assert read(server, "/vague", api_next="none").skipped == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, {}, b"<html>"), "answers with something that is no JSON"),
        ((500, {}, {}), "the server answers 500"),
        ((403, {}, {}), "the server answers 403. Say who asks"),
        ((200, {}, b"[" * 100_000), "nested too deeply|no JSON"),
        ((200, {}, json.dumps(["x" * 1000] * 2000).encode()), "more than ingest.max_file_mb = 1"),
    ],
)
def test_answers_that_cannot_be_read(server: Server, answer: Answer, told: str) -> None:
    server.routes["/boats"] = lambda _: answer
    with pytest.raises(InputError, match=told):
        read(server, "/boats", max_file_mb=1.0)


def test_after_a_failure_it_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    broken = [True]

    def answer(given: dict[str, str]) -> Answer:
        if given.get("page") == "3" and broken:
            return 500, {}, {}
        return linked(server)(given)

    server.routes["/boats"] = answer
    with pytest.raises(InputError, match="answers 500"):
        read(server, "/boats", tmp_path)
    broken.clear()
    asked = len(server.asked)
    assert headings(read(server, "/boats", tmp_path)) == EVERY
    assert server.asked[asked:] == ["/boats?page=3"]


def test_a_wrong_way_is_named() -> None:
    with pytest.raises(InputError, match=r"ingest\.api_next = 'pages': not a way to the next page"):
        read_sources(["api+https://example.org/x"], config(api_next="pages"))


def test_kinds_of_sources() -> None:
    given = ["api+https://a.example/x", "https://a.example/", "git+https://a.example/x", "sqlite:///a.db", "a"]
    found = kinds_of(given)
    kinds = [found.endpoints, found.sites, found.repositories, found.databases, found.paths]
    assert kinds == [[source] for source in given]
    assert fingerprint(["api+https://a.example/x"], config()) == [["api+https://a.example/x", "as first fetched"]]


def test_secrets_are_hidden_longest_first_and_only_known_ones_come_back() -> None:
    secrets = Secrets({"A": "abcd", "B": "abcdef", "C": "x"})
    assert secrets.fill("{A}/{B}/{C}/{d}") == "abcd/abcdef/x/{d}"
    assert secrets.hide("abcdef and abcd, x") == "{B} and {A}, x"
    assert secrets.reveal("{B}{A}{HOME}") == "abcdefabcd{HOME}"

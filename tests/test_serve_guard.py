"""The server against what is wrong: hostile pages, missing keys, broken requests, leaving clients."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from little import make_lively_base
from live_server import Live, live
from tinyforge.config import Config, ServeConfig
from tinyforge.errors import InputError
from tinyforge.serve.api import create_app
from tinyforge.serve.api.wire import NOTHING, ChatRequest
from tinyforge.serve.catalogue import Catalogue
from tinyforge.serve.server import Server

KEY = "a-key-of-some-length"
CHAT = {"model": "little", "messages": [{"role": "user", "content": "What is a loan?"}]}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
HOSTS = (
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "127.0.0.1@evil.example",
    "127.0.0.1:99999",
    "10.0.0.7",
    "0.0.0.0",
    "[::ffff:10.0.0.7]",
    "169.254.169.254",
    "",
    "localhost,evil.example",
)
ORIGINS = (
    "http://evil.example",
    "https://evil.example",
    "null",
    "file://",
    "http://127.0.0.1",  # another port is another server
    "http://127.0.0.1:1",
    "http://localhost:8000",
    "chrome-extension://abc",
    "http://127.0.0.1:8000.evil.example",
    "http://127.0.0.1:8000@evil.example",
    "http://[::1]:8000",
    "",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("guard") / "base")


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Live]:
    with live([f"little={base}"], body_mb=0.5) as made:
        yield made


def gated(key: str = "", **options: Any) -> Any:
    """The application without a socket or a model: what its gate lets through gets a 404 or the like."""
    config = Config(serve=ServeConfig(**options))  # type: ignore[call-arg]
    return create_app(Catalogue(config), config.serve, key)


def routes(app: Any) -> list[str]:
    paths = [path.replace("{name}", "x").replace("{name:path}", "x") for path in app._app.openapi()["paths"]]
    return [*paths, "/", "/docs", "/openapi.json", "/page/x.js", "/nowhere"]


def ask_all(app: Any, requests: list[tuple[str, str, dict[str, str]]]) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return [await client.request(method, path, headers=headers) for method, path, headers in requests]

    return asyncio.run(run())


# --- the gate --------------------------------------------------------------------------------------------------------


def test_every_route_and_method_refuses_hostile_hosts_and_origins() -> None:
    app = gated()
    hostile = [{"host": host} for host in HOSTS] + [{"origin": origin} for origin in ORIGINS]
    asked = [(m, path, headers) for m in METHODS for path in routes(app) for headers in hostile]
    answers = ask_all(app, asked)
    assert [a for a in zip(asked, answers, strict=True) if a[1].status_code != 403] == []
    assert all(a.json()["error"]["code"].endswith("_not_allowed") for a in answers if a.request.method != "HEAD")


@pytest.mark.parametrize(
    "headers", [{}, {"origin": "http://127.0.0.1:8000"}, {"host": "localhost:8000"}, {"host": "[::1]:8000"}]
)
def test_its_own_page_is_let_in(headers: dict[str, str]) -> None:
    """The control: not everything is refused."""
    assert ask_all(gated(), [("GET", "/health", headers)])[0].status_code == 200


def test_no_cross_origin_headers_are_ever_sent() -> None:
    app = gated()
    for answer in ask_all(app, [("OPTIONS", path, {"origin": "http://127.0.0.1:8000"}) for path in routes(app)]):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_route_refuses_without_the_key() -> None:
    app = gated(KEY)
    basic = base64.b64encode(b"user:wrong").decode()
    wrong: list[dict[str, str]] = [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": KEY},
        {"authorization": f"Token {KEY}"},
        {"authorization": f"Basic {basic}"},
        {"authorization": "Basic !!!"},
        {"authorization": "Bearer"},
    ]
    asked = [(m, path, headers) for m in METHODS for path in routes(app) for headers in wrong]
    assert {answer.status_code for answer in ask_all(app, asked)} == {401}
    right = base64.b64encode(f"me:{KEY}".encode()).decode()
    for given in (f"Bearer {KEY}", f"bearer {KEY}", f"Basic {right}"):
        assert ask_all(app, [("GET", "/health", {"authorization": given})])[0].status_code == 200


def test_another_address_needs_a_key_and_then_takes_addresses_but_no_names() -> None:
    config = Config(serve=ServeConfig(host="0.0.0.0"))  # type: ignore[call-arg]
    with pytest.raises(InputError, match="needs a key"):
        Server(Catalogue(config), config.serve)
    app = gated(KEY, host="0.0.0.0", hosts=["models.home"])
    key = {"authorization": f"Bearer {KEY}"}
    hosts = ("192.168.1.5:8000", "models.home", "evil.example")
    answers = ask_all(app, [("GET", "/health", {**key, "host": host}) for host in hosts])
    assert [answer.status_code for answer in answers] == [200, 200, 403]


def test_fields_that_ask_for_nothing_are_taken_and_others_refused() -> None:
    for name, values in NOTHING.items():
        for value in values:
            ChatRequest.model_validate({**CHAT, name: value})
        with pytest.raises(ValueError, match="Extra inputs"):
            ChatRequest.model_validate({**CHAT, name: ["something"]})
    given = ChatRequest.model_validate({**dict.fromkeys(ChatRequest.model_fields), **CHAT})
    assert given == ChatRequest.model_validate(CHAT)


# --- broken requests -------------------------------------------------------------------------------------------------


def raw(server: Live, data: bytes) -> bytes:
    """The beginning of what comes back; empty where the server waits for more, and hangs up when none comes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.5) as sock:
        try:
            sock.sendall(data)
            return sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        except TimeoutError:
            sock.settimeout(30)
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(65536)


def broken(random_: random.Random) -> bytes:
    """A request that is wrong in one way or several."""
    body = json.dumps(CHAT).encode()
    host, length = b"Host: 127.0.0.1\r\n", b"Content-Length: %d\r\n" % len(body)
    start, kind = b"POST /v1/chat/completions HTTP/1.1\r\n", b"Content-Type: application/json\r\n"
    noise = random_.randbytes(random_.randint(1, 400))
    makers = [
        lambda: noise,
        lambda: start + host + kind + b"Content-Length: %d\r\n\r\n" % len(noise) + noise,
        lambda: start + host + kind + b"Content-Length: -5\r\n\r\n" + body,
        lambda: start + host + kind + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + body,
        lambda: start + host + kind + b"Content-Length: 99999999999\r\n\r\n",
        lambda: start + host + kind + length + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        lambda: start + host + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n",
        lambda: start + host + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        lambda: start + host + b"".join(b"X-%d: 1\r\n" % i for i in range(150)) + b"\r\n",
        lambda: b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + host + b"\r\n",
        lambda: b"GET /%ff%00/\xff HTTP/1.1\r\n" + host + b"\r\n",
        lambda: b"GET /health HTTP/9.9\r\n" + host + b"\r\n",
        lambda: b"GET /health\r\n\r\n",
        lambda: b"GET /health HTTP/1.1\r\n\r\n",
        lambda: b"GET /health HTTP/1.1\r\n" + host + host + b"\r\n",
        lambda: start + host + kind + length + b"\r\n" + body[: random_.randrange(1, len(body))],
        lambda: start + host + kind + length + b"\r\n" + bytes(reversed(body)),
        lambda: start + host + kind + b"Content-Length: 400000\r\n\r\n" + b"[" * 400_000,
        lambda: start + host + kind + b"Content-Length: 6\r\n\r\n" + b'"\xed\xa0\x80"x',
        lambda: start + host + b"Content-Type: text/plain\r\n" + length + b"\r\n" + body,
        lambda: start + host + kind + b"Content-Length: 4\r\n\r\nnull",
    ]
    return random_.choice(makers)()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def try_broken(server: Live, count: int) -> None:
    random_ = random.Random(1)
    for _ in range(count):
        data = broken(random_)
        status = status_of(raw(server, data))
        assert status == 0 or 400 <= status < 500, (data[:200], status)
        # No answer only where the client itself hung up before its request was whole.
        unfinished = b"\r\n\r\n" not in data or b"Content-Length" in data or b"chunked" in data
        assert status or unfinished, data[:200]
    assert httpx.get(f"{server.url}/health").status_code == 200
    server.until_idle()


def test_broken_requests_get_a_4xx(server: Live) -> None:
    try_broken(server, 120)


@pytest.mark.slow  # two minutes
def test_two_thousand_broken_requests_leave_memory_as_it_was(server: Live) -> None:
    import psutil

    try_broken(server, 300)
    before = psutil.Process().memory_info().rss
    try_broken(server, 2000)
    assert psutil.Process().memory_info().rss - before < 20e6


def test_large_bodies_are_refused_however_they_come(server: Live) -> None:
    big = json.dumps({**CHAT, "user": "x" * 600_000}).encode()
    assert httpx.post(f"{server.url}/v1/chat/completions", content=big).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 50_000

    try:
        answer = httpx.post(f"{server.url}/v1/chat/completions", content=chunks())
    except httpx.TransportError:  # it hung up while the rest was being sent
        return
    assert answer.status_code == 413 and answer.json()["error"]["type"] == "invalid_request_error"


# --- leaving clients -------------------------------------------------------------------------------------------------


def leave(server: Live, number: int) -> None:
    """Ask for a long answer, as a stream or whole, and hang up."""
    body = json.dumps({**CHAT, "stream": number % 2 == 0, "max_tokens": 900, "n": 1 + number % 3}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    sock.sendall(head.encode() + body)
    if number % 2 == 0:
        sock.recv(100)
    else:
        time.sleep(0.02)
    sock.close()


def test_clients_that_leave_free_their_slots(server: Live) -> None:
    engine = server.catalogue.engines[0][1]
    before = engine.stats()
    for number in range(8):
        leave(server, number)
        server.until_idle(10)
    after = engine.stats()
    assert after.cancelled - before.cancelled >= 8  # far from done, each was ended
    assert after.tokens - before.tokens < 8 * 900


@pytest.mark.slow  # a minute
def test_two_hundred_clients_that_leave(server: Live) -> None:
    import psutil

    def all_at_once(numbers: range) -> None:
        threads = [threading.Thread(target=leave, args=(server, number)) for number in numbers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.until_idle()

    for start in range(0, 60, 20):
        all_at_once(range(start, start + 20))
    before = psutil.Process().memory_info().rss
    for start in range(0, 200, 20):
        all_at_once(range(start, start + 20))
    assert psutil.Process().memory_info().rss - before < 30e6


def test_beyond_the_queue_there_is_a_429(base: Path) -> None:
    with live([f"little={base}"], slots=1, waiting=1) as small:
        bodies = [{**CHAT, "max_tokens": 800} for _ in range(5)]
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(
                target=lambda body=body: answers.append(
                    httpx.post(f"{small.url}/v1/chat/completions", json=body, timeout=60)
                )
            )
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        refused = [answer for answer in answers if answer.status_code == 429]
        assert 2 <= len(refused) <= 4 and {answer.status_code for answer in answers} == {200, 429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert refused[0].json()["error"]["type"] == "rate_limit_error"
        more = httpx.post(f"{small.url}/v1/chat/completions", json={**CHAT, "max_tokens": 2, "n": 3}, timeout=60)
        assert more.status_code == 400 and "2 are the most" in more.json()["error"]["message"]  # again would not help
        texts = {"input": ["One.", "Two.", "Three."], "max_tokens": 2}
        assert len(httpx.post(f"{small.url}/predict", json=texts, timeout=60).json()["results"]) == 3

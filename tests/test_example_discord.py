"""The core of the Discord bot, without Discord: what it asks a server, what it remembers, what it would send."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def bot() -> ModuleType:
    path = Path(__file__).parent.parent / "examples" / "discord_bot.py"
    spec = importlib.util.spec_from_file_location("discord_bot", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Server(BaseHTTPRequestHandler):
    """Answers with how many messages it was given; refuses the word "boom"."""

    seen: list[dict] = []  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        refused = body["messages"][-1]["content"] == "boom" or (
            len(body["messages"]) > 1 and body["messages"][-1]["content"] == "long"
        )
        citations = [{"source": "a.md", "section": "Fees", "page": 2}] * 2
        answer = {
            "choices": [{"message": {"content": f"{len(body['messages'])} messages"}}],
            "tinyforge": {"citations": citations},
        }
        data = json.dumps(
            {"error": {"message": "the prompt is too long", "code": "context_length_exceeded"}} if refused else answer
        ).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_it_asks_remembers_each_channel_and_shows_places(bot: ModuleType, url: str) -> None:
    model, memory = bot.Model(url, "handbook", "secret"), bot.Memory(turns=2)

    def ask(channel: int, text: str) -> list[str]:
        return asyncio.run(bot.reply_to(model, memory, channel, text))

    assert ask(1, "one") == ["1 messages\n-# a.md, Fees, page 2"]
    assert ask(1, "two")[0].startswith("3 messages") and ask(2, "other")[0].startswith("1 messages")
    assert ask(1, "three")[0].startswith("5 messages") and ask(1, "four")[0].startswith("5 messages")  # two turns
    assert ask(1, "long")[0].startswith("1 messages") and ask(1, "five")[0].startswith("3 messages")  # begun anew
    assert ask(1, "boom") == ["I cannot answer: the prompt is too long."]
    assert all(seen["max_tokens"] == bot.TOKENS for seen in Server.seen)
    assert Server.seen[0]["path"] == "/v1/chat/completions" and Server.seen[0]["key"] == "Bearer secret"
    assert Server.seen[0]["model"] == "handbook"
    gone = bot.Model("http://127.0.0.1:9", "x")
    assert "cannot be reached" in asyncio.run(bot.reply_to(gone, memory, 3, "hi"))[0]


def test_messages_fit_and_nothing_is_lost(bot: ModuleType) -> None:
    assert bot.parts("short") == ["short"] and bot.parts("") == []
    text = "word " * 1000 + "\n" + "x" * 4500
    found = bot.parts(text)
    assert all(0 < len(part) <= 2000 for part in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_the_mention_is_no_part_of_the_question(bot: ModuleType) -> None:
    assert bot.question_in("<@42> when is it open? <@!42>", 42) == "when is it open?"
    assert bot.question_in("<@7> hello", 42) == "<@7> hello"

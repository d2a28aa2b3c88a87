"""A server's beginning and end: an address that is told can be connected to, and streams under way end properly."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from little import make_lively_base
from tinyforge.config import Config, ServeConfig
from tinyforge.errors import InputError
from tinyforge.serve.catalogue import Catalogue
from tinyforge.serve.server import Server

CHAT = {"model": "little", "messages": [{"role": "user", "content": "What is a loan?"}]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("end") / "base")


def end_under_load(base: Path, seconds: str, tokens: int) -> tuple[list[str], str]:
    """Start the real command, ask for streams, and end it while they come; what each stream said, and the log."""
    command = [sys.executable, "-m", "tinyforge", "serve", f"little={base}", "--port", "0", "--json"]
    process = subprocess.Popen(
        [*command, "--set", f"serve.drain_seconds={seconds}", "--set", "train.threads=1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    said: list[str] = []
    begun = threading.Semaphore(0)

    def ask(number: int) -> None:
        body = {**CHAT, "stream": True, "max_tokens": tokens, "seed": number}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = []
            for line in answer.iter_lines():
                lines.append(line)
                if len(lines) == 5:
                    begun.release()
            said.append("\n".join(lines))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    return said, log


def test_sigterm_lets_streams_finish(base: Path) -> None:
    said, log = end_under_load(base, "60", 300)
    assert len(said) == 4 and all(text.rstrip().endswith("data: [DONE]") for text in said), said[0][-300:]
    assert log.rstrip().endswith("stopped; nothing is left under way.")


def test_sigterm_without_patience_ends_streams_with_an_error_event(base: Path) -> None:
    said, _ = end_under_load(base, "0", 1000)
    assert len(said) == 4
    for text in said:
        last = json.loads(text.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["code"] == "stopping"


@pytest.mark.slow  # eight minutes
@pytest.mark.parametrize("number", range(50))
def test_fifty_sigterms(base: Path, number: int) -> None:
    said, _ = end_under_load(base, ["0", "0.2", "60"][number % 3], 300 + 10 * number)
    ends = [text.strip().splitlines()[-1] for text in said]
    assert len(ends) == 4 and all(end == "data: [DONE]" or '"error"' in end for end in ends)


def test_a_told_address_can_be_connected_to_and_is_taken() -> None:
    """Before its loop runs: a bound socket that does not listen refuses, and lets a second server bind beside it."""
    config = Config(serve=ServeConfig(port=0))  # type: ignore[call-arg]
    with Server(Catalogue(config), config.serve).listen() as listening:
        port = listening.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
        config = Config(serve=ServeConfig(port=port))  # type: ignore[call-arg]
        with pytest.raises(InputError, match="cannot be listened on"):
            Server(Catalogue(config), config.serve).listen()

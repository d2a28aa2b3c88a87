"""A teacher behind a real server: our own, asked by `synthesize --teacher`, on a wire that OpenAI's client reads."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from little import make_lively_base
from live_server import Live, live
from teacher_server import Teacher
from test_synthesize_teacher import PAGE, files, rows
from tinyforge.cli import main
from tinyforge.run import read_json

SETTINGS = {
    "teacher_examples": "12",
    "wordings": "12",
    "rounds": "1",
    "teacher_answer_tokens": "64",
    "teacher_concurrency": "8",
}


@dataclass
class Wire:
    """What went over the wire, in the order of the answers: status, what was asked, what was answered."""

    url: str
    calls: list[tuple[int, dict[str, Any], bytes]] = field(default_factory=list)

    def answered(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        return [(asked, json.loads(said)) for status, asked, said in self.calls if status == 200]

    def statuses(self) -> set[int]:
        return {status for status, _, _ in self.calls}


@contextmanager
def tapped(server: Live) -> Iterator[Wire]:
    """A port that passes everything on to the server, byte by byte, and keeps a copy."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            found = httpx.post(f"{server.url}{self.path}", content=body, headers=headers, timeout=120)
            wire.calls.append((found.status_code, json.loads(body), found.content))
            self.send_response(found.status_code)
            for name in ("content-type", "retry-after"):
                if name in found.headers:
                    self.send_header(name, found.headers[name])
            self.send_header("Content-Length", str(len(found.content)))
            self.end_headers()
            self.wfile.write(found.content)

    tap = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tap.daemon_threads = True
    wire = Wire(f"http://127.0.0.1:{tap.server_address[1]}")
    threading.Thread(target=tap.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield wire
    finally:
        tap.shutdown()
        tap.server_close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers at length, and reads prompts as long as a teacher's."""
    return make_lively_base(tmp_path_factory.mktemp("teacher") / "base", context=4096)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "page.md").write_text(PAGE)
    given = [word for key, value in SETTINGS.items() for word in ("--set", f"synthesize.{key}={value}")]
    assert main(["synthesize", str(folder / "page.md"), "--out", str(folder / "run"), *given]) == 0
    return folder / "page.md", folder / "run"


def taught(prepared: tuple[Path, Path], run: Path, url: str) -> dict[str, Any]:
    """`synthesize` with this teacher, in a copy of the prepared run; what it says of the teacher."""
    if not run.exists():
        shutil.copytree(prepared[1], run)
    given = [word for key, value in SETTINGS.items() for word in ("--set", f"synthesize.{key}={value}")]
    words = ["synthesize", str(prepared[0]), "--out", str(run), "--teacher", f"{url}/v1#little", "--yes", *given]
    assert main(words) == 0
    return dict(read_json(run / "stages" / "examples.json")["summary"]["teacher"])


@dataclass
class Done:
    run: Path
    wire: Wire
    summary: dict[str, Any]
    server: Live


@pytest.fixture(scope="module")
def done(base: Path, prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    run = tmp_path_factory.mktemp("done") / "run"
    with live([f"little={base}"]) as server, tapped(server) as wire:
        yield Done(run, wire, taught(prepared, run, wire.url), server)


def test_our_own_server_is_a_teacher(done: Done, prepared: tuple[Path, Path]) -> None:
    answered = done.wire.answered()
    assert done.wire.statuses() == {200} and len(answered) == done.summary["calls"] >= 4
    assert all(asked["response_format"] == {"type": "json_object"} for asked, _ in answered)
    assert done.summary["accepted"] == 0 and sum(done.summary["rejected"].values()) > 0  # it was never trained
    assert len(rows(done.run)) == len(rows(prepared[1]))  # what the rules made is all there
    before = len(done.wire.calls)
    (done.run / "stages" / "examples.json").unlink()
    assert taught(prepared, done.run, done.wire.url)["accepted"] == 0 and len(done.wire.calls) == before


def test_openais_client_makes_the_same_calls_and_reads_the_same_answers(done: Done) -> None:
    sent: list[dict[str, Any]] = []
    keep = httpx.Client(event_hooks={"request": [lambda request: sent.append(json.loads(request.content))]})
    client = openai.OpenAI(base_url=f"{done.server.url}/v1", api_key="none", max_retries=0, http_client=keep)
    for asked, said in done.wire.answered():
        whole = ChatCompletion.model_validate(said, strict=True)
        again = client.chat.completions.create(**asked)
        assert sent.pop() == asked  # on the wire, to the letter
        assert again.choices[0].message.content == whole.choices[0].message.content
        assert again.usage is not None and whole.usage is not None
        assert again.usage.completion_tokens == whole.usage.completion_tokens > 0


def test_a_full_queue_loses_nothing(done: Done, base: Path, prepared: tuple[Path, Path], tmp_path: Path) -> None:
    with live([f"little={base}"], slots=1, waiting=0) as server, tapped(server) as wire:
        summary = taught(prepared, tmp_path / "run", wire.url)
    assert wire.statuses() == {200, 429}
    assert summary["calls"] == done.summary["calls"] == len(wire.answered())
    assert {name: h for name, h in files(tmp_path / "run").items() if name.endswith(".jsonl")} == {
        name: h for name, h in files(done.run).items() if name.endswith(".jsonl")
    }


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("401", openai.AuthenticationError),
        ("cut", (openai.APIConnectionError, httpx.RemoteProtocolError)),
        ("", None),
    ],
)
def test_the_test_servers_faults_are_faults_to_openais_client(fault: str, error: Any) -> None:
    with Teacher(lambda messages: f"said {messages[-1]['content']}", faults=[fault] if fault else []) as server:
        client = openai.OpenAI(base_url=server.url.partition("#")[0], api_key="none", max_retries=0)
        messages: Any = [{"role": "user", "content": "x"}]
        if error is not None:
            with pytest.raises(error):
                client.chat.completions.create(model="little", messages=messages)
        made = client.chat.completions.create(model="little", messages=messages)
        assert ChatCompletion.model_validate(made.model_dump(), strict=True).choices[0].message.content == "said x"

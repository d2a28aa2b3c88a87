"""`tinyforge mcp`, talked to by the official SDK's client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from retrieve_sample import handbook
from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.pipeline.tools import Tools
from tinyforge.retrieve.index import Index

Call = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    Index.build(folder / "kb", handbook(), RetrieveConfig())  # type: ignore[call-arg]
    run = folder / "lib"
    run.mkdir()
    (run / "run.json").write_text('{"format": 1, "command": "build"}')
    (run / "config.json").write_text("{}")
    (run / "answering.json").write_text('{"variant": "quote", "threshold": 0.3, "passages": 3}')
    Index.build(run / "index", handbook(), RetrieveConfig())  # type: ignore[call-arg]
    make_base(folder / "base")
    rows = [{"input": f"What is {n} and {n}?", "output": f"It is {2 * n}."} for n in range(30)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def over_stdio(root: Path, talk: Callable[[Call, Any], Awaitable[None]]) -> None:
    from mcp import Client, StdioServerParameters

    async def main() -> None:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "tinyforge", "mcp", "--root", str(root)],
            env={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        async with Client(server, read_timeout_seconds=120) as client:

            async def call(name: str, **arguments: Any) -> Any:
                result = await client.call_tool(name, arguments)
                if result.is_error:
                    raise RuntimeError(result.content[0].text)
                found = result.structured_content
                return found["result"] if set(found) == {"result"} else found

            await talk(call, client)

    asyncio.run(main())


def test_search_ask_and_list(root: Path) -> None:
    pytest.importorskip("mcp")

    async def talk(call: Call, client: Any) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "ask", "list_runs", "start_training", "watch_training"}
        assert "exact place" in tools["search"].description
        found = await call("search", indexes=["kb"], question="What does a membership card cost?", passages=2)
        assert found[0]["best"] == ["A membership card costs 12 euros per year."] and len(found) == 2
        reply = await call("ask", run="lib", question="What does a membership card cost?")
        assert reply["answer"] == "A membership card costs 12 euros per year." and not reply["declined"]
        (cited,) = reply["citations"]
        document = handbook()[0]
        assert document.text[cited["start"] : cited["end"]] == cited["text"]
        runs = {run["name"]: run for run in await call("list_runs")}
        assert runs["lib"]["searchable"] and runs["lib"]["command"] == "build" and runs["kb"]["command"] == "index"
        for name, arguments in {
            "search": {"indexes": ["../.."], "question": "x"},
            "ask": {"run": "/etc", "question": "x"},
            "start_training": {"data": "/etc/passwd", "out": "new"},
        }.items():
            with pytest.raises(RuntimeError, match="lies outside"):
                await call(name, **arguments)

    over_stdio(root, talk)


def test_a_training_is_begun_and_watched(root: Path) -> None:
    pytest.importorskip("mcp")

    async def talk(call: Call, client: Any) -> None:
        settings = ["train.max_steps=2", "train.method=full", "train.precision=fp32"]
        begun = await call("start_training", data="rows.jsonl", out="made", base=str(root / "base"), settings=settings)
        assert begun["run"] == "made"
        with pytest.raises(RuntimeError, match="a training is running there"):
            await call("start_training", data="rows.jsonl", out="made", base=str(root / "base"), settings=settings)
        end = time.monotonic() + 120
        while (seen := await call("watch_training", run="made"))["state"] == "running":
            assert time.monotonic() < end
            await asyncio.sleep(0.5)
        assert seen["state"] == "finished", seen["log"]
        assert seen["step"]["step"] >= 1 and "steps in" in seen["log"]

    over_stdio(root, talk)


def test_what_an_assistant_may_not_do(root: Path) -> None:
    tools = Tools(root)
    for setting in (
        *("trust_remote_code=true", "train.teacher=http://elsewhere/v1#m", "train.teacher=/models/large"),
        *("train.replay=/home/somebody/notes.txt", "train.trackers=[wandb]", "evaluate.metrics=[mine.py:score]"),
    ):
        with pytest.raises(InputError, match="cannot be set"):
            tools.start_training("rows.jsonl", "new", settings=[setting])
    with pytest.raises(InputError, match="lies outside"):
        tools.start_training("rows.jsonl", "new", base="/models/large")
    with pytest.raises(InputError, match="unknown option"):
        tools.start_training("rows.jsonl", "new", settings=["train.epoch=1"])
    (root / "out").symlink_to("/etc")
    with pytest.raises(InputError, match="lies outside"):
        tools.ask("out/passwd", "x")
    with pytest.raises(InputError, match="no training was begun"):
        tools.watch_training("nothing")
    assert not (root / "new").exists()

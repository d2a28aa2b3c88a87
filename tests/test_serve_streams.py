"""Many streams at once over several adapters: nothing is lost, crossed or doubled, and each says what it says alone."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import random
import threading
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from little import make_lively_base
from live_server import Live, live, make_adapter

STREAMS, LONG_SECONDS = 32, 600
MODELS = ("base", "one", "two", "three")
PROMPTS, TOKENS = 24, 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("streams")
    base = make_lively_base(folder / "base")
    with live([f"base={base}"], slots=8, waiting=2 * STREAMS, manage_adapters=True) as made:
        for seed, name in enumerate(MODELS[1:]):
            path = make_adapter(base, folder / name, seed)
            body = {"name": name, "base": "base", "path": str(path)}
            assert httpx.post(f"{made.url}/v1/adapters", json=body, timeout=60).status_code == 201
        yield made


def prompt(canary: int) -> str:
    """Of different lengths, each with a number of its own, which no other prompt has."""
    return f"{'Members pay a fee. ' * (canary % 5)}What is loan number {7919 * (canary + 1)}?"


def body(model: str, canary: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt(canary)}]
    options = {"include_usage": True}
    return {"model": model, "messages": messages, "max_tokens": TOKENS, "stream": True, "stream_options": options}


@dataclass
class Heard:
    """One stream as it came."""

    text: str = ""
    finishes: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    written: int = 0
    done: bool = False


def listen(client: httpx.Client, server: Live, model: str, canary: int) -> Heard:
    heard = Heard()
    with client.stream("POST", f"{server.url}/v1/chat/completions", json=body(model, canary)) as answer:
        assert answer.status_code == 200, answer.read()
        for line in answer.iter_lines():
            if not line:
                continue
            assert not heard.done, "something came after the end"
            said = line.removeprefix("data: ")
            if said == "[DONE]":
                heard.done = True
                continue
            event = json.loads(said)
            assert "error" not in event, event
            heard.ids.add(event["id"])
            heard.models.add(event["model"])
            for choice in event["choices"]:
                heard.text += choice["delta"].get("content") or ""
                heard.finishes += [choice["finish_reason"]] if choice["finish_reason"] else []
            heard.written = (event.get("usage") or {}).get("completion_tokens", heard.written)
    return heard


@pytest.fixture(scope="module")
def alone(server: Live) -> dict[tuple[str, int], str]:
    """What each model says to each prompt when nothing else is asked; only what none says to another one."""
    with httpx.Client(timeout=60) as client:
        pairs = [(model, canary) for model in MODELS for canary in range(PROMPTS)]
        said = {pair: listen(client, server, *pair).text for pair in pairs}
    times = Counter(said.values())
    return {pair: text for pair, text in said.items() if times[text] == 1}


def many(server: Live, alone: dict[tuple[str, int], str], seconds: float, least: int) -> int:
    """``STREAMS`` streams at any time for so long, and at least ``least`` from each; how many there were."""
    wrong, ids, end = list[Any](), array("q"), time.monotonic() + seconds  # eight bytes an answer: memory is measured
    lock, engine = threading.Lock(), server.catalogue.engines[0][1]
    before = engine.stats()

    def work(number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=120) as client:
            for turn in itertools.count():
                if turn >= least and time.monotonic() >= end:
                    return
                asked = chance.choice(list(alone))
                try:
                    heard = listen(client, server, *asked)
                except Exception as error:
                    heard = Heard(f"{type(error).__name__}: {error}")
                good = heard.done and heard.finishes == ["length"] and heard.written == TOKENS
                with lock:
                    ids.extend(hash(name) for name in heard.ids)
                    if not good or heard.text != alone[asked] or heard.models != {asked[0]} or len(heard.ids) != 1:
                        wrong.append((asked, heard))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.until_idle()
    after = engine.stats()
    assert wrong == [], (len(wrong), wrong[:2])
    assert len(np.unique(ids)) == len(ids)  # no answer came twice
    assert after.requests - before.requests == len(ids)
    assert (after.cancelled, after.failed) == (before.cancelled, before.failed)
    assert after.tokens - before.tokens == TOKENS * len(ids)
    return len(ids)


def test_what_is_said_alone_tells_prompts_and_models_apart(alone: dict[tuple[str, int], str]) -> None:
    """The control: an answer of another prompt or model would be noticed."""
    assert len(alone) > 0.9 * len(MODELS) * PROMPTS and {model for model, _ in alone} == set(MODELS)


def test_mixed_streams_are_whole_and_their_own(server: Live, alone: dict[tuple[str, int], str]) -> None:
    assert many(server, alone, 0, 3) == 3 * STREAMS


def held() -> int:
    """Bytes of the process without what the allocator only keeps for later: a leak stays."""
    import psutil

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow  # ten minutes
def test_mixed_streams_for_ten_minutes(server: Live, alone: dict[tuple[str, int], str]) -> None:
    many(server, alone, LONG_SECONDS / 20, 1)
    before = held()
    assert many(server, alone, LONG_SECONDS, 1) > 10 * STREAMS
    assert held() - before < 30e6


def test_a_crossed_answer_would_be_found(server: Live, alone: dict[tuple[str, int], str]) -> None:
    one, other = (next(pair for pair in alone if pair[0] == model) for model in ("base", "one"))
    swapped = {one: alone[other], other: alone[one]}
    with pytest.raises(AssertionError):
        many(server, swapped, 0, 1)

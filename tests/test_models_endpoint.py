"""The chat client against a real HTTP server that is busy, fails, cuts its answers off and talks nonsense."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from little import make_base
from teacher_server import Teacher
from tinyforge.errors import InputError
from tinyforge.models import endpoint
from tinyforge.models.calls import Budget, Call, Caller, Store, Usage
from tinyforge.models.endpoint import Endpoint, Local, Options, PassingError, connect, retry_after
from tinyforge.models.structured import extract_json
from tinyforge.models.throttle import DECREASE, START, Throttle
from tinyforge.records import Message


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "calls.sqlite")
    yield opened
    opened.close()


def call(text: str, tokens: int = 100) -> Call:
    return Call((Message("system", "s"), Message("user", text)), "test", Options(tokens))


def echo(messages: list[dict[str, str]]) -> str:
    return f"said {messages[-1]['content']}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Sure!\n```json\n{"a": [1, 2,],}\n```\nHope it helps', {"a": [1, 2]}),
        ('{"items": [{"q": "x"}, {"q": "y"}, {"q": "cut', {"items": [{"q": "x"}, {"q": "y"}]}),
        ('{"a": "line\nbreak"}', {"a": "line\nbreak"}),
        ('{"a": "a } in \\" a string", "b": {}}', {"a": 'a } in " a string', "b": {}}),
        ("{not json} but [1]", [1]),
        ("nothing here", None),
        ("{" * 5000, None),
    ],
)
def test_json_is_found_in_what_models_write(text: str, found: object) -> None:
    assert extract_json(text) == found


def test_nothing_is_lost_to_a_server_that_fails(store: Store) -> None:
    faults = ["429", "500", "cut", "nonsense", "429", "429", "format"] * 2
    with Teacher(echo, faults) as server:
        caller = Caller(connect(server.url), store, Budget(), 4)
        texts = [f"question {n}" for n in range(30)]
        assert caller.ask_all([call(text) for text in texts]) == [f"said {text}" for text in texts]
        assert set(server.paid.values()) == {1} and len(server.paid) == 30 and not server.faults


def test_no_call_is_paid_twice_by_the_same_or_by_another_process(store: Store, tmp_path: Path) -> None:
    with Teacher(echo) as server:
        calls = [call("a"), call("b"), call("a")]
        caller = Caller(connect(server.url), store, Budget(), 4)
        assert caller.ask_all(calls) == ["said a", "said b", "said a"]
        again = Store(tmp_path / "calls.sqlite")
        assert Caller(connect(server.url), again, Budget(), 4).ask_all(calls) == ["said a", "said b", "said a"]
        assert sum(server.paid.values()) == 2
        assert caller.ask_all([call("a", tokens=50)]) == ["said a"]  # other options: another call
        assert sum(server.paid.values()) == 3
        again.close()


def test_a_call_that_will_never_work_ends_it_and_keeps_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Teacher(echo, ["", "", "401"]) as server:
        caller = Caller(connect(server.url), store, Budget(), 1)
        with pytest.raises(InputError, match="status 401") as refused:
            caller.ask_all([call(f"question {n}") for n in range(6)])
        assert server.keys[0] == "Bearer sk-secret" and "sk-secret" not in str(refused.value)
        assert store.usage().calls == 2
        assert len(caller.ask_all([call(f"question {n}") for n in range(6)])) == 6
        assert set(server.paid.values()) == {1}


def test_a_server_that_never_recovers_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    with Teacher(echo, ["nonsense"] * 100) as server:
        with pytest.raises(PassingError, match="not a chat completion"):
            Caller(connect(server.url), store, Budget(), 2).ask_all([call("x"), call("y")])
        with pytest.raises(PassingError):
            connect(server.url)([Message("user", "x")])
    with pytest.raises(PassingError, match="no whole answer"):
        Endpoint("http://127.0.0.1:9/v1", "gone").complete([Message("user", "x")], Options())


@pytest.mark.parametrize(
    ("budget", "asked"), [(Budget(requests=3), 3), (Budget(tokens=360), 3), (Budget(price=0.5, price_out=2000.0), 2)]
)
def test_a_budget_is_kept(budget: Budget, asked: int, store: Store) -> None:
    with Teacher(lambda messages: "x" * 400) as server:  # 100 tokens, the most that a call may take
        caller = Caller(connect(server.url), store, budget, 8)
        answers = caller.ask_all([call(str(n)) for n in range(9)])
        assert [a is not None for a in answers] == [n < asked for n in range(9)]
        assert sum(server.paid.values()) == asked and caller.spent and budget.allows(store.usage())
        assert caller.ask_all([call("0")])[0] is not None  # what was paid can still be read


def test_the_cost_is_worked_by_hand() -> None:
    budget = Budget(price_in=2.0, price_out=8.0)
    assert budget.cost(Usage(1, 500_000, 250_000)) == pytest.approx(1.0 + 2.0)


def test_the_throttle_by_hand() -> None:
    throttle = Throttle(16)
    assert throttle.limit == START
    for _ in range(4):
        throttle.answered()
    assert throttle.limit == 8  # one more for each answer: doubled in one round
    with throttle.slot() as first, throttle.slot() as second:
        throttle.refused(first)
        throttle.refused(second)  # sent before the first refusal was known: counts as the same
    assert throttle.limit == pytest.approx(8 * DECREASE)
    throttle.answered()
    assert throttle.limit == pytest.approx(6.4 + 1 / 6.4)
    for _ in range(1000):
        throttle.answered()
    assert throttle.limit == 16
    for _ in range(100):
        with throttle.slot() as ticket:
            throttle.refused(ticket)
    assert throttle.limit == 1


def test_a_busy_server_is_left_alone_for_as_long_as_it_says() -> None:
    throttle = Throttle(4)
    with throttle.slot() as ticket:
        throttle.refused(ticket, 0.3)
    began = time.monotonic()
    with throttle.slot():
        assert time.monotonic() - began >= 0.29
    assert retry_after({"Retry-After": "7"}) == 7 and retry_after({}) == 0 and retry_after({"Retry-After": "x"}) == 0
    assert retry_after({"Retry-After": "Fri, 31 Dec 2100 23:59:59 GMT"}) > 0


def test_concurrency_finds_what_the_server_allows(store: Store) -> None:
    with Teacher(echo, latency=0.02) as server:
        server.allowed = 5
        caller = Caller(connect(server.url, connections=32), store, Budget(), 32)
        assert None not in caller.ask_all([call(str(n)) for n in range(80)])
        assert set(server.paid.values()) == {1} and server.most > 5


def test_names_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Teacher(echo) as server:
        plain = server.url.partition("#")[0]
        assert connect(plain).name == f"{plain}#little"  # the only model that it serves
        monkeypatch.setenv("OPENAI_BASE_URL", plain)
        opened = connect("openai#other")
        assert isinstance(opened, Endpoint) and opened.model == "other" and opened.url == plain
        assert opened([Message("user", "x")]) == "said x" and opened.usage["calls"] == 1
        assert connect(plain.removesuffix("/v1")).name == f"{plain}#little"
    local = connect(str(make_base(tmp_path / "base")))
    assert isinstance(local, Local) and not local.paid
    first = local.complete([Message("user", "What is a loan?")], Options(max_tokens=8))
    assert first.prompt_tokens > 0 and first == local.complete(
        [Message("user", "What is a loan?")], Options(max_tokens=8)
    )
    with pytest.raises(InputError):
        connect("./no/such/model")
    with pytest.raises(InputError, match="password"):
        connect("http://me:secret@host/v1#m")


def test_an_answer_is_on_the_disk_before_it_is_used(store: Store, tmp_path: Path) -> None:
    with Teacher(echo) as server:
        Caller(connect(server.url), store, Budget(), 1).ask_all([call("x")])
    other = sqlite3.connect(tmp_path / "calls.sqlite")  # another process's view, while the first is still open
    assert other.execute("SELECT purpose, text FROM calls").fetchall() == [("test", "said x")]
    other.close()

"""Schemathesis on the server's own OpenAPI document: no 5xx, no hang, no answer that the document does not know."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from live_server import Live, live, make_all, named

MODELS = ("little", "handbook", "handbook:model", "yesno", "minilm", "nowhere")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with live(named(make_all(tmp_path_factory.mktemp("served")))) as made:
        yield made


@pytest.fixture(scope="module")
def operations(server: Live) -> list[Any]:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return [one.ok() for one in schema.get_all_operations()]


def check_all(operations: list[Any], server: Live, cases: int) -> dict[str, set[int]]:
    """Send ``cases`` requests to each operation, half of them against its schema; the statuses that came."""
    seen: dict[str, set[int]] = {}
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            try:
                strategy = operation.as_strategy(generation_mode=mode)
            except Exception:  # nothing about it could be wrong
                continue
            _run(operation, strategy, server, max(1, cases // 2), seen)
    return seen


def _run(operation: Any, strategy: Any, server: Live, cases: int, seen: dict[str, set[int]]) -> None:
    chance = random.Random(0)

    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body and chance.random() < 0.8:
            case.body["model"] = chance.choice(MODELS)
            for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
                if isinstance(case.body.get(name), int):
                    case.body[name] = min(case.body[name], 8)
        response = case.call(base_url=server.url, timeout=60)
        seen.setdefault(operation.label, set()).add(response.status_code)
        assert response.status_code < 500, (operation.label, case.body, response.text)
        if response.status_code >= 400 and case.method != "HEAD":
            error = response.json()["error"]
            assert error["message"] and error["type"], response.text

    try:
        send()
    except Exception as error:
        if "Unsatisfiable" not in type(error).__name__:
            raise


def test_a_few_dozen_cases_of_each_operation(operations: list[Any], server: Live) -> None:
    seen = check_all(operations, server, 24)
    assert {"POST /v1/chat/completions", "POST /v1/embeddings", "POST /predict", "GET /health"} <= set(seen)
    assert 400 in seen["POST /v1/chat/completions"]
    server.until_idle()


@pytest.mark.slow  # ten minutes
def test_three_hundred_cases_of_each_operation(operations: list[Any], server: Live) -> None:
    seen = check_all(operations, server, 300)
    assert {200, 400, 404} <= seen["POST /v1/chat/completions"]
    server.until_idle()

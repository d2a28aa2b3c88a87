"""Numbers for Prometheus: requests and their times, and what the engines are doing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tinyforge.serve.engines import Engine

_GAUGES = {
    "slots": "Answers of this base that are written at the same time",
    "running": "Answers under way",
    "waiting": "Requests that wait for a slot",
}
_COUNTERS = {
    "requests": "Requests that the engine took",
    "cancelled": "Answers whose client left",
    "failed": "Answers that failed",
    "prompt_tokens": "Tokens of prompts that were read",
    "tokens": "Tokens that were written",
}


class Metrics:
    """A registry of its own for each server, so that several can live in one process."""

    def __init__(self, engines: Callable[[], Iterable[tuple[str, Engine]]]) -> None:
        self._engines = engines
        self.registry = CollectorRegistry()
        self.registry.register(self)
        labels = ["method", "route", "status"]
        self._requests = Counter("tinyforge_http_requests", "HTTP requests", labels, registry=self.registry)
        self._seconds = Histogram(
            "tinyforge_http_request_seconds",
            "From the request to the end of its answer",
            ["route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
            registry=self.registry,
        )
        self._first = Histogram(
            "tinyforge_first_token_seconds",
            "From the request to the first text of its answer",
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        known = method if method in ("GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH") else "other"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def first_text(self, seconds: float) -> None:
        self._first.observe(seconds)

    def collect(self) -> Iterator[Any]:
        """What Prometheus' registry asks of a collector."""
        found = [(name, asdict(engine.stats())) for name, engine in self._engines()]
        for key, text in _GAUGES.items():
            gauge = GaugeMetricFamily(f"tinyforge_engine_{key}", text, labels=["base"])
            for name, stats in found:
                gauge.add_metric([name], stats[key])
            yield gauge
        for key, text in _COUNTERS.items():
            counter = CounterMetricFamily(f"tinyforge_engine_{key}", text, labels=["base"])
            for name, stats in found:
                counter.add_metric([name], stats[key])
            yield counter

    def text(self) -> bytes:
        return generate_latest(self.registry)

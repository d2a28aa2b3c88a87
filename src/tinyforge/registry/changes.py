"""What two runs differ in: configuration, data, base and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinyforge.registry.facts import Facts


def differences(a: Facts, b: Facts) -> dict[str, Any]:
    """Each differing option as ``{key: [a, b]}``; sources added, removed and changed from ``a`` to ``b``; metrics."""
    return {
        "a": a.name,
        "b": b.name,
        "config": _changed(dict(flat(a.config)), dict(flat(b.config))),
        "sources": _sources(dict(map(tuple, a.sources)), dict(map(tuple, b.sources))),  # type: ignore[arg-type]
        "same_data": a.data == b.data,
        "lineage": _changed(_origin(a), _origin(b)),
        "metrics": _metrics(a.metrics, b.metrics),
    }


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """``{"train": {"epochs": 3}}`` as ``("train.epochs", 3)``."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _changed(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: [a.get(key), b.get(key)] for key in keys if a.get(key) != b.get(key)}


def _sources(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "added": sorted(b.keys() - a.keys()),
        "removed": sorted(a.keys() - b.keys()),
        "changed": sorted(name for name in a.keys() & b.keys() if a[name] != b[name]),
    }


def _origin(facts: Facts) -> dict[str, Any]:
    names = ("command", "base", "parent", "artifact", "parameters", "model_bytes")
    return {name: getattr(facts, name) for name in names}


def _metrics(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    for key in sorted(a.keys() | b.keys()):
        before, after = a.get(key), b.get(key)
        change = None if before is None or after is None else after - before
        table[key] = {"a": before, "b": after, "change": change}
    return table

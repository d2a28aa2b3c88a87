"""What a run folder says of itself: lineage by hash, metrics, size, state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.models.resolve import hash_weights
from tinyforge.registry.state import read_state
from tinyforge.run import hash_file, hash_json, read_json, read_jsonl

MODEL_FOLDERS = ("model", "adapter")
ORIGIN = "origin.json"
"""Written by quantize, prune and distill: the command and the artifact that it started from."""
_SUMMARIES = (
    "run.json",
    "config.json",
    "base.json",
    ORIGIN,
    "state.json",
    "train.json",
    "report.json",
    "compress.json",
)


@dataclass(frozen=True)
class Facts:
    """One run. ``name`` is its folder relative to the searched one.

    ``sources`` are (name, content id) of the documents read, ``data`` the hash of the rows learned from, ``base`` and
    ``parent`` the hashes of the weights it started from, ``artifact`` that of its own; empty where there is none.
    """

    name: str
    command: str
    created: str
    finished: bool
    state: str
    note: str
    replaced: bool
    sources: list[list[str]]
    data: str
    base_name: str
    base: str
    parent_name: str
    parent: str
    artifact: str
    parameters: int
    model_bytes: int
    bytes: int
    metrics: dict[str, float]
    config: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_runs(root: Path) -> list[Path]:
    """Run folders at or below ``root``, in order; hidden folders and what lies inside a run are not searched.

    A sweep is no run to use but holds some, and is searched. Raises InputError when there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder.", "Give --root the folder that holds your runs.")
    return list(_below(root))


def _below(folder: Path) -> Iterator[Path]:
    marker = folder / "run.json"
    if marker.is_file() and _command(marker) != "sweep":
        yield folder
        return
    try:
        inside = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    except PermissionError:
        return
    for path in map(Path, inside):
        if not path.name.startswith("."):
            yield from _below(path)


def _command(marker: Path) -> str:
    found = read_json(marker)
    return str(found.get("command", "")) if isinstance(found, dict) else ""


def stamp(folder: Path) -> str:
    """Changes whenever something that :func:`read_facts` reads has changed."""
    read = [folder / name for name in _SUMMARIES]
    for name in (*MODEL_FOLDERS, "stages", "dataset"):
        read += sorted((folder / name).glob("*"))
    seen = [(str(p.relative_to(folder)), p.stat().st_mtime_ns, p.stat().st_size) for p in read if p.is_file()]
    return hash_json(seen)


def read_facts(folder: Path, name: str) -> Facts:
    """Raises InputError when one of the run's own files is not readable."""
    command = _command(folder / "run.json")
    base, origin = _optional(folder / "base.json"), _optional(folder / ORIGIN)
    model = next((folder / part for part in MODEL_FOLDERS if (folder / part).is_dir()), None)
    artifact = hash_weights(model) if model else ""
    state = read_state(folder)
    return Facts(
        name=name,
        command=command,
        created=_created(folder),
        finished=_finished(folder, command, model),
        state=state.state,
        note=state.note,
        replaced=bool(state.artifact) and state.artifact != artifact,
        sources=_sources(folder / "documents.jsonl"),
        data=_hash_or_none(folder / "dataset" / "train.jsonl"),
        base_name=str(base.get("name", "")),
        base=str(base.get("hash", "")),
        parent_name=str(origin.get("name", "")),
        parent=str(origin.get("hash", "")),
        artifact=artifact,
        parameters=_parameters(folder),
        model_bytes=_bytes(model) if model else 0,
        bytes=_bytes(folder),
        metrics=_metrics(folder),
        config=_optional(folder / "config.json"),
    )


def _optional(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise InputError(f"{path}: is not a JSON object.", "Restore the file, or make the run again.")
    return found


def _created(folder: Path) -> str:
    """When run.json was written; a run that a later command continues keeps its first event."""
    seconds = (folder / "run.json").stat().st_mtime
    events = folder / "events.jsonl"
    if events.is_file():
        first = next(iter(_events(events)), {})
        seconds = min(seconds, float(first.get("time", seconds)))
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _events(path: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from read_jsonl(path)
    except InputError:  # a line that a kill cut off; the runs' own reader leaves it out as well
        return


_LAST = {"build": "evaluate", "ingest": "documents", "quantize": "quantize", "prune": "prune", "distill": "distill"}


def _finished(folder: Path, command: str, model: Path | None) -> bool:
    if command in _LAST:
        return (folder / "stages" / f"{_LAST[command]}.json").is_file()
    return model is not None


def _sources(path: Path) -> list[list[str]]:
    return [[str(row["source"]), str(row["id"])] for row in read_jsonl(path)] if path.is_file() else []


def _hash_or_none(path: Path) -> str:
    return hash_file(path) if path.is_file() else ""


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _parameters(folder: Path) -> int:
    for path, keys in ((folder / "compress.json", ("parameters",)), (folder / "train.json", ("parameters",))):
        found = _at(_optional(path), keys)
        if found:
            return int(found)
    return int(_at(_optional(folder / "stages" / "train.json"), ("summary", "parameters")) or 0)


def _at(data: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _metrics(folder: Path) -> dict[str, float]:
    """Every figure of the summaries that compares runs, by a name such as ``wordings.tuned.token_f1``."""
    found: dict[str, float] = {}
    report = _optional(folder / "report.json")
    for name, variants in (report.get("scores") or {}).items():
        for variant, scores in variants.items():
            found |= {f"{name}.{variant}.{metric}": score["value"] for metric, score in scores.items()}
    train = _optional(folder / "stages" / "train.json").get("summary") or _optional(folder / "train.json")
    for key in ("dev_loss", "train_seconds", "steps", "tokens"):
        if isinstance(train.get(key), int | float):
            found[key] = train[key]
    compressed = _optional(folder / "compress.json")
    for key, value in (compressed.get("measured") or {}).items():
        if isinstance(value, int | float):
            found[key] = value
    return {key: float(value) for key, value in found.items()}

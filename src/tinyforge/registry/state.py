"""Whether a run may be used: draft, candidate, released or retired; kept in the run's own state.json."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.run import read_json, write_json

STATES = ("draft", "candidate", "released", "retired")
FILE = "state.json"


@dataclass(frozen=True)
class State:
    """``artifact`` is the hash of the weights that were tagged: with others, the tag no longer speaks of them."""

    state: str = "draft"
    note: str = ""
    artifact: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)


def read_state(folder: Path) -> State:
    """A run that was never tagged is a draft. Raises InputError for a state that is none."""
    path = folder / FILE
    if not path.is_file():
        return State()
    found = read_json(path)
    if not isinstance(found, dict) or found.get("state") not in STATES:
        raise InputError(f"{path}: holds no state.", f"Known states: {', '.join(STATES)}.")
    return State(found["state"], str(found.get("note", "")), str(found.get("artifact", "")), found.get("history", []))


def write_state(folder: Path, state: str, note: str, artifact: str) -> State:
    """Tag the run; what it was before stays in the history."""
    before = read_state(folder)
    moved = {"time": round(time.time(), 3), "from": before.state, "to": state, "note": note, "artifact": artifact}
    tagged = State(state, note, artifact, [*before.history, moved])
    write_json(folder / FILE, asdict(tagged))
    return tagged

"""What was measured against its targets: one line of a benchmark, and how every benchmark with targets ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyforge.environment import machine, versions
from tinyforge.run import write_json

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Line:
    """One measurement: at most ``target`` is wanted, or at least, where ``more`` is better."""

    name: str
    value: float
    unit: str
    target: float
    more: bool = False

    @property
    def ratio(self) -> float:
        return self.value / self.target if self.target else self.value

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.more else self.value <= self.target


def show(lines: Sequence[Line]) -> None:
    print(f"{'':<32} {'measured':>12} {'target':>12}")
    for line in lines:
        bound = "≥" if line.more else "≤"
        target, value = f"{bound} {line.target:g} {line.unit}", f"{line.value:.3g} {line.unit}"
        print(f"{line.name:<32} {value:>12} {target:>12}  {'met' if line.met else 'MISSED'}")


def finish(lines: Sequence[Line], out: Path | None, **found: Any) -> int:
    """Show the lines and write them with all else that was ``found`` to ``out``; the exit code: 3 for a missed target.

    ``ratios`` holds value / target, ``machine`` and ``versions`` where it was measured.
    """
    show(lines)
    if out is not None:
        result = {
            "ratios": {line.name: round(line.ratio, 4) for line in lines},
            "lines": [{**asdict(line), "met": line.met} for line in lines],
            **found,
            "machine": machine(),
            "versions": versions(),
        }
        write_json(out, result)
        print(f"wrote {out}")
    return 0 if all(line.met for line in lines) else 3

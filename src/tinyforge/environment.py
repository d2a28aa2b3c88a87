"""The machine and the installed versions behind a result, so that a number can be read in its place."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTION = "tinyforgeai"
LAUNCHER = "TINYFORGE_LAUNCHER"
"""The variable that tells a worker the process id of the `tinyforge` that started it; under torchrun it is not set."""


@dataclass(frozen=True)
class Worker:
    """This process among those that work on one command: of all machines, and of this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def worker() -> Worker:
    """What the launcher (torchrun, or `tinyforge --processes N`) has set; without one, the only worker."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in (*names, "MASTER_ADDR", "MASTER_PORT")):
        return Worker()
    return Worker(*(int(os.environ[name]) for name in names))


def machine() -> dict[str, Any]:
    """The processor, the cores this process may use, memory in GB (1e9 bytes), the system and the Python."""
    import psutil

    return {
        "cpu": _processor(),
        "cores": cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def cores() -> int:
    """How many cores this process may use, which in a container is often fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can still be taken: what the system has, or less where a container's limit is nearer."""
    import psutil

    found = int(psutil.virtual_memory().available)
    for folder in _memory_groups():
        # Pages of files that were read are given back before a limit is met.
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        if limit is None:  # the older interface
            limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            found = min(found, limit - used + _idle_files(folder / "memory.stat"))
    return max(0, found)


def _memory_groups() -> Iterator[Path]:
    """The folders of the control groups that limit this process's memory, from its own up to the root's."""
    listing = Path("/proc/self/cgroup")
    for line in listing.read_text().splitlines() if listing.is_file() else []:
        _, kinds, path = line.split(":", 2)
        if kinds and "memory" not in kinds.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if kinds else "/sys/fs/cgroup")
        own = root / path.lstrip("/")
        yield from (own, *(parent for parent in own.parents if parent.is_relative_to(root)))


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _idle_files(path: Path) -> int:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    return next((int(line[1]) for line in lines if line[0] in ("inactive_file", "total_inactive_file")), 0)


def versions() -> dict[str, str]:
    """The installed version of TinyForge and of everything it declares, read without importing any of it."""
    found = {"python": platform.python_version(), "tinyforge": metadata.version(DISTRIBUTION)}
    for name in sorted(_declared()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _declared() -> Iterator[str]:
    for requirement in metadata.requires(DISTRIBUTION) or []:
        if "extra ==" not in requirement:
            yield re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def _processor() -> str:
    """The name that the system gives the processor; on Linux ``platform`` knows only its architecture."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def clock(seconds: float) -> str:
    """A duration as minutes and seconds, and hours where there are any."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

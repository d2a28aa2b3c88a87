"""What this machine can do, by measuring it."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import torch

from tinyforge.environment import cores
from tinyforge.run import read_json, write_json


def matrix_rates(dtypes: tuple[torch.dtype, ...], size: int = 512, rounds: int = 40) -> list[float]:
    """Floating-point operations per second of a square matrix product in each dtype, the best of many short rounds.

    The dtypes take turns and a round lasts milliseconds, so that other work on the machine disturbs all alike.
    """
    generator = torch.Generator().manual_seed(0)  # its own: a training that is measured must not draw other numbers
    matrices = [torch.randn(size, size, generator=generator).to(dtype) for dtype in dtypes]
    best = [float("inf")] * len(dtypes)
    for _ in range(rounds):
        for place, matrix in enumerate(matrices):
            began = time.perf_counter()
            matrix @ matrix
            best[place] = min(best[place], time.perf_counter() - began)
    return [2 * size**3 / seconds for seconds in best]


def choose_precision(wanted: str) -> str:
    """``fp32`` or ``bf16``: what was asked for, or for ``auto`` bf16 where it measures at least 1.3 times faster.

    A CPU without bf16 instructions emulates them at a fraction of the fp32 rate, so this is probed, not assumed.
    """
    if wanted != "auto":
        return wanted
    bf16, fp32 = matrix_rates((torch.bfloat16, torch.float32))
    return "bf16" if bf16 > 1.3 * fp32 else "fp32"


def settle_precision(folder: Path, wanted: str) -> str:
    """:func:`choose_precision` once for a run: the first answer is kept in the folder and given from then on.

    A probe on a busy machine may come out differently, and a run that continues must not change its arithmetic.
    """
    path = folder / "precision.json"
    kept = read_json(path) if path.is_file() else {}
    if wanted not in kept:
        kept[wanted] = choose_precision(wanted)
        write_json(path, kept)
    return str(kept[wanted])


def torch_dtype(precision: str) -> torch.dtype:
    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def release_memory() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    Batches of ever different shapes leave its heap full of holes, and a long training would seem to leak.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def set_threads(threads: int) -> int:
    """Use this many CPU threads (0: every core this process may use); returns the number."""
    count = threads or cores()
    torch.set_num_threads(count)
    return count

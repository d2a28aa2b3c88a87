"""What this machine can do, by measuring it."""

from __future__ import annotations

import ctypes
import sys
import time

import torch


def matrix_rate(dtype: torch.dtype, size: int = 1024, repeats: int = 6) -> float:
    """Floating-point operations per second of a square matrix product, the best of a few."""
    a = torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def choose_precision(wanted: str) -> str:
    """``fp32`` or ``bf16``: what was asked for, or for ``auto`` bf16 where it measures at least 1.3 times faster.

    A CPU without bf16 instructions emulates them at a fraction of the fp32 rate, so this is probed, not assumed.
    """
    if wanted != "auto":
        return wanted
    return "bf16" if matrix_rate(torch.bfloat16) > 1.3 * matrix_rate(torch.float32) else "fp32"


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
    import os

    count = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or 1
    torch.set_num_threads(count)
    return count

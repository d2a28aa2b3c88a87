"""Several test processes share the machine: each computes with its share of the cores."""

from __future__ import annotations

import os

from tinyforge.environment import cores

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:  # before torch is imported anywhere; commands that tests start inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // _WORKERS)))

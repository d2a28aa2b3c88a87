"""Several test processes share the machine: each computes with its share of the cores. Fixtures that several use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tinyforge.cli import _ENVIRONMENT
from tinyforge.environment import cores

_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:  # before torch is imported anywhere; commands that tests start inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // _WORKERS)))
os.environ.setdefault("GOMP_SPINCOUNT", _ENVIRONMENT["GOMP_SPINCOUNT"])  # read when torch is loaded


def pytest_make_parametrize_id(val: Any, argname: str) -> str | None:
    """Bytes are called by their argument: a compressed file holds the time, and the workers must collect the same."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little decoder with its tokenizer; a file of tests that needs another has its own."""
    from little import make_base

    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)

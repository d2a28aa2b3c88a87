"""The precision of a run is probed once, and never changes while the run lasts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tinyforge.environment import cores
from tinyforge.models import machine
from tinyforge.models.machine import set_threads


def rates(bf16: float, fp32: float) -> object:
    return lambda dtypes: [{torch.bfloat16: bf16, torch.float32: fp32}[dtype] for dtype in dtypes]


def test_bf16_only_where_it_measures_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "matrix_rates", rates(1.4, 1.0))
    assert machine.choose_precision("auto") == "bf16"
    monkeypatch.setattr(machine, "matrix_rates", rates(1.2, 1.0))
    assert machine.choose_precision("auto") == "fp32"
    assert machine.choose_precision("bf16") == "bf16"


def test_the_first_answer_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "matrix_rates", rates(2.0, 1.0))
    assert machine.settle_precision(tmp_path, "auto") == "bf16"
    monkeypatch.setattr(machine, "matrix_rates", rates(0.5, 1.0))
    assert machine.settle_precision(tmp_path, "auto") == "bf16"
    assert machine.settle_precision(tmp_path, "fp32") == "fp32"
    assert machine.choose_precision("auto") == "fp32", "the control: without the folder the probe decides anew"


def test_a_rate_is_a_rate() -> None:
    assert all(1e8 < rate < 1e15 for rate in machine.matrix_rates((torch.float32,), rounds=3))


def test_threads_follow_what_the_person_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        assert (set_threads(0), torch.get_num_threads()) == (1, 1)
        assert (set_threads(2), torch.get_num_threads()) == (2, 2)
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert (set_threads(0), torch.get_num_threads()) == (cores(), cores())
        for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", "1")
        monkeypatch.setenv("OMP_NUM_THREADS", "7")  # torchrun's own
        assert set_threads(0) == cores() and torch.get_num_threads() == max(1, cores() // 2)
    finally:
        torch.set_num_threads(before)

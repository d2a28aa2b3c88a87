"""The temperature that makes a classifier's confidence its accuracy: worked by hand, and recovered."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tinyforge.models.calibrate import Calibration, calibrate, expected_calibration_error, fit_temperature


def test_temperature_by_hand() -> None:
    """Four rows that say 2 : 0, of which three are right: softmax(2 / T) must be 3/4, so T = 2 / ln 3.

    Before, the confidence is 1 / (1 + e^-2) = 0.8808 at an accuracy of 0.75; after, it is 0.75.
    """
    logits, classes = torch.tensor([[2.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(logits, classes) == pytest.approx(2 / math.log(3), rel=1e-9)
    found = calibrate(logits, classes)
    assert found.error_before == pytest.approx(1 / (1 + math.exp(-2)) - 0.75) and found.error_after < 1e-9
    assert fit_temperature(3 * logits, classes) == pytest.approx(6 / math.log(3), rel=1e-9)


def test_calibration_error_by_hand() -> None:
    """Confidences 0.9, 0.9 (one right) and 0.6 (right): (|1.8 - 1| + |0.6 - 1|) / 3 = 0.4."""
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    assert expected_calibration_error(probabilities, torch.tensor([0, 1, 1])) == pytest.approx(0.4)
    one_bin = expected_calibration_error(probabilities, torch.tensor([0, 1, 1]), bins=1)
    assert one_bin == pytest.approx(abs(2.4 - 2) / 3), "the control: in one bin the errors cancel"


def test_calibration_recovers_a_known_temperature(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20000, 4, generator=generator)
    classes = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    found = calibrate(logits * 3, classes)
    assert found.temperature == pytest.approx(3, rel=0.05) and found.error_after < 0.02 < found.error_before
    found.save(tmp_path)
    assert Calibration.load(tmp_path) == found and Calibration.load(tmp_path / "none") is None


def test_rows_that_determine_no_temperature() -> None:
    right = calibrate(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]))
    assert right.temperature == 1 and "every dev row is answered right" in right.note
    none = calibrate(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    assert none.temperature == 1 and none.rows == 0 and "no dev rows" in none.note

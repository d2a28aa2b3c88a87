"""Probabilities that mean what they say: one temperature for all logits (Guo et al. 2017, arXiv:1706.04599).

Legend: N rows, C classes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from tinyforge.run import read_json, write_json

FILE = "calibration.json"
BINS = 15  # as in the paper
COLDEST, HOTTEST = 0.05, 20.0


@dataclass(frozen=True)
class Calibration:
    """``temperature`` divides the logits. The expected calibration errors are of the ``rows`` that it was fitted on."""

    temperature: float
    rows: int
    error_before: float
    error_after: float
    note: str = ""

    def save(self, folder: Path) -> None:
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Calibration | None:
        """What :meth:`save` wrote, or None when the model was never calibrated."""
        return cls(**read_json(folder / FILE)) if (folder / FILE).is_file() else None


def calibrate(logits_NC: Tensor, classes_N: Tensor) -> Calibration:
    """Fit the temperature on rows that were not trained on, and measure the calibration error before and after.

    It stays 1, with a note that says why, when the rows do not determine one.
    """
    rows = len(classes_N)
    if rows == 0:
        return Calibration(1.0, 0, 0.0, 0.0, "not calibrated: there are no dev rows")
    logits_NC = logits_NC.double()
    before = expected_calibration_error(logits_NC.softmax(-1), classes_N)
    if bool((logits_NC.argmax(-1) == classes_N).all()):
        note = "not calibrated: every dev row is answered right, so any temperature could be too high"
        return Calibration(1.0, rows, before, before, note)
    temperature = fit_temperature(logits_NC, classes_N)
    after = expected_calibration_error((logits_NC / temperature).softmax(-1), classes_N)
    return Calibration(temperature, rows, before, after)


def fit_temperature(logits_NC: Tensor, classes_N: Tensor) -> float:
    """The temperature in [0.05, 20] with the least cross-entropy.

    In b = 1 / temperature the cross-entropy is convex, with the slope ``mean(E_p[z] - z_class)`` under
    ``p = softmax(b z)``, so halving the interval finds its zero.
    """
    logits_NC = logits_NC.double()
    wanted_N = logits_NC.gather(1, classes_N[:, None]).squeeze(1)
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        expected_N = ((middle * logits_NC).softmax(-1) * logits_NC).sum(-1)
        if float((expected_N - wanted_N).mean()) > 0:
            high = middle
        else:
            low = middle
    return 2 / (low + high)


def expected_calibration_error(probabilities_NC: Tensor, classes_N: Tensor, bins: int = BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width in the confidence, weighted by rows."""
    confidence_N, chosen_N = probabilities_NC.double().max(-1)
    right_N = (chosen_N == classes_N).double()
    bin_N = (confidence_N * bins).ceil().long().clamp(1, bins)
    gap = 0.0
    for number in torch.unique(bin_N):
        inside = bin_N == number
        gap += float((confidence_N[inside].sum() - right_N[inside].sum()).abs())
    return gap / len(classes_N)

"""How far an artifact may be from its source, by the number of bits that a weight keeps. The one place where it says.

Measured on the tuned demo of the embedded base (bench/export.py) and on tiny models of every family
(tests/test_export_*.py); each limit leaves at least a few times what was seen, and every planted fault of the tests
(swapped tensor, wrong RoPE base, broken template, missing stop) is far outside.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Threshold:
    """Limits. ``log_probability`` is the largest difference of any token's; None where rounding makes it meaningless.

    ``mean_kl`` and ``max_kl`` are KL(source, artifact) in nats over the places of all answers. ``agreement`` is the
    least share of places with the same likeliest token, of those where the source prefers its own by more than 10%
    (nearer to a tie, rounding decides). ``metric_loss`` is the most token F1 (or accuracy) that may be lost, relative
    to the source; more fails only where the paired 95% interval excludes less, as two dozen questions cannot tell.
    """

    log_probability: float | None
    mean_kl: float
    max_kl: float
    agreement: float
    metric_loss: float
    why: str


THRESHOLDS = {
    "32": Threshold(1e-4, 1e-7, 1e-6, 1.0, 0.0, "the same numbers; only the order of sums may differ"),
    "table": Threshold(5e-3, 1e-6, 1e-5, 1.0, 0.01, "llama.cpp looks GELU up in a half-precision table"),
    "16": Threshold(None, 2e-3, 5e-2, 0.98, 0.01, "bf16 keeps 8 bits of a weight's precision, fp16 11"),
    "8": Threshold(None, 1e-2, 2e-1, 0.97, 0.01, "8 bits round a weight by at most 0.4% of its block's largest"),
    "6": Threshold(None, 2e-2, 5e-1, 0.95, 0.02, "6 bits round by at most 2%"),
    "5": Threshold(None, 5e-2, 1.0, 0.93, 0.03, "5 bits round by at most 3%"),
    "4": Threshold(None, 2e-1, 2.5, 0.85, 0.03, "4 bits round by at most 7%; the project's bound is 3% of token F1"),
}
BITS = {
    "fp32": "32",
    "f32": "32",
    "peft": "32",
    "bf16": "16",
    "fp16": "16",
    "f16": "16",
    "q8_0": "8",
    "int8": "8",
    "q6_k": "6",
    "q5_k_m": "5",
    "q5_0": "5",
    "q5_1": "5",
    "q4_k_m": "4",
    "q4_0": "4",
    "q4_1": "4",
    "int4": "4",
}
"""The row of the table for each ``--type``."""


def threshold(kind: str, gelu_table: bool = False) -> Threshold:
    """The limits for a ``--type``; ``gelu_table`` for llama.cpp with a GELU in the model."""
    bits = BITS[kind]
    return THRESHOLDS["table" if gelu_table and bits == "32" else bits]

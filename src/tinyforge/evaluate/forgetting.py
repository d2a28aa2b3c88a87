"""What a model could do before its fine-tuning and cannot do any more: the same probes before and after, paired.

general       bits per byte of general text, measured around the training (train/guard.py)
questions     token F1 on questions about general texts that stand in the prompt
instructions  share of instructions followed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tinyforge.evaluate.bootstrap import Array
from tinyforge.evaluate.compare import mean_scores, paired_difference
from tinyforge.evaluate.metrics import token_f1
from tinyforge.evaluate.probes import INSTRUCTIONS, general_questions
from tinyforge.records import Score

FLOOR = 0.1  # a base below this has too little of it for a loss to show
FORGOTTEN = 0.05  # more bits per byte than before, as a share
KINDS = ("questions", "instructions")
Given = Mapping[str, Sequence[str]]  # an answer to each probe, by kind


def forgetting(
    general: Mapping[str, Any] | None, before: Given, after: Given, *, resamples: int, seed: int
) -> dict[str, Any]:
    """The figures for the report; ``general`` is what the guard of the training found, None where it was off.

    Each kind has ``before`` and ``after`` with intervals, their paired ``difference``, and ``rows`` with both answers.
    """
    found: dict[str, Any] = {"general": dict(general) if general else None}
    settings: Any = {"resamples": resamples, "seed": seed}
    for kind in KINDS:
        asked, clusters = _asked(kind)
        a, b = _marks(kind, before[kind]), _marks(kind, after[kind])
        scores = mean_scores(np.stack([a, b], axis=1), clusters, **settings)
        found[kind] = {
            "before": asdict(scores[0]),
            "after": asdict(scores[1]),
            "difference": asdict(paired_difference(b, a, clusters, **settings)),
            "rows": [
                {
                    "prompt": prompt,
                    "wanted": wanted,
                    "before": {"text": before[kind][i], "score": float(a[i])},
                    "after": {"text": after[kind][i], "score": float(b[i])},
                }
                for i, (prompt, wanted) in enumerate(asked)
            ],
        }
    return found


def _asked(kind: str) -> tuple[list[tuple[str, str]], list[str]]:
    """What is asked and wanted, and the clusters: questions on one text stand or fall together."""
    if kind == "instructions":
        return [(i.prompt, i.wanted) for i in INSTRUCTIONS], [i.prompt for i in INSTRUCTIONS]
    examples = [example for _, example in general_questions()]
    shown = [(e.question.rpartition("Question: ")[2], e.answer) for e in examples]
    return shown, [e.fact for e in examples]


def _marks(kind: str, answers: Sequence[str]) -> Array:
    if kind == "instructions":
        return np.array([float(i.check(text)) for i, text in zip(INSTRUCTIONS, answers, strict=True)])
    return np.array([token_f1(text, e) for (_, e), text in zip(general_questions(), answers, strict=True)])


def sentences(found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What was forgotten, and what else was measured, each as a sentence.

    A difference counts as forgetting when its interval lies below 0; bits per byte, of which there is one number for
    each model, when they rise by more than FORGOTTEN.
    """
    lost: list[str] = []
    kept: list[str] = []
    if found["general"]:
        text, worse = _general(found["general"])
        (lost if worse else kept).append(text)
    for kind in KINDS:
        text, worse = _kind(kind, found[kind])
        (lost if worse else kept).append(text)
    return lost, kept


def _general(general: Mapping[str, float]) -> tuple[str, bool]:
    before, after, change = (general[name] for name in ("before", "after", "change"))
    direction = "more" if change > 0 else "fewer"
    text = f"general text takes {abs(change):.0%} {direction} bits per byte ({before:.2f} before, {after:.2f} after)"
    return text, change > FORGOTTEN


_SHOWN = {
    "questions": "on general questions with their text, token F1 went from {before:.2f} to {after:.2f}",
    "instructions": "of simple instructions it followed {before:.0%} before and {after:.0%} after",
}


def _kind(kind: str, measured: Mapping[str, Mapping[str, float]]) -> tuple[str, bool]:
    change = Score(**measured["difference"])  # type: ignore[arg-type]
    text = _SHOWN[kind].format(before=measured["before"]["value"], after=measured["after"]["value"])
    if measured["before"]["value"] < FLOOR:
        return f"{text}, and who can hardly do it has little to lose", False
    return f"{text} ({change.value:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f})", change.high < 0

"""A model as judge of answers: pairs in both orders, and a rubric with reasons. Never the only evidence.

A judge prefers what stands first, what is long, and what it would have said itself (Zheng et al. 2023, "Judging
LLM-as-a-Judge", arXiv:2306.05685, section 3.3). So each pair is shown in both orders, and a preference that changes
with the order is none; each rubric is put twice, its criteria in both orders. How often the judge agrees with itself
is part of every result, as is how often its reply could not be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tinyforge.evaluate.votes import FIRST, SECOND, TIE, tally, wilson
from tinyforge.records import Complete, Message

CRITERIA: dict[str, str] = {
    "correct": "what it says is true, and agrees with the reference where there is one",
    "complete": "it answers all of the question",
    "brief": "it says nothing that was not asked for",
}
LOWEST, HIGHEST = 1, 5
SWAYED, UNREADABLE = "swayed", "unreadable"
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
_WINNER = re.compile(r"winner\W{1,6}(1|2|tie)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preference:
    """``outcome``: first, second or tie; swayed where it changed with the order; unreadable where a reply was.

    ``places`` holds which place won in either order ("1", "2" or "tie"; "" where it could not be read).
    """

    outcome: str
    places: tuple[str, str]
    reasons: tuple[str, str]


def prefer(judge: Complete, question: str, first: str, second: str, reference: str = "") -> Preference:
    """Which of two answers the judge finds better; asked in both orders."""
    replies = [_pair(judge, question, one, other, reference) for one, other in ((first, second), (second, first))]
    (place, reason), (swapped, other_reason) = replies
    names = {"1": FIRST, "2": SECOND, "tie": TIE}, {"1": SECOND, "2": FIRST, "tie": TIE}
    if not place or not swapped:
        outcome = UNREADABLE
    else:
        outcome = names[0][place] if names[0][place] == names[1][swapped] else SWAYED
    return Preference(outcome, (place, swapped), (reason, other_reason))


def _pair(judge: Complete, question: str, one: str, other: str, reference: str) -> tuple[str, str]:
    """Which place won ("" where that cannot be read), and the reason given."""
    text = "\n\n".join(
        [
            "Compare two answers to a question. Judge what they say: not how long they are, nor which comes first.",
            f"Question:\n{question}",
            *([f"Reference, which is right:\n{reference}"] if reference else []),
            f"Answer 1:\n{one or '(nothing)'}",
            f"Answer 2:\n{other or '(nothing)'}",
            'Reply with JSON alone: {"reason": "one sentence", "winner": "1"} or "2" or "tie".',
        ]
    )
    reply = judge([Message("user", text)])
    found = _read(reply)
    winner = str(found.get("winner", "")).strip().lower()
    if winner not in ("1", "2", "tie"):
        matched = _WINNER.search(reply)
        winner = matched[1].lower() if matched else ""
    return winner, str(found.get("reason", ""))


def _read(reply: str) -> dict[str, Any]:
    """The JSON object in a reply; empty where there is none."""
    matched = _OBJECT.search(reply)
    try:
        found = json.loads(matched[0]) if matched else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Grade:
    """A criterion's two scores (None where a reply could not be read) and the reasons given."""

    scores: tuple[int | None, int | None]
    reasons: tuple[str, str]


def grade(
    judge: Complete, question: str, answer: str, reference: str = "", criteria: Mapping[str, str] | None = None
) -> dict[str, Grade]:
    """Each criterion's scores from LOWEST to HIGHEST, asked for twice, with the criteria in both orders."""
    wanted = dict(criteria or CRITERIA)
    names = list(wanted)
    one, other = (_scores(judge, question, answer, reference, wanted, order) for order in (names, names[::-1]))
    return {name: Grade((one[name][0], other[name][0]), (one[name][1], other[name][1])) for name in names}


def _scores(
    judge: Complete, question: str, answer: str, reference: str, criteria: Mapping[str, str], order: Sequence[str]
) -> dict[str, tuple[int | None, str]]:
    listed = "\n".join(f"- {name}: {criteria[name]}" for name in order)
    shape = ", ".join(f'"{name}": {{"reason": "one sentence", "score": {HIGHEST}}}' for name in order)
    text = "\n\n".join(
        [
            f"Grade an answer to a question, from {LOWEST} (not at all) to {HIGHEST} (fully), by each of:\n{listed}",
            f"Question:\n{question}",
            *([f"Reference, which is right:\n{reference}"] if reference else []),
            f"Answer:\n{answer or '(nothing)'}",
            f"Reply with JSON alone: {{{shape}}}",
        ]
    )
    found = _read(judge([Message("user", text)]))
    return {name: _score(found.get(name)) for name in order}


def _score(given: Any) -> tuple[int | None, str]:
    if not isinstance(given, dict):
        return None, ""
    score, reason = given.get("score"), str(given.get("reason", ""))
    readable = isinstance(score, int) and not isinstance(score, bool) and LOWEST <= score <= HIGHEST
    return (score if readable else None), reason


def summarise_pairs(found: Sequence[Preference]) -> dict[str, Any]:
    """The votes that did not change with the order, and what else has to be known of the judge.

    ``self_agreement``: share of the readable pairs that it decided alike in both orders. ``first_place``: share of all
    its decided replies in which the answer that stood first won; a judge without bias is near one half.
    """
    counted = tally(p.outcome for p in found)
    readable = [p for p in found if p.outcome != UNREADABLE]
    swayed = sum(p.outcome == SWAYED for p in found)
    places = [place for p in found for place in p.places if place in ("1", "2")]
    return {
        **counted,
        "pairs": len(found),
        SWAYED: swayed,
        UNREADABLE: len(found) - len(readable),
        "self_agreement": asdict(wilson(len(readable) - swayed, len(readable))) if readable else None,
        "first_place": asdict(wilson(places.count("1"), len(places))) if places else None,
    }


def summarise_grades(found: Sequence[Mapping[str, Grade]]) -> dict[str, Any]:
    """For each criterion the mean score, how often both orders gave the same, and how many could not be read."""
    result: dict[str, Any] = {}
    for name in found[0] if found else ():
        both = [g.scores for row in found if None not in (g := row[name]).scores]
        scores = [score for pair in both for score in pair if score is not None]
        result[name] = {
            "mean": fmean(scores) if scores else None,
            "n": len(both),
            "self_agreement": asdict(wilson(sum(a == b for a, b in both), len(both))) if both else None,
            UNREADABLE: len(found) - len(both),
        }
    return result

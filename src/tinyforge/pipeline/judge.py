"""Let a model judge two contenders, with their scores beside what it says: `tinyforge judge`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.evaluate.judges import CRITERIA, Grade, Preference, grade, prefer, summarise_grades, summarise_pairs
from tinyforge.evaluate.metrics import token_f1
from tinyforge.evaluate.votes import FIRST, SECOND, wilson
from tinyforge.pipeline.evaluate import Heard
from tinyforge.pipeline.pairs import Pair, Pairs, answer_pairs
from tinyforge.records import Complete, Message
from tinyforge.run import write_json

if TYPE_CHECKING:
    from tinyforge.records import Score

FILE = "judgement.json"
REPLY_TOKENS = 512  # a few sentences of JSON


def judge(
    names: tuple[str, str], by: str, data: str, limit: int, out: Path, config: Config, heard: Heard
) -> dict[str, Any]:
    """What the judge ``by`` says of two contenders, and what token F1 says; also ``out/judgement.json``.

    Six calls for each question: the pair in both orders, and each answer's rubric twice. A call that the judge refuses
    counts as a reply that cannot be read. Raises InputError for a judge, contenders or data that cannot be used.
    """
    from tinyforge.models.endpoint import Options, connect

    found, options = connect(by, trust_remote_code=config.trust_remote_code), Options(max_tokens=REPLY_TOKENS)

    def asks(messages: list[Message]) -> str:
        try:
            return found.ask(messages, options)
        except InputError:  # such as a pair too long for it; what never answers is no judge
            if not found.usage["calls"]:
                raise
            return ""

    pairs = answer_pairs(*names, data, limit, out, config, heard)
    result = judge_pairs(asks, pairs, heard, config)
    result |= {"judge": found.name, "own": by in names, "data": data, "seed": config.seed, "usage": found.usage}
    write_json(out / FILE, result)
    return result


def judge_pairs(asks: Complete, pairs: Pairs, heard: Heard, config: Config) -> dict[str, Any]:
    """The judgement of every pair: see the keys. ``rows`` keeps every reason."""
    if not pairs.rows:
        raise InputError("there is no question to judge.", "Give rows with questions and answers.")
    preferences, grades = [], []
    for number, pair in enumerate(pairs.rows, 1):
        question, wanted = pair.example.question, pair.example.answer
        preferences.append(prefer(asks, question, pair.first.text, pair.second.text, wanted))
        grades.append([grade(asks, question, answer.text, wanted) for answer in (pair.first, pair.second)])
        heard.count("the judge", number, len(pairs.rows), 0.0)
    first, second = pairs.names
    return {
        "first": first,
        "second": second,
        "preference": summarise_pairs(preferences),
        "grades": {name: summarise_grades([row[i] for row in grades]) for i, name in enumerate(pairs.names)},
        "criteria": CRITERIA,
        "beside": _beside(pairs.rows, preferences, config),
        "rows": [_row(*found) for found in zip(pairs.rows, preferences, grades, strict=True)],
    }


def _beside(rows: Sequence[Pair], preferences: Sequence[Preference], config: Config) -> dict[str, Any]:
    """Token F1 of both, and how often the judge's winner is the one that shares more words with the reference.

    ``agreement`` is None where no decided pair differs in token F1; the interval of ``difference`` (first less second)
    where the questions are about fewer than two facts.
    """
    f1 = np.array([[token_f1(a.text, row.example) for a in (row.first, row.second)] for row in rows])
    gain = f1[:, 0] - f1[:, 1]
    decided = [(p.outcome == FIRST, d > 0) for p, d in zip(preferences, gain, strict=True) if d and p.outcome in _WON]
    agreement = wilson(sum(a == b for a, b in decided), len(decided)) if decided else None
    difference = _difference(rows, f1, config)
    return {
        "first": float(f1[:, 0].mean()),
        "second": float(f1[:, 1].mean()),
        "difference": asdict(difference) if difference else None,
        "agreement": asdict(agreement) if agreement else None,
    }


_WON = (FIRST, SECOND)


def _difference(rows: Sequence[Pair], f1: Any, config: Config) -> Score | None:
    from tinyforge.evaluate.compare import paired_difference

    clusters = [row.example.fact or row.example.id for row in rows]
    if len(set(clusters)) < 2:
        return None
    resamples = config.evaluate.resamples
    return paired_difference(f1[:, 0], f1[:, 1], clusters, resamples=resamples, seed=config.seed)


def _row(pair: Pair, preference: Preference, grades: Sequence[dict[str, Grade]]) -> dict[str, Any]:
    return {
        "id": pair.example.id,
        "question": pair.example.question,
        "reference": pair.example.answer,
        "answers": {"first": pair.first.text, "second": pair.second.text},
        "preference": asdict(preference),
        "grades": [{name: asdict(given) for name, given in one.items()} for one in grades],
    }

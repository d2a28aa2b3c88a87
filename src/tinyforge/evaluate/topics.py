"""Results by document, by kind of question and by topic, from the questions of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]
BY = ("source", "difficulty", "topic")


def breakdown(rows: Sequence[Row], tuned: str = "tuned", base: str = "base") -> dict[str, list[dict[str, Any]]]:
    """For each of ``BY`` its groups: ``name``, ``questions``, ``facts``, mean token F1 of each variant, ``change``.

    ``change`` is by how much training moved token F1 (tuned less base); the groups that lost most come first.
    Questions without the field are left out of it. No intervals: a group has few facts, and is a hint where to look.
    """
    return {by: _groups(rows, by, tuned, base) for by in BY}


def _groups(rows: Sequence[Row], by: str, tuned: str, base: str) -> list[dict[str, Any]]:
    members: dict[str, list[Row]] = {}
    for row in rows:
        if row[by]:
            members.setdefault(row[by], []).append(row)
    found = [_group(name, found, tuned, base) for name, found in members.items()]
    return sorted(found, key=lambda group: (group["change"], group["name"]))


def _group(name: str, rows: Sequence[Row], tuned: str, base: str) -> dict[str, Any]:
    f1 = {v: fmean(row["answers"][v]["token_f1"] for row in rows) for v in rows[0]["answers"]}
    change = f1[tuned] - f1[base] if tuned in f1 and base in f1 else 0.0
    facts = len({row["fact"] or row["id"] for row in rows})
    return {"name": name, "questions": len(rows), "facts": facts, "change": change, "token_f1": f1}

"""Counts of preferences, and what they prove: a win rate with its interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import sqrt
from statistics import NormalDist
from typing import Any

from tinyforge.records import Score

FIRST, SECOND, TIE = "first", "second", "tie"
_Z = NormalDist().inv_cdf(0.975)


def wilson(successes: int, trials: int) -> Score:
    """A share with its 95% Wilson score interval (Wilson 1927, "Probable Inference"), which holds for few trials too.

    Raises ValueError without trials.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    share = successes / trials
    centre = (share + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    margin = _Z / (1 + _Z**2 / trials) * sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    return Score(share, max(0.0, centre - margin), min(1.0, centre + margin), trials)


def tally(votes: Iterable[str]) -> dict[str, Any]:
    """How often each won, and the first's win rate among the decided; None without a decided vote.

    Ties are told apart, and are in no rate: how many there are says itself how alike the two are.
    """
    counts = Counter(votes)
    decided = counts[FIRST] + counts[SECOND]
    rate = wilson(counts[FIRST], decided) if decided else None
    shown = {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n} if rate else None
    return {"first": counts[FIRST], "second": counts[SECOND], "ties": counts[TIE], "win_rate": shown}


def sentence(counted: dict[str, Any], first: str, second: str) -> str:
    """What the votes say, and whether that is more than chance."""
    rate = counted["win_rate"]
    ties = f"; {counted['ties']} ties" if counted["ties"] else ""
    if rate is None:
        return f"No vote for either{ties}."
    told = f"{first} won {counted['first']} of {rate['n']} decided votes against {second}"
    interval = f"{rate['value']:.0%}, 95% interval {rate['low']:.0%} to {rate['high']:.0%}"
    if rate["low"] > 0.5:
        proven = f"{first} is preferred"
    elif rate["high"] < 0.5:
        proven = f"{second} is preferred"
    else:
        proven = "too few, or too alike, to call"
    return f"{told} ({interval}{ties}): {proven}."

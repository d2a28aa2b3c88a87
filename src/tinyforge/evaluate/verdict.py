"""From scores and paired differences of token F1 to a plain sentence and the variant that chat will use.

**Sentence.** Tuned against base on new wordings of what was taught decides between "Tuning helped", "No measurable
change" and "Tuning made it worse": by where the 95% interval lies, never by the mean alone. Where tuning helped and yet
a variant without tuned weights is measurably better than every tuned one over both sets, the sentence is "Retrieval
alone is better", or "Prompting is better" where that is the few-shot prompt. Where every tuned variant is at most
NEGLIGIBLE better than the few-shot prompt, by the upper end of the interval, it is "Prompting is enough": a wide
interval proves nothing. What tuning did then becomes the first reason.

**Cost.** What the tuned model has measurably forgotten is told right behind, whatever the rest says.

**Choice.** The highest mean over the sets, unless a simpler one is not measurably
worse than it; then the simplest of those. legend.VARIANTS is the order of simplicity, with its reasons. Every simpler
variant is compared with the best one, not with its neighbour, so that small steps cannot add up to a large loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyforge.evaluate.compare import BOTH
from tinyforge.evaluate.legend import SETS, TRAINED, VARIANTS, ordered
from tinyforge.records import Score

Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]
Differences = Mapping[str, Mapping[str, Mapping[str, Score]]]

NEGLIGIBLE = 0.05  # of token F1
_PAIRS = (
    ("tuned", "base"),
    ("tuned", "few-shot"),
    ("tuned+retrieval", "base+retrieval"),
    ("tuned+retrieval", "quote"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``text`` starts with a label and a colon; ``choice`` names a variant; ``reasons`` are whole sentences."""

    text: str
    choice: str
    reasons: tuple[str, ...]


def verdict(
    scores: Scores,
    differences: Differences,
    metric: str = "token_f1",
    forgotten: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Verdict:
    """What came out: ``scores[set][variant][metric]`` and the ``differences`` of compare.difference_table.

    Needs the variants base and tuned. Other variants, and one of the two sets, may be missing; what is missing is
    not spoken of. ``forgotten`` is what forgetting.sentences found.
    """
    means, both = mean_over_sets(scores, metric), differences[BOTH]
    best = max(means, key=lambda name: means[name])
    choice = choose(means, both)
    tuning, helped = _tuning(scores, differences, metric)
    headline = _better_untuned(means, both) if helped else ""
    others = _comparisons(scores, differences, metric)
    reasons = (tuning, *others) if headline else others
    sentences = [headline or tuning, *_cost(forgotten[0]), _chosen(choice, best, means, both)]
    return Verdict(" ".join(sentences), choice, (*reasons, *_kept(forgotten[1])))


def _cost(lost: Sequence[str]) -> list[str]:
    return [f"Tuning cost the model some of what it could do: {'; '.join(lost)}."] if lost else []


def _kept(kept: Sequence[str]) -> list[str]:
    return [f"No forgetting was measured here: {'; '.join(kept)}."] if kept else []


def mean_over_sets(scores: Scores, metric: str) -> dict[str, float]:
    """Each variant's mean over the sets, every set counting the same; simplest variant first."""
    shared = [name for name in next(iter(scores.values())) if all(name in table for table in scores.values())]
    return {
        name: sum(table[name][metric].value for table in scores.values()) / len(scores)
        for name in ordered(shared, VARIANTS)
    }


def choose(means: Mapping[str, float], both: Mapping[str, Mapping[str, Score]]) -> str:
    """The best variant, or the simplest that is not measurably worse; ``means`` has the simplest first."""
    best = max(means, key=lambda name: means[name])
    return next(name for name in means if name == best or both[best][name].low <= 0)


def _better_untuned(means: Mapping[str, float], both: Mapping[str, Mapping[str, Score]]) -> str:
    """The sentence where a variant without tuned weights beats all that have them, or prompting is as good; or ""."""
    best = max(means, key=lambda name: means[name])
    trained = [name for name in TRAINED if name in means]
    if best not in TRAINED and all(both[best][name].low > 0 for name in trained):
        return _untuned(best, "Prompting" if best == "few-shot" else "Retrieval alone", "better", means, both)
    if "few-shot" in means and all(both[name]["few-shot"].high <= NEGLIGIBLE for name in trained):
        return _untuned("few-shot", "Prompting", "enough", means, both)
    return ""


def _tuning(scores: Scores, differences: Differences, metric: str) -> tuple[str, bool]:
    """What tuning did to the model on its own, and whether that was for the better."""
    name = ordered(scores, SETS)[0]
    base, tuned = (scores[name][variant][metric].value for variant in ("base", "tuned"))
    change = differences[name]["tuned"]["base"]
    if change.low > 0:
        label, verb = "Tuning helped", "rose"
    elif change.high < 0:
        label, verb = "Tuning made it worse", "fell"
    else:
        label, verb = "No measurable change", "went"
    place = SETS.get(name, name)
    return f"{label}: on {place}, token F1 {verb} from {base:.2f} to {tuned:.2f} {_margin(change)}.", change.low > 0


def _untuned(
    winner: str, what: str, degree: str, means: Mapping[str, float], both: Mapping[str, Mapping[str, Score]]
) -> str:
    rival = max((name for name in means if name in TRAINED), key=lambda name: means[name])
    return (
        f"{what} is {degree}: {VARIANTS[winner]} reaches a token F1 of {means[winner]:.2f} over both sets, "
        f"{VARIANTS[rival]} {means[rival]:.2f} {_margin(both[winner][rival])}."
    )


def _chosen(choice: str, best: str, means: Mapping[str, float], both: Mapping[str, Mapping[str, Score]]) -> str:
    start = f"Chat will use {choice} ({VARIANTS.get(choice, choice)})"
    if choice == best:
        return f"{start}: the highest token F1 over both sets, {means[best]:.2f}."
    return (
        f"{start}: with {means[choice]:.2f} over both sets it is not measurably behind {best} at {means[best]:.2f} "
        f"{_margin(both[best][choice])}, and it is simpler."
    )


def _comparisons(scores: Scores, differences: Differences, metric: str) -> tuple[str, ...]:
    """One sentence for each pair of interest in each set, less the one that the tuning sentence already tells."""
    told = (ordered(scores, SETS)[0], "tuned")
    return tuple(
        _comparison(name, (first, second), scores, differences, metric)
        for first, second in _PAIRS
        for name in ordered(scores, SETS)
        if (name, first) != told and first in differences[name] and second in differences[name]
    )


def _comparison(name: str, pair: tuple[str, str], scores: Scores, differences: Differences, metric: str) -> str:
    first, second = pair
    change = differences[name][first][second]
    a, b = (scores[name][variant][metric].value for variant in (first, second))
    place = SETS.get(name, name)
    if change.low > 0:
        relation = f"beats {second}"
    elif change.high < 0:
        relation = f"is behind {second}"
    else:
        relation = f"is not measurably different from {second}"
    return f"On {place}, {first} {relation}: {a:.2f} against {b:.2f} {_margin(change)}."


def _margin(change: Score) -> str:
    return f"({change.value:+.2f}, 95% interval {change.low:+.2f} to {change.high:+.2f})"

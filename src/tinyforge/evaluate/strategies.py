"""Ways of choosing the next token, side by side: what each does to quality, variety and speed.

Variety is measured twice. ``distinct_2`` is the share of different word pairs in all answers of one seed, averaged over
the seeds, so that every strategy is judged on the same amount of text; ``overlap`` is how much the answers to one
prompt share from seed to seed (mean token F1 of all pairs), 1 where a strategy always says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Any

from tinyforge.evaluate.measure import measure
from tinyforge.evaluate.metrics import Answer, find_metric, word_f1
from tinyforge.models.sampling import Sampling
from tinyforge.records import Example

BEAMS = 4


@dataclass(frozen=True, slots=True)
class Strategy:
    """``sampling`` is None for a ``search``, which looks further than at one token's probability."""

    name: str
    what: str
    sampling: Sampling | None
    search: str = ""

    @property
    def draws(self) -> bool:
        """Whether another seed gives another answer."""
        return self.sampling is not None and self.sampling.temperature > 0


STRATEGIES: tuple[Strategy, ...] = (
    Strategy("greedy", "always the likeliest token: the same answer every time, and prone to loops", Sampling()),
    Strategy("temperature 0.7", "draws, with likely tokens favoured: a little variety", Sampling(temperature=0.7)),
    Strategy("temperature 1.3", "draws, with unlikely tokens favoured: bold, soon nonsense", Sampling(temperature=1.3)),
    Strategy("top-k 40", "draws from the 40 likeliest tokens only", Sampling(temperature=1.0, top_k=40)),
    Strategy(
        "top-p 0.9", "draws from the likeliest tokens that hold 90% together", Sampling(temperature=1.0, top_p=0.9)
    ),
    Strategy(
        "min-p 0.1", "draws from tokens at least a tenth as likely as the best", Sampling(temperature=1.0, min_p=0.1)
    ),
    Strategy("beam 4", "follows the 4 likeliest beginnings, gives the likeliest whole: safe and slow", None, "beam"),
    Strategy(
        "contrastive",
        "of the 4 likeliest tokens, the one least like what was said: no loops, and no chance",
        None,
        "contrastive",
    ),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What a strategy wrote: ``texts[seed][prompt]``, with the tokens and seconds of all of it."""

    texts: Sequence[Sequence[str]]
    tokens: int
    seconds: float


def compare_strategies(asked: Sequence[Example], written: Mapping[str, Written]) -> list[dict[str, Any]]:
    """One row for each strategy, in the order given. Examples whose answer is empty have no reference."""
    what = {strategy.name: strategy for strategy in STRATEGIES}
    return [
        {
            "name": name,
            "what": what[name].what,
            "seeds": len(found.texts),
            "token_f1": _mean("token_f1", [e for e in asked if e.answer], asked, found.texts),
            "distinct_2": _mean("distinct_2", asked, asked, found.texts),
            "repetition": _mean("repetition", asked, asked, found.texts),
            "overlap": overlap(found.texts),
            "tokens_per_second": found.tokens / found.seconds if found.seconds else None,
            "answers": [list(texts) for texts in found.texts],
        }
        for name, found in written.items()
    ]


def _mean(
    name: str, wanted: Sequence[Example], asked: Sequence[Example], texts: Sequence[Sequence[str]]
) -> float | None:
    """The metric over the wanted examples, averaged over the seeds; None without any."""
    if not wanted:
        return None
    places = [i for i, example in enumerate(asked) if any(example is one for one in wanted)]
    values = [
        measure(name, find_metric(name), [Answer(row[i]) for i in places], [asked[i] for i in places]).value
        for row in texts
    ]
    return fmean(values)


def overlap(texts: Sequence[Sequence[str]]) -> float:
    """Mean token F1 between the answers to one prompt under every two seeds; 1.0 with a single seed."""
    pairs = [word_f1(one, other) for answers in zip(*texts, strict=True) for one, other in combinations(answers, 2)]
    return fmean(pairs) if pairs else 1.0

"""Choose the next token of one row from the model's scores, as a :class:`Sampling` asks.

Each row has its own generator of random numbers and is chosen for by itself, so that an answer with a seed does not
depend on what else is in the batch. The filters are in the order of transformers' ``generate``: penalties,
temperature, top-k, top-p, min-p; a test holds them to its logits processors.

Legend: V vocabulary size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tinyforge.models.sampling import Sampling

LIKELIEST = 32  # tokens that are tried one by one before a constraint is asked for all that it allows


class Choice(NamedTuple):
    """A chosen token. Its natural ``logprob``, and the likeliest tokens with theirs, are the model's own scores' as
    they were before penalties and temperature; None and empty where they were not asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Constraint(Protocol):
    """What an answer must look like (JSON of a schema, say): it knows what was written and what may come next."""

    def allows(self, token: int) -> bool: ...
    def mask(self, size: int) -> Tensor:
        """True for each of ``size`` tokens that may come next, shape (V,). At least one may."""
        ...

    def advance(self, token: int) -> None: ...


class Chooser:
    """The tokens of one answer, one after the other. ``choices`` keeps them where log probabilities are asked for."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int], constraint: Constraint | None = None) -> None:
        self.sampling, self._constraint = sampling, constraint
        self.choices: list[Choice] = []
        self._counts: Counter[int] = Counter()
        self._seen = set(prompt) if sampling.repetition_penalty != 1 else set[int]()
        self._generator = torch.Generator()
        if sampling.seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(sampling.seed)

    @property
    def plain(self) -> bool:
        """Whether the token is simply the one with the highest score, and nothing is to be reported."""
        s = self.sampling
        return s.temperature == 0 and s.logprobs is None and self._constraint is None and not _penalises(s)

    def choose(self, logits_V: Tensor) -> int:
        raw_V = logits_V.float().cpu()
        scores_V = self._penalise(raw_V)
        token = self._highest(scores_V) if self.sampling.temperature == 0 else self._draw(scores_V)
        self.take(token)
        if self.sampling.logprobs is not None:
            self.choices.append(report(raw_V, token, self.sampling.logprobs))
        return token

    def take(self, token: int) -> None:
        """Remember a token of the answer."""
        self._counts[token] += 1
        if self._constraint is not None:
            self._constraint.advance(token)

    def _penalise(self, scores_V: Tensor) -> Tensor:
        s = self.sampling
        if not _penalises(s):
            return scores_V
        scores_V = scores_V.clone()
        seen = torch.tensor(sorted(self._seen | self._counts.keys()), dtype=torch.long)
        if s.repetition_penalty != 1 and len(seen):
            was = scores_V[seen]
            scores_V[seen] = torch.where(was < 0, was * s.repetition_penalty, was / s.repetition_penalty)
        if self._counts:
            counted = torch.tensor(list(self._counts.values()), dtype=scores_V.dtype)
            scores_V[list(self._counts)] -= s.frequency_penalty * counted + s.presence_penalty
        return scores_V

    def _highest(self, scores_V: Tensor) -> int:
        if self._constraint is None:
            return int(scores_V.argmax())
        best = scores_V.topk(min(LIKELIEST, len(scores_V))).indices.tolist()
        first = next((token for token in best if self._constraint.allows(token)), None)
        return int(self._constrained(scores_V).argmax()) if first is None else int(first)

    def _constrained(self, scores_V: Tensor) -> Tensor:
        if self._constraint is None:
            return scores_V
        return scores_V.masked_fill(~self._constraint.mask(len(scores_V)), float("-inf"))

    def _draw(self, scores_V: Tensor) -> int:
        shares_V = narrow(self._constrained(scores_V), self.sampling).softmax(-1)
        return int(torch.multinomial(shares_V, 1, generator=self._generator))


def _penalises(sampling: Sampling) -> bool:
    return bool(sampling.repetition_penalty != 1 or sampling.frequency_penalty or sampling.presence_penalty)


def narrow(scores_V: Tensor, sampling: Sampling) -> Tensor:
    """The scores over the temperature, minus infinity where top-k, top-p or min-p leave a token out.

    The likeliest token always stays. top-p (nucleus sampling, Holtzman et al. 2020) keeps the fewest tokens whose
    probability reaches it, min-p (Nguyen et al. 2024) those with at least that share of the likeliest one's.
    """
    scores_V = scores_V / sampling.temperature
    if 0 < sampling.top_k < len(scores_V):
        scores_V = scores_V.masked_fill(scores_V < scores_V.topk(sampling.top_k).values[-1], float("-inf"))
    if sampling.top_p < 1:
        ordered_V, places_V = scores_V.sort()
        left_out_V = ordered_V.softmax(-1).cumsum(-1) <= 1 - sampling.top_p
        left_out_V[-1] = False
        scores_V = scores_V.masked_fill(left_out_V[places_V.argsort()], float("-inf"))
    if sampling.min_p > 0:
        shares_V = scores_V.softmax(-1)
        scores_V = scores_V.masked_fill(shares_V < sampling.min_p * shares_V.max(), float("-inf"))
    return scores_V


def report(raw_V: Tensor, token: int, alternatives: int) -> Choice:
    """The choice of ``token`` with its log probability and the likeliest ``alternatives``."""
    logprobs_V = raw_V.log_softmax(-1)
    values, tokens = logprobs_V.topk(min(alternatives, len(logprobs_V)))
    return Choice(token, float(logprobs_V[token]), tuple(zip(tokens.tolist(), values.tolist(), strict=True)))

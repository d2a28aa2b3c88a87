"""How the next token is chosen from the model's scores: the options, in the field's terms."""

from __future__ import annotations

from dataclasses import dataclass

from tinyforge.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """The options of one request. The defaults are greedy: the same prompt gives the same answer.

    ``temperature`` 0 is greedy; above 0 the scores are divided by it before a token is drawn with ``seed`` (None: a
    fresh one). ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 leave every token in the draw. ``repetition_penalty`` divides
    the positive scores of tokens seen in prompt or answer and multiplies the negative ones (Keskar et al. 2019);
    ``frequency_penalty`` and ``presence_penalty`` are subtracted per occurrence, and once, of a token in the answer
    (OpenAI's definition). ``stop`` texts end the answer and are not part of it. ``logprobs`` is how many alternatives
    are reported for each token (None: no log probabilities at all).
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name} is {value}.", f"Give a number from {low:g} to {high:g}.")
        if self.top_p == 0:
            raise InputError("top_p is 0, which leaves no token to draw.", "Give a number above 0, up to 1.")
        if "" in self.stop:
            raise InputError("stop holds an empty text, which every answer contains.", "Leave it out.")


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_new_tokens", 1, 1 << 30),
    ("temperature", 0, 100),
    ("top_k", 0, 1 << 30),
    ("top_p", 0, 1),
    ("min_p", 0, 1),
    ("repetition_penalty", 0.01, 100),
    ("frequency_penalty", -2, 2),
    ("presence_penalty", -2, 2),
    ("logprobs", 0, 20),
)
GREEDY = Sampling()

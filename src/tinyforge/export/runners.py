"""An exported model under test: how it renders a prompt, where it stops, and what it writes with which probabilities.

Legend: K tokens whose probabilities a runner tells: all of the vocabulary where it can, 0 where it tells none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from tinyforge.dataset.render import prompt_ids, stop_ids
from tinyforge.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Step:
    """One written token (a stop token included), and the natural log probabilities of ``ids_K`` at that place."""

    token: int
    ids_K: npt.NDArray[np.int64]
    logs_K: npt.NDArray[np.float64]


@dataclass
class Speed:
    """What was written so far, in how many seconds of decoding, and the most memory it took."""

    tokens: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


class Runner(Protocol):
    speed: Speed

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The conversation as the artifact's own template and tokenizer give it."""
        ...

    def stops(self) -> set[int]:
        """The tokens at which the artifact says that an answer ends."""
        ...

    def write(self, ids: Sequence[int], steps: int) -> list[Step]:
        """Greedy: up to ``steps`` tokens after ``ids``, the last one a stop token where one came."""
        ...

    def close(self) -> None: ...


def log_softmax(logits_V: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = logits_V.astype(np.float64)
    wide -= wide.max()
    return np.asarray(wide - np.log(np.exp(wide).sum()), dtype=np.float64)


@dataclass
class TransformersRunner:
    """A transformers model, loaded from the artifact."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    speed: Speed = field(default_factory=Speed)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return prompt_ids(messages, self.tokenizer)

    def stops(self) -> set[int]:
        return stop_ids(self.model, self.tokenizer)

    def write(self, ids: Sequence[int], steps: int) -> list[Step]:
        import torch

        from tinyforge.adapters import virtual_tokens

        model, past, written = self.model, None, list[Step]()
        step_ids, began = torch.tensor([list(ids)]), perf_counter()
        with torch.inference_mode():
            for _ in range(steps):
                output = model(input_ids=step_ids, past_key_values=past, use_cache=True)
                logs_V = log_softmax(output.logits[0, -1].float().numpy())
                token = int(logs_V.argmax())
                written.append(Step(token, np.arange(len(logs_V)), logs_V))
                if token in self.stops():
                    break
                if virtual_tokens(model):  # they are in the cache now
                    model = model.get_base_model()
                step_ids, past = torch.tensor([[token]]), output.past_key_values
        self.speed.tokens += len(written)
        self.speed.seconds += perf_counter() - began
        return written

    def close(self) -> None:
        pass

"""The forgetting guard: general text before and after a fine-tuning, and a warning where it got worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.evaluate.forgetting import FORGOTTEN
from tinyforge.pipeline.stages import Job

if TYPE_CHECKING:
    from tinyforge.records import Tokens

MEASURED = ("sft", "dpo", "distill", "pretrain")
"""The objectives after which a model still predicts the next token of a text."""


@dataclass(frozen=True)
class Guard:
    """General text, and the bits per byte that the base needs for it."""

    rows: list[Tokens]
    size: dict[str, int]
    before: float

    @classmethod
    def begin(cls, job: Job, objective: str, model: Any, tokenizer: Any, longest: int, config: TrainConfig) -> Any:
        """Measure the base; None where that is switched off or cannot be, which is said."""
        from tinyforge.dataset.general import general_rows
        from tinyforge.train.guard import ROW_TOKENS, affordable_tokens, bits_per_byte

        if not config.guard or objective not in MEASURED:
            return None
        most = affordable_tokens(sum(p.numel() for p in model.parameters()))
        try:
            rows, size = general_rows(tokenizer, min(longest, ROW_TOKENS), most)
        except InputError as error:
            job.say("train", f"forgetting is not measured: {error.message}")
            return None
        return cls(rows, size, job.world.on_first(lambda: bits_per_byte(model, rows, size["bytes"])))

    def end(self, job: Job, model: Any, config: TrainConfig) -> dict[str, Any]:
        """Measure the trained model, say how they compare, and return the figures for the report."""
        from tinyforge.train.guard import bits_per_byte

        after = job.world.on_first(lambda: bits_per_byte(model, self.rows, self.size["bytes"]))
        change = after / self.before - 1
        job.say("train", _sentence(self.before, after, self.size))
        if change > FORGOTTEN:
            job.say("train", _warning(change, config))
        found = {"before": self.before, "after": after, "change": change, **self.size}
        if job.world.first:
            job.run.event("general", **found)
        return found


def _sentence(before: float, after: float, size: dict[str, int]) -> str:
    return (
        f"general text ({size['texts']} texts, {size['bytes']:,} bytes): {before:.3f} bits per byte before, "
        f"{after:.3f} after ({after / before - 1:+.1%})"
    )


def _warning(change: float, config: TrainConfig) -> str:
    share = min(0.5, 2 * config.replay_share or 0.1)
    more = "mixes general text in again" if not config.replay_share else "mixes in more general text"
    return (
        f"warning: it reads general text {change:.0%} worse than the base, so it has forgotten some of what the base "
        f"knew; --set train.replay_share={share:g} {more}"
    )

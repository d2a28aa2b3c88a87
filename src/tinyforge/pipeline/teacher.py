"""Further examples by a teacher: what that will take, whether it may, and what it took."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, SynthesizeConfig
from tinyforge.errors import InputError
from tinyforge.pipeline.rounds import Rounds, Written
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example
from tinyforge.synthesize.adaptive import coverage
from tinyforge.synthesize.readers import READ_TOKENS

if TYPE_CHECKING:
    from tinyforge.models.calls import Budget, Caller, Usage

CALLS = ("calls.sqlite",)
_READING_TOKENS = 1200  # of a question with its passages, roughly
SECONDS_PER_CALL = 5.0  # assumed before the first one is measured
Confirm = Callable[["Estimate"], bool]


@dataclass(frozen=True)
class Estimate:
    """What a teacher is about to be asked, at most: calls, tokens, money by the given prices, seconds (assumed)."""

    teacher: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    price: float
    seconds: float
    paid: bool


def unconfirmed(estimate: Estimate) -> bool:
    """What costs nothing needs nobody's consent; everything else was not given it."""
    return not estimate.paid


def teach(
    job: Job, documents: Sequence[Document], examples: Sequence[Example], config: Config, confirm: Confirm
) -> tuple[Written, dict[str, Any]]:
    """Let ``config.synthesize.teacher`` write further examples; also what it was asked and what that took.

    Every answer is kept in the run at once: the same command asks nothing twice. Raises InputError when the estimate is
    not confirmed, or when the teacher cannot be used.
    """
    from tinyforge.models.calls import Caller, Store
    from tinyforge.models.endpoint import connect
    from tinyforge.retrieve.index import Index

    settings = config.synthesize
    teacher = connect(
        settings.teacher, settings.teacher_timeout, settings.teacher_concurrency, config.trust_remote_code
    )
    index = Index.open(job.run.path("index"))
    store = Store(job.run.path(*CALLS))
    try:
        caller = Caller(teacher, store, budget_of(settings), settings.teacher_concurrency, job.count)
        rounds = Rounds(documents, examples, index, caller, config)
        estimate = _estimate(rounds, caller, settings)
        if not confirm(estimate):
            raise InputError(
                f"{settings.teacher}: {in_words(estimate)} were not confirmed.",
                "Say --yes to `tinyforge synthesize`, or set a budget (synthesize.teacher_requests).",
            )
        job.say("examples", f"asking {teacher.name}: {in_words(estimate)}")
        written = rounds.run(lambda text: job.say("examples", text))
        return written, _account(caller, written, coverage(rounds.map))
    finally:
        store.close()


def identity(teacher: str) -> str:
    """What a stage's result depends on: an endpoint's name, or the weights of a local model."""
    from tinyforge.models.endpoint import connect, is_address

    if is_address(teacher):
        return f"{teacher} {os.environ.get('OPENAI_BASE_URL', '')}" if teacher.startswith("openai") else teacher
    return connect(teacher).identity


def budget_of(settings: SynthesizeConfig) -> Budget:
    from tinyforge.models.calls import Budget

    limits = (settings.teacher_requests, settings.teacher_tokens, settings.teacher_price)
    return Budget(*limits, settings.price_in, settings.price_out)


def _estimate(rounds: Rounds, caller: Caller, settings: SynthesizeConfig) -> Estimate:
    """From the first round's prompts; a reply that cannot be read is asked for a second time."""
    first = rounds.first_calls()
    writing, reading = 2 * rounds.calls, 0
    if settings.reader == "teacher":
        reading = 4 * rounds.calls
    each = sum(call.prompt_tokens for call in first) / max(1, len(first))
    read = int(writing * each + reading * _READING_TOKENS)
    written = writing * settings.teacher_answer_tokens + reading * READ_TOKENS
    calls = min(settings.teacher_requests or writing + reading, writing + reading)
    price = (read * settings.price_in + written * settings.price_out) / 1e6
    seconds = calls * SECONDS_PER_CALL / settings.teacher_concurrency
    return Estimate(caller.teacher.name, calls, read, written, price, seconds, caller.teacher.paid)


def in_words(estimate: Estimate) -> str:
    """What is asked for, in a line."""
    price = f", at most {estimate.price:,.2f} by the prices given" if estimate.price else ""
    minutes = max(1, round(estimate.seconds / 60))
    return (
        f"up to {estimate.calls:,} calls, {estimate.prompt_tokens:,} tokens read and {estimate.completion_tokens:,} "
        f"written{price}, about {minutes} min if a call takes {SECONDS_PER_CALL:.0f} s"
    )


def _account(caller: Caller, written: Written, covered: float) -> dict[str, Any]:
    usage: Usage = caller.store.usage()
    return {
        "teacher": caller.teacher.name,
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": round(caller.budget.cost(usage), 6),
        "accepted": len(written.examples),
        "rejected": dict(Counter(row.gate for row in written.rejected).most_common()),
        "kinds": dict(Counter(e.rule for e in written.examples).most_common()),
        "rounds": written.rounds,
        "units_covered": round(covered, 4),
        "stopped": written.stopped,
    }

"""Sequence-level distillation (Kim & Rush 2016): of a teacher behind an address, what it writes is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinyforge.config import Config, TrainConfig
from tinyforge.errors import InputError
from tinyforge.models.endpoint import is_address
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.teacher import CALLS, SECONDS_PER_CALL, Estimate, budget_of, identity, in_words
from tinyforge.records import Example, Message
from tinyforge.run import write_jsonl
from tinyforge.synthesize.answers import prompt_of, write_answers

PREFIX = "answered-"


def asks(objective: str, config: TrainConfig) -> bool:
    """Whether the teacher is one whose distributions cannot be seen, only its answers."""
    return objective == "distill" and is_address(config.teacher)


def answers(
    job: Job, rows: dict[str, Any], config: Config, sides_of: Callable[[str], list[Example]], names: Sequence[str]
) -> dict[str, Any]:
    """Stage ``answers``: the rows of each side with the teacher's answers, in dataset/answered-NAME.jsonl.

    Every answer is kept in the run at once: the same command asks nothing twice. Raises InputError without a budget
    (``synthesize.teacher_requests``, ``_tokens`` or ``_price``), and for one that is too small for all the rows.
    """

    def work(key: str) -> dict[str, Any]:
        sides = {name: sides_of(name) for name in names}
        written, account = _ask(job, sides, config)
        for name, examples in written.items():
            write_jsonl(job.run.path("dataset", f"{PREFIX}{name}.jsonl"), (e.to_json() for e in examples))
        return {"key": key, **account}

    asked = config.synthesize.model_dump(include={"teacher_answer_tokens"})
    return job.stage("answers", [rows["key"], identity(config.train.teacher), asked], work)


def _ask(job: Job, sides: dict[str, list[Example]], config: Config) -> tuple[dict[str, list[Example]], dict[str, Any]]:
    from tinyforge.models.calls import Call, Caller, Store
    from tinyforge.models.endpoint import Options, connect

    settings = config.synthesize
    teacher = connect(config.train.teacher, settings.teacher_timeout, settings.teacher_concurrency)
    options = Options(settings.teacher_answer_tokens)
    prompts = dict.fromkeys(tuple(prompt_of(e)) for examples in sides.values() for e in examples)
    calls = [Call(prompt, "answer", options) for prompt in prompts if prompt]
    budget, store = budget_of(settings), Store(job.run.path(*CALLS))
    try:
        caller = Caller(teacher, store, budget, settings.teacher_concurrency, job.count)
        read, most = sum(call.prompt_tokens for call in calls), len(calls) * options.max_tokens
        price = (read * settings.price_in + most * settings.price_out) / 1e6
        seconds = len(calls) * SECONDS_PER_CALL / settings.teacher_concurrency
        estimate = Estimate(teacher.name, len(calls), read, most, price, seconds, teacher.paid)
        if not (budget.requests or budget.tokens or budget.price):
            raise InputError(
                f"{teacher.name}: {in_words(estimate)} may cost money.",
                f"Set a budget, such as --set synthesize.teacher_requests={len(calls)}.",
            )
        job.say("answers", f"asking {teacher.name}: {in_words(estimate)}")
        replies = caller.ask_all(calls)
        missing = sum(reply is None for reply in replies)
        if missing:
            raise InputError(
                f"{teacher.name}: the budget leaves {missing:,} of {len(calls):,} rows without an answer.",
                "Raise synthesize.teacher_requests, _tokens or _price; what was answered is kept.",
            )
        by_prompt = {call.messages: reply or "" for call, reply in zip(calls, replies, strict=True)}
        usage = store.usage()
    finally:
        store.close()

    def complete(messages: list[Message]) -> str:
        return by_prompt[tuple(messages)]

    written: dict[str, list[Example]] = {}
    dropped: dict[str, int] = {}
    for name, examples in sides.items():
        written[name], left_out = write_answers(examples, complete, teacher.name)
        for reason, ids in left_out.items():
            dropped[reason] = dropped.get(reason, 0) + len(ids)
            job.say("answers", f"{len(ids):,} left out: {reason} (first {ids[0]})")
    if not written["train"]:
        raise InputError(f"{teacher.name}: answered none of the rows.", "See whether it answers at all: curl, or chat.")
    job.say("answers", "the teacher is behind an address, so its answers are learned, not its distributions")
    account = {
        "teacher": teacher.name,
        "answers": sum(map(len, written.values())),
        "left_out": dropped,
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": round(budget.cost(usage), 6),
    }
    return written, account

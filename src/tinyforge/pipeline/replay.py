"""General running text among the rows of a fine-tuning, so that the model keeps what it knew: stage ``replay``."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, TrainConfig
from tinyforge.errors import InputError
from tinyforge.pipeline.stages import Job
from tinyforge.records import Tokens
from tinyforge.run import read_jsonl, write_jsonl

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base

OBJECTIVES = ("sft", "distill", "pretrain")
"""Those whose rows are sequences of tokens to learn; a preference pair or a labelled row is something else."""


def check_replay(config: TrainConfig, objective: str) -> None:
    """Raises InputError for options that do not go together."""
    if config.replay and not config.replay_share:
        raise InputError(
            f"train.replay = {config.replay}: nothing of it would be used, for train.replay_share is 0.",
            "Add --set train.replay_share=0.1",
        )
    if config.replay_share and objective not in OBJECTIVES:
        raise InputError(
            f"train.replay_share: the rows of {objective} cannot be mixed with running text.",
            f"It works with {', '.join(OBJECTIVES)}.",
        )


def replay_inputs(config: TrainConfig) -> list[list[str]]:
    """What the mixed-in text depends on besides the options: the files. Raises InputError for one that is missing."""
    from tinyforge.pipeline.pretrain import corpus_key

    return corpus_key([config.replay]) if config.replay else []


def replay_rows(
    job: Job, model: Any, tokenizer: Any, rows: Sequence[Tokens], base: Base, config: Config, longest: int
) -> tuple[list[Tokens], dict[str, Any]]:
    """Rows of general text that come to ``train.replay_share`` of all tokens, and what to report of them.

    They are from texts of ``train.replay``, or such as the base itself writes; replay.jsonl in the run holds them. The
    same rows come in every epoch.
    """
    from tinyforge.dataset.general import text_rows

    share, task = config.train.replay_share, sum(len(row.ids) for row in rows)
    wanted = round(task * share / (1 - share))

    def work(key: str) -> dict[str, Any]:
        texts = _given(config) if config.train.replay else _written(job, model, tokenizer, wanted, config.seed)
        count = write_jsonl(job.run.path("replay.jsonl"), ({"text": t} for t in _until(texts, tokenizer, wanted)))
        return {"key": key, "texts": count}

    inputs = [base.hash, replay_inputs(config.train), wanted, config.seed, longest]
    job.stage("replay", inputs, work)
    texts = [row["text"] for row in read_jsonl(job.run.path("replay.jsonl"))]
    found = list(_first_tokens((row for text in texts for row in text_rows(text, tokenizer, longest)), wanted))
    report = _report(rows, found, len(texts), config)
    job.say("train", report.pop("note"))
    return found, report


def _given(config: Config) -> Iterator[str]:
    from tinyforge.dataset.corpus import read_texts
    from tinyforge.dataset.general import pieces

    found = list(pieces(text for _, text in read_texts([config.train.replay], config.pretrain.hub_characters)))
    random.Random(config.seed).shuffle(found)
    return iter(found)


def _written(job: Job, model: Any, tokenizer: Any, wanted: int, seed: int) -> Iterator[str]:
    from tinyforge.models.rehearse import write_texts

    job.say("replay", f"the base writes about {wanted:,} tokens of text (train.replay takes text of your own instead)")
    # What is decoded and read again may come to a few tokens less.
    return iter(write_texts(model, tokenizer, round(1.05 * wanted) + 16, seed))


def _until(texts: Iterable[str], tokenizer: Any, wanted: int) -> Iterator[str]:
    """Texts until they come to so many tokens, the two at the ends of each included."""
    kept = list(texts)
    lengths = (len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) + 2 for text in kept)
    for text, total in zip(kept, accumulate(lengths), strict=True):
        yield text
        if total >= wanted:
            return


def _first_tokens(rows: Iterable[Tokens], wanted: int) -> Iterator[Tokens]:
    """The rows until they come to exactly so many tokens, the last one cut; a single token teaches nothing."""
    for row in rows:
        if wanted < 2:
            return
        yield Tokens(row.ids[:wanted], row.labels[:wanted])
        wanted -= len(row.ids)


def _report(rows: Sequence[Tokens], found: Sequence[Tokens], texts: int, config: Config) -> dict[str, Any]:
    task, general = (sum(len(row.ids) for row in part) for part in (rows, found))
    learned = sum(row.targets for row in found) / max(1, sum(row.targets for row in (*rows, *found)))
    share = general / max(1, task + general)
    source = config.train.replay or "written by the base"
    short = share < 0.95 * config.train.replay_share
    note = (
        f"replay: {general:,} tokens of general text ({source}), {share:.0%} of all and {learned:.0%} of those learned"
    )
    if short:
        note += f"; {config.train.replay_share:.0%} was asked for, but there is no more text"
    return {"source": source, "texts": texts, "tokens": general, "share": share, "learned_share": learned, "note": note}

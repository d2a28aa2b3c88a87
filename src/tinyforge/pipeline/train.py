"""Rows of training data into a trained model: what to learn is decided by the rows and the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.replay import replay_inputs
from tinyforge.pipeline.sequence_level import PREFIX, answers, asks
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.teacher import identity
from tinyforge.pipeline.tune import tune
from tinyforge.records import Example
from tinyforge.run import Run, hash_file, read_jsonl, write_json, write_jsonl

if TYPE_CHECKING:
    from tinyforge.dataset.rows import RowSet
    from tinyforge.models.resolve import Base
    from tinyforge.train.status import Status

SETS: tuple[str, ...] = ("train", "dev")


def train(
    data: str | Path,
    out: str | Path,
    config: Config,
    say: Callable[[str, str], None] = lambda stage, note: None,
    on_status: Callable[[Status], None] = lambda status: None,
    auto: bool = False,
) -> dict[str, Any]:
    """Train ``config.base`` on the rows of ``data`` into the run folder ``out``; returns the summary (also train.json).

    With ``auto`` the options that suit this machine are chosen first (see ``pipeline.auto``).

    Raises InputError for rows, a base or a folder that cannot be used; a finished stage is not repeated.
    """
    from tinyforge.models.resolve import resolve
    from tinyforge.train.distributed import join

    source = existing(data)
    world = join(config.train)
    base = resolve(config.base)
    run = Run.create(out, "train")
    with run.lock():
        job = Job(run, say, world=world)
        kept = world.on_first(lambda: _kept_config(run, config))
        job.keep_config(kept)
        rows = read_stage(job, source, base, config)
        learned, names = rows, SETS
        if asks(rows["objective"], config.train):
            answered = answers(job, rows, config, lambda name: examples_of(run, name), SETS)
            learned = {**rows, "key": answered["key"], "objective": "sft"}
            names = tuple(f"{PREFIX}{name}" for name in SETS)
        if auto:
            config = _auto(job, learned, base, config, names)
        summary = {**_train_stage(job, learned, base, config, on_status, names), "data": rows}
        job.keep_config(kept, trained=True)
        if learned is not rows:
            summary["answers"] = answered
        write_json(run.path("train.json"), summary)
        if not job.seconds:
            say("", "nothing changed since the last training; its result was reused")
        return summary


def existing(data: str | Path) -> Path:
    """Raises InputError when there is nothing."""
    source = Path(data)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.", "Give training data, such as a .jsonl file.")
    return source


def _kept_config(run: Run, config: Config) -> dict[str, Any]:
    """The configuration as the run keeps it: the persona under the stand-in that the rows have for them."""
    from tinyforge.ingest.pseudonyms import Pseudonyms

    kept = config.model_dump()
    if config.chats.persona and not config.chats.keep_pii:
        pseudonyms = Pseudonyms(run.folder)
        kept["chats"]["persona"] = pseudonyms.person([config.chats.persona])
        pseudonyms.save()
    return kept


def _read(source: Path, run: Run, config: Config) -> RowSet:
    """Rows, or a chat's conversations where it is said whose turns to learn; stand-ins are kept in the run."""
    from tinyforge.dataset.rows import read_rows

    if not config.chats.persona:
        return read_rows(source)
    from tinyforge.dataset.convert import read_any
    from tinyforge.ingest.pool import Limits
    from tinyforge.ingest.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms(run.folder)
    limits = Limits(config.ingest.timeout_seconds, config.ingest.memory_mb)
    found = read_any([source], config.chats, pseudonyms, limits)
    if not config.chats.keep_pii:
        pseudonyms.save()
    return found


def fingerprint(source: Path) -> list[list[str]]:
    """Names and hashes of the files that hold the data."""
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    return [[str(path.relative_to(source)), hash_file(path)] for path in files]


def read_stage(job: Job, source: Path, base: Base, config: Config) -> dict[str, Any]:
    """Stage ``data``: the rows read, judged and split into dataset/{train,dev}.jsonl.

    Raises InputError when there are none.
    """
    from transformers import AutoConfig

    from tinyforge.dataset.holdout import hold_out, with_known_classes
    from tinyforge.models.family import family
    from tinyforge.train.choose import choose_objective

    def work(key: str) -> dict[str, Any]:
        found = _read(source, job.run, config)
        wanted = config.train.objective
        if wanted == "auto":
            kind = family(AutoConfig.from_pretrained(base.folder, trust_remote_code=config.trust_remote_code))
            wanted, why = choose_objective(found.kind, found.examples, kind)
        else:
            why = "as asked"
        sides = hold_out(found.examples, config.dataset.validation_split, config.seed)
        if wanted == "classify":
            sides = with_known_classes(sides)
        for name in SETS:
            write_jsonl(job.run.path("dataset", f"{name}.jsonl"), (e.to_json() for e in getattr(sides, name)))
        shapes = ", ".join(f"{count:,} of {shape}" for shape, count in found.shapes.items())
        job.say("data", f"{len(found.examples):,} rows: {shapes}")
        for reason, count in found.reasons.items():
            first = next(row for row in found.dropped if row.reason == reason)
            job.say("data", f"{count:,} left out: {reason} (first {first.place})")
        for note in found.notes:
            job.say("data", note)
        job.say("data", sides.note)
        job.say("data", f"objective {wanted}: {why}")
        return {**found.to_json(), "key": key, "objective": wanted, "why": why, "note": sides.note}

    inputs = [__version__, fingerprint(source), base.hash, config.train.objective]
    chats = config.chats.model_dump() if config.chats.persona else {}
    return job.stage("data", [*inputs, config.dataset.validation_split, config.seed, chats], work)


def _train_stage(
    job: Job,
    rows: dict[str, Any],
    base: Base,
    config: Config,
    on_status: Callable[[Status], None],
    names: Sequence[str],
) -> dict[str, Any]:
    inputs = [rows["key"], base.hash, config.train.decisive(), config.dataset.max_length, config.seed]
    inputs.append(replay_inputs(config.train))
    if rows["objective"] == "distill" and config.train.teacher:
        inputs.append(identity(config.train.teacher))

    def work(key: str) -> dict[str, Any]:
        train_rows, dev_rows = (examples_of(job.run, name) for name in names)
        return {"key": key, **tune(job, key, base, train_rows, dev_rows, config, on_status, rows["objective"])}

    trained = job.stage("train", inputs, work, together=True, trains=True)
    if job.world.first:
        shutil.rmtree(job.run.path("checkpoints"), ignore_errors=True)
    return trained


def _auto(job: Job, rows: dict[str, Any], base: Base, config: Config, names: Sequence[str]) -> Config:
    from tinyforge.pipeline.auto import settle_auto

    train_rows, dev_rows = (examples_of(job.run, name) for name in names)
    picked = settle_auto(job, base, (train_rows, dev_rows), config, rows["objective"])
    for line in picked.lines():
        job.say("train", line)
    return picked.apply(config)


def examples_of(run: Run, name: str) -> list[Example]:
    """The rows of a side, ``train`` or ``dev``, or of one with a teacher's answers."""
    return [Example.from_json(row) for row in read_jsonl(run.path("dataset", f"{name}.jsonl"))]

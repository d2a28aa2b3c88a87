"""A person's documents into a tuned model they can talk to: the main job, stage by stage.

documents -> index -> examples -> dataset -> train -> evaluate -> report; each arrow is a file in the run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.dataset import dataset_stages
from tinyforge.pipeline.examples import SPLITS, read_documents, read_examples
from tinyforge.pipeline.replay import replay_inputs
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, read_json

if TYPE_CHECKING:
    from tinyforge.models.resolve import Base
    from tinyforge.train.status import Status


@dataclass(frozen=True)
class Watch:
    """How the job tells a person what it does: stages and notes, training steps, and counts of finished things."""

    say: Callable[[str, str], None] = lambda stage, note: None
    on_status: Callable[[Status], None] = lambda status: None
    count: Callable[[str, int, int], None] = lambda name, done, total: None


def build(sources: Sequence[str | Path], out: str | Path, config: Config, watch: Watch, command: str) -> dict[str, Any]:
    """Run every stage that is not done yet and return the report (also ``out/report.json`` and ``report.html``).

    ``command`` is what the person typed, for the report. Raises InputError for sources, base or folder that cannot be
    used; whatever stage was finished before stays and is not repeated.
    """
    from tinyforge.evaluate.metrics import expanded, find_metrics
    from tinyforge.ingest import fingerprint
    from tinyforge.models.resolve import resolve
    from tinyforge.train.distributed import join

    if config.train.objective not in ("auto", "sft"):
        raise InputError(
            f"train.objective = {config.train.objective}: a build learns the questions that it writes (sft).",
            "Train otherwise on its rows: tinyforge train RUN/dataset/train.jsonl; or tinyforge distill RUN.",
        )
    inputs = fingerprint(sources, config.ingest)  # these refuse before anything is written
    find_metrics(expanded(config.evaluate.metrics))
    world = join(config.train)
    base = resolve(config.base)
    run = Run.create(out, "build", continues=("ingest", "synthesize"))
    with run.lock():
        job = Job(run, watch.say, world=world, count=watch.count)
        job.keep_config(config.model_dump())
        dataset = dataset_stages(job, sources, inputs, base, config)["dataset"]
        train_key = _train_stage(job, dataset["key"], base, config, watch)
        job.keep_config(config.model_dump(), trained=True)
        _evaluate_stage(job, train_key, base, config, watch, command)
        report: dict[str, Any] = read_json(run.path("report.json"))
        if not job.seconds:
            watch.say("", "nothing changed since the last build; everything was reused")
        return report


def _train_stage(job: Job, dataset_key: str, base: Base, config: Config, watch: Watch) -> str:
    from tinyforge.pipeline.tune import tune

    settings = config.train.decisive()
    inputs = [dataset_key, base.hash, settings, config.dataset.max_length, config.seed, replay_inputs(config.train)]

    def work(key: str) -> dict[str, Any]:
        train, dev = read_examples(job.run, "train"), read_examples(job.run, "dev")
        return {"key": key, **tune(job, key, base, train, dev, config, watch.on_status)}

    trained = job.stage("train", inputs, work, together=True, trains=True)
    # Only now: a kill just before the stage is recorded must find something to continue from.
    if job.world.first:
        shutil.rmtree(job.run.path("checkpoints"), ignore_errors=True)
    return str(trained["key"])


def _evaluate_stage(job: Job, train_key: str, base: Base, config: Config, watch: Watch, command: str) -> None:
    from tinyforge.evaluate.metrics.own import file_hashes
    from tinyforge.pipeline.examine import examine

    def work(key: str) -> dict[str, Any]:
        sets = {name: read_examples(job.run, name) for name in SPLITS}
        report = examine(job, read_documents(job.run), sets, config, watch.count, command)
        return {"key": key, "verdict": report["verdict"], "choice": report["choice"]}

    own = file_hashes(config.evaluate.metrics)
    inputs = [train_key, config.evaluate.model_dump(), own, config.retrieve.model_dump(), config.seed]
    job.stage("evaluate", inputs, work)

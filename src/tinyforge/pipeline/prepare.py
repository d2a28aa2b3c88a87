"""Everything before the first step of a fine-tuning: the base loaded, the examples encoded, adapters attached."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config, TrainConfig
from tinyforge.errors import InputError
from tinyforge.pipeline.stages import Job
from tinyforge.records import Example, Tokens
from tinyforge.train.distributed import ALONE, World

if TYPE_CHECKING:
    from tinyforge.dataset.render import RenderReport
    from tinyforge.models.resolve import Base
    from tinyforge.train.loop import Training
    from tinyforge.train.rows import EncodedRows

HANDFUL = 20  # rows


@dataclass
class Prepared:
    """A base that can be trained at once. ``loading`` is the most bytes held until then.

    ``guard`` is what was measured of the base (see ``pipeline.guard``), in ``guard_seconds``.
    """

    model: Any
    tokenizer: Any
    learner: Any
    rows: EncodedRows
    dev: EncodedRows
    settings: TrainConfig
    learning_rate: float
    method: str
    labels: list[str]
    parameters: int
    precision: str
    threads: int
    device: str
    rendered: RenderReport
    dev_rendered: RenderReport
    guard: Any
    guard_seconds: float
    replay: dict[str, Any] | None
    loading: int

    @property
    def trained(self) -> int:
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def training(self, folder: Path, seed: int, world: World = ALONE) -> Training:
        """To be planned, not run: nothing names it, and nobody hears of it."""
        from tinyforge.train.loop import Training

        dev = self.dev if len(self.dev) else None
        return Training(
            self.model,
            self.learner,
            self.rows,
            dev,
            self.settings,
            self.learning_rate,
            folder,
            "plan",
            seed,
            world=world,
        )


def prepare(
    job: Job, base: Base, train: Sequence[Example], dev: Sequence[Example], config: Config, objective: str
) -> Prepared:
    """Raises InputError when the examples would train badly, or the base cannot learn them."""
    from tinyforge.models.machine import PeakMemory

    with PeakMemory() as held:
        prepared = _prepare(job, base, train, dev, config, objective)
        prepared.loading = held.value()
    return prepared


def _prepare(
    job: Job, base: Base, train: Sequence[Example], dev: Sequence[Example], config: Config, objective: str
) -> Prepared:
    from tinyforge import adapters
    from tinyforge.dataset.pairs import classes_of
    from tinyforge.models.family import load_for, longest_input
    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import count_parameters, load_tokenizer
    from tinyforge.pipeline.guard import Guard
    from tinyforge.pipeline.replay import check_replay, replay_rows
    from tinyforge.train.device import choose_device
    from tinyforge.train.rows import EncodedRows

    settings = config.train
    check_replay(settings, objective)
    threads, device = set_threads(settings.threads), choose_device(settings.device)
    precision = job.world.share(settle_precision(job.run.folder, settings.precision, device.type))
    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    parameters = count_parameters(base.folder)
    method = adapters.choose_method(settings.method, parameters)
    labels = classes_of(train) if objective == "classify" else []
    model: Any = load_for(
        objective,
        base.folder,
        precision,
        labels,
        tokenizer.pad_token_id,
        config.seed,
        config.trust_remote_code,
        adapters.quantization(method),
    )
    learner = make_objective(objective, tokenizer, config, labels, device)
    rows, rendered = encode(objective, learner, train, model, tokenizer, config)
    dev_rows, dev_rendered = encode(objective, learner, dev, model, tokenizer, config, rendered)
    settings = settings.model_copy(update={"epochs": settings.epochs or enough_epochs(rows, settings)})
    if device.type != "cpu":
        model.to(device)
    longest = longest_input(model.config, tokenizer, config.dataset.max_length)
    began = time.perf_counter()
    guard = Guard.begin(job, objective, model, tokenizer, longest, settings)
    guard_seconds = time.perf_counter() - began
    mixed_in = None
    if settings.replay_share:
        general, mixed_in = replay_rows(job, model, tokenizer, rows, base, config, longest)
        rows = [*rows, *general]
    if method != "full":
        model = adapters.attach(model, settings, config.seed)
    if device.type != "cpu":
        model.to(device)
    return Prepared(
        model=model,
        tokenizer=tokenizer,
        learner=learner,
        rows=EncodedRows(rows),
        dev=EncodedRows(dev_rows),
        settings=settings,
        learning_rate=settings.learning_rate or adapters.default_learning_rate(method, parameters),
        method=method,
        labels=list(labels),
        parameters=parameters,
        precision=precision,
        threads=threads,
        device=device.type,
        rendered=rendered,
        dev_rendered=dev_rendered,
        guard=guard,
        guard_seconds=guard_seconds,
        replay=mixed_in,
        loading=0,
    )


def make_objective(name: str, tokenizer: Any, config: Config, labels: Sequence[str], device: Any) -> Any:
    from tinyforge.models.machine import choose_precision
    from tinyforge.models.resolve import load_model, load_tokenizer, resolve
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.objectives.distill import check_same_tokenizer

    make = load("train", name, OBJECTIVES)
    if name == "classify":
        return make(tokenizer.pad_token_id, config.train, labels)
    learner = make(tokenizer.pad_token_id, config.train)
    if name == "distill" and config.train.teacher:
        teacher = resolve(config.train.teacher)
        check_same_tokenizer(tokenizer, load_tokenizer(teacher.folder, config.trust_remote_code))
        precision = choose_precision(config.train.precision, device.type)
        learner.teacher = load_model(teacher.folder, precision, config.trust_remote_code).to(device)
    return learner


def encode(
    name: str,
    learner: Any,
    examples: Sequence[Example],
    model: Any,
    tokenizer: Any,
    config: Config,
    train: RenderReport | None = None,
) -> tuple[list[Tokens], RenderReport]:
    """Rows of the objective; those of conversations and running text are also checked for a stop token.

    Of a preference pair the better answer is learned, and ``pretrain`` learns every token. For dev rows, ``train`` is
    the training rows' report: how many are too long is counted for both together, as a set may have few dev rows.
    Raises InputError for texts with labels, in which there is nothing to write.
    """
    from tinyforge.dataset.render import render_all, stop_ids
    from tinyforge.models.family import longest_input
    from tinyforge.train.encoding import encode_all

    longest = longest_input(model.config, tokenizer, config.dataset.max_length)
    if name in ("sft", "distill", "pretrain"):
        if any(example.kind == "labelled" for example in examples):
            raise InputError(
                f"train.objective = {name}: rows with labels hold nothing to write.",
                "Use classify, or leave the option away.",
            )
        examples = [replace(example, rejected="") for example in examples]
        everything = config.train.all_tokens or name == "pretrain"
        stops, beside = stop_ids(model, tokenizer), train.targets if train else 0
        return render_all(examples, tokenizer, longest, stops, everything=everything, beside=beside)
    return encode_all(learner, examples, tokenizer, longest, train.rows if train else 0)


def enough_epochs(rows: Sequence[Tokens], settings: TrainConfig) -> float:
    """Three passes, or more where they come to fewer than 200 steps: a small set needs as many steps as a larger one.

    At most ten, so that a small set is not read hundreds of times; forty for a handful, to be learned by heart.
    """
    from tinyforge.dataset.batches import plan_epoch

    batches = plan_epoch([len(row.ids) for row in rows], settings.batch_tokens, 0, 0, settings.batch_rows)
    most = 10.0 if len(rows) >= HANDFUL else 40.0
    return float(min(most, max(3.0, 200 * settings.accumulation / len(batches))))

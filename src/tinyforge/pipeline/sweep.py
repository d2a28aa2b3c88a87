"""Many trainings of the same data that differ in a few options, and which of them learned most.

DIR/trials/NNN/       each one an ordinary run of ``tinyforge train``; 000 has the settings as they are
DIR/trials/NNN.json   what was tried there, and how it went
DIR/sweep.json, DIR/best.yaml
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tinyforge.config import Config
from tinyforge.errors import InputError, TrainingError
from tinyforge.pipeline import search
from tinyforge.pipeline.search import Option, Trial, Value
from tinyforge.pipeline.teacher import identity
from tinyforge.pipeline.train import fingerprint, train
from tinyforge.run import Run, read_json, write_json, write_text

if TYPE_CHECKING:
    from tinyforge.train.status import Status

RECIPE = "best.yaml"
_ENOUGH = "It needs a dev loss to compare trials by."


class _Pruned(Exception):  # noqa: N818 - no error: how a training that is not worth going on with ends
    pass


class _OutOfTime(Exception):  # noqa: N818
    pass


def sweep(
    data: str | Path,
    out: str | Path,
    config: Config,
    over: Sequence[str] = (),
    trials: int = 12,
    minutes: float = 0.0,
    keep: bool = False,
    say: Callable[[str, str], None] = lambda stage, note: None,
    on_status: Callable[[Status], None] = lambda status: None,
) -> dict[str, Any]:
    """Train ``trials`` times (at most ``minutes``, 0 sets no limit) into ``out``; returns what is also in sweep.json.

    ``over`` holds options to search besides those of ``search.around``, as :func:`search.parse` reads them. Only the
    best trial's weights are kept, unless ``keep``. The same call continues a sweep that was stopped.
    Raises InputError for what cannot be used, before anything is trained, and TrainingError when no trial finished.
    """
    from tinyforge.models.resolve import resolve

    search.library()
    options = [search.parse(text, config) for text in over]
    source = Path(data)
    if not source.exists():
        raise InputError(f"{source}: no such file or folder.", "Give training data, such as a .jsonl file.")
    if not config.dataset.validation_split:
        raise InputError("a sweep cannot do with dataset.validation_split = 0.", f"{_ENOUGH} 0.1 keeps a tenth.")
    base = resolve(config.base)
    run = Run.create(out, "sweep")
    with run.lock():
        _same_sweep(run, source, base.hash, config, over)
        precision = _precision(run, config)
        work = _Sweep(run, source, config, precision, options, trials, 60 * minutes, keep, say, on_status)
        return work.run_all()


def _same_sweep(run: Run, source: Path, base: str, config: Config, over: Sequence[str]) -> None:
    """Note what the trials are made from, or raise InputError when the folder's are made from something else."""
    path = run.path("inputs.json")
    given = {
        "data": fingerprint(source),
        "base": base,
        "train options": config.train.decisive(),
        "fixed options": sorted(config.train.model_fields_set),
        "dataset options": [config.dataset.validation_split, config.dataset.max_length],
        "seed": config.seed,
        "--over": sorted(over),
        "teacher": identity(config.train.teacher) if config.train.teacher else "",
    }
    if not path.is_file():
        write_json(path, given)
        return
    changed = [name for name, value in read_json(path).items() if given[name] != value]
    if changed:
        raise InputError(
            f"{run.folder}: holds a sweep with other {', '.join(changed)}.", "Give --out a new folder, or the same."
        )


def _precision(run: Run, config: Config) -> str:
    """Chosen once: a probe before each trial could come out differently."""
    from tinyforge.models.machine import settle_precision
    from tinyforge.train.device import choose_device

    return settle_precision(run.folder, config.train.precision, choose_device(config.train.device).type)


@dataclass
class _Sweep:
    run: Run
    data: Path
    config: Config
    precision: str
    options: list[Option]
    wanted: int
    limit: float
    keep: bool
    say: Callable[[str, str], None]
    on_status: Callable[[Status], None]
    trials: list[Trial] = field(default_factory=list)

    def run_all(self) -> dict[str, Any]:
        self.trials = [_read(path) for path in sorted(self.run.path("trials").glob("*.json"))]
        self._deadline = time.monotonic() + self.limit - sum(trial.seconds for trial in self.trials)
        for number in range(self.wanted):
            trial = self.trials[number] if number < len(self.trials) else self._next(number)
            if trial is None:
                self.say("", "every setting was tried")
                break
            if trial.state == "running" and not self._try(trial):
                self.say("", "the time is up")
                break
            self._drop_losers()
        return self._result()

    def _next(self, number: int) -> Trial | None:
        values = search.propose(self._space(), self.trials, self.config.seed, number) if number else {}
        if values is None:
            return None
        self.trials.append(Trial(number, values))
        return self.trials[-1]

    def _space(self) -> list[Option]:
        """The options of ``search.around`` the first trial, with those that were asked for in their place or added."""
        around = search.around(self.config, read_json(self._folder(0) / "train.json"))
        return list({option.key: option for option in [*around, *self.options]}.values())

    def _folder(self, number: int) -> Path:
        return self.run.path("trials", f"{number:03d}")

    def _try(self, trial: Trial) -> bool:
        """Train with the trial's values, from where it stopped; False when the time ended before it did."""
        if self.limit and time.monotonic() > self._deadline:
            return False
        shown = describe(trial.values) if trial.number else "the settings as they are"
        self.say(f"trial {trial.number} ({trial.number + 1} of {self.wanted}): {shown}", "")
        self._write(trial)
        began = time.monotonic()
        try:
            self._train(trial)
        except _OutOfTime:
            return False
        finally:
            trial.seconds += time.monotonic() - began
            self._write(trial)
        best = trial is self.best()
        loss = "" if trial.dev_loss is None else f"dev loss {trial.dev_loss:.4f}{', the best so far' if best else ''}"
        self.say("", loss or f"{trial.state}: {trial.why}")
        return True

    def _train(self, trial: Trial) -> None:
        folder, evaluations = self._folder(trial.number), self.config.train.evaluations
        trial.measured = _measured(folder, evaluations)

        def watch(status: Status) -> None:
            self.on_status(status)
            if status.dev_loss is not None:
                trial.measured[_place(status.step, status.total, evaluations)] = round(status.dev_loss, 6)
                trial.steps = status.step
                self._judge(trial)
            if self.limit and time.monotonic() > self._deadline and status.step < status.total:
                raise _OutOfTime

        try:
            self._judge(trial)
            config = search.with_values(self.config, {"train.precision": self.precision, **trial.values})
            summary = train(self.data, folder, config, self._heard(trial), watch)
        except _Pruned:
            trial.state, trial.why = "pruned", f"after {max(trial.measured) / evaluations:.0%}, worse than the median"
        except (TrainingError, InputError) as error:
            if not trial.number:  # there is nothing to search around
                raise
            trial.state, trial.why = "failed", error.message
        else:
            trial.state, trial.dev_loss, trial.steps = "finished", summary["dev_loss"], summary["steps"]
            if not trial.number:
                trial.values = {option.key: _value_of(option.key, summary, self.config) for option in self._space()}

    def _judge(self, trial: Trial) -> None:
        evaluations = self.config.train.evaluations
        before_end = trial.measured and max(trial.measured) < evaluations
        others = [other for other in self.trials if other is not trial]
        if trial.number and before_end and search.hopeless(others, trial.measured, evaluations):
            raise _Pruned

    def _heard(self, trial: Trial) -> Callable[[str, str], None]:
        """What a training says; the notes on the data, which is the same for all, only once."""

        def say(stage: str, note: str) -> None:
            if stage == "train" and not note and not (self._folder(trial.number) / "dataset/dev.jsonl").stat().st_size:
                raise InputError(f"{self.data}: no rows are held out for the dev loss.", f"{_ENOUGH} Give more rows.")
            if note and (stage != "data" or not trial.number):
                self.say(stage, note)

        return say

    def _write(self, trial: Trial) -> None:
        write_json(self.run.path("trials", f"{trial.number:03d}.json"), asdict(trial))

    def best(self) -> Trial | None:
        done = [trial for trial in self.trials if trial.dev_loss is not None]
        return min(done, key=lambda trial: (trial.dev_loss, trial.number), default=None)

    def _drop_losers(self) -> None:
        """Remove the weights of all but the best trial; their runs no longer say that they were trained."""
        best = self.best()
        for trial in self.trials:
            if self.keep or trial is best or trial.state == "running":
                continue
            folder = self._folder(trial.number)
            Run(folder).forget("train")
            for name in ("model", "adapter", "checkpoints"):
                shutil.rmtree(folder / name, ignore_errors=True)

    def _result(self) -> dict[str, Any]:
        best = self.best()
        if best is None:
            raise TrainingError("no trial has finished.", "The same command, with more --minutes, continues.")
        chosen = best.values if best.number else {}
        found = {
            "base": self.config.base,
            "trials": [asdict(trial) for trial in self.trials],
            "best": asdict(best),
            "run": str(self._folder(best.number)),
            "recipe": str(self.run.path(RECIPE)),
        }
        write_text(self.run.path(RECIPE), self._recipe(best, chosen))
        write_json(self.run.path("sweep.json"), found)
        return found

    def _recipe(self, best: Trial, chosen: Mapping[str, Value]) -> str:
        config = search.with_values(self.config, chosen)
        differing = _differing(config.model_dump(), Config().model_dump())
        # These are said on the command line alone: the one is a risk, the other names a person.
        differing.pop("trust_remote_code", None)
        differing.pop("chats", None)
        head = f"# The best of {len(self.trials)} trials: number {best.number}, dev loss {best.dev_loss:.4f}.\n"
        return head + yaml.safe_dump(differing, sort_keys=False, allow_unicode=True)


def _read(path: Path) -> Trial:
    kept = read_json(path)
    return Trial(**{**kept, "measured": {int(place): loss for place, loss in kept["measured"].items()}})


def _measured(folder: Path, evaluations: int) -> dict[int, float]:
    """The dev losses that an earlier process saw in this training."""
    steps = Run(folder).events("step") if folder.is_dir() else []
    return {_place(s["step"], s["total"], evaluations): s["dev_loss"] for s in steps if s["dev_loss"] is not None}


def _place(step: int, total: int, evaluations: int) -> int:
    return evaluations * step // total


def _value_of(key: str, summary: Mapping[str, Any], config: Config) -> Value:
    """What an option was in the first trial, where some are chosen by the training itself."""
    name = key.removeprefix("train.")
    chosen: Value = summary[name] if name in ("learning_rate", "epochs", "method") else getattr(config.train, name)
    return chosen


def _differing(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = _differing(value, defaults[name]) if isinstance(value, dict) else value
        if inner != defaults[name] and inner != {}:
            found[name] = inner
    return found


def describe(values: Mapping[str, Value]) -> str:
    """``learning_rate 0.001, lora_rank 8``."""
    return ", ".join(f"{key.removeprefix('train.')} {value}" for key, value in values.items())

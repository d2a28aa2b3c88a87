"""What a sweep tries: the options with the values they may take, and what Optuna proposes after the trials so far.

Nothing of Optuna is kept between two calls: a study is made anew from the trials, and its sampler is seeded by the
trial's number. So a sweep that was killed goes on exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import yaml
from pydantic import ValidationError

from tinyforge.adapters.methods import LORA, check
from tinyforge.config import Config, TrainConfig
from tinyforge.errors import InputError
from tinyforge.records import content_id

Value = bool | int | float | str

RANDOM_TRIALS = 5  # before the sampler (TPE, Bergstra et al. 2011) has enough to go by
PRUNE_AFTER = 4  # finished trials: a median of fewer says little
FREE_SHARE = 0.25  # of a trial, at its start, in which it is never pruned: a warm-up tells nothing
_ATTEMPTS = 40  # proposals until one is new
_MEASURES = frozenset(
    "objective preference_loss preference_beta teacher distill_temperature distill_share all_tokens".split()
)
"""Options that change what the dev loss measures: trials that differ in them cannot be compared by it."""
_EXAMPLE = "For example: --over train.weight_decay=0,0.01,0.1 or --over train.learning_rate=1e-5..1e-3:log"


@dataclass(frozen=True)
class Choice:
    """An option that takes one of these values."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Range:
    """An option that takes a number between the two, on a logarithmic scale or not; ``whole``: an integer."""

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False


Option = Choice | Range


@dataclass
class Trial:
    """One setting that was tried. ``measured`` holds dev losses by how far the training was, in evaluations.

    ``state`` is running (also when it was stopped and can go on), finished, pruned or failed; ``why`` says more.
    """

    number: int
    values: dict[str, Value]
    state: str = "running"
    dev_loss: float | None = None
    measured: dict[int, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    why: str = ""


def library() -> Any:
    """Optuna, quiet. Raises InputError when it is not installed."""
    if find_spec("optuna") is None:
        raise InputError("a sweep needs Optuna, which is not installed.", 'Run: pip install "tinyforgeai[sweep]"')
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def with_values(config: Config, values: Mapping[str, Value]) -> Config:
    """The configuration with these options; ``lora_alpha`` keeps its ratio to a rank that changes.

    Raises InputError naming the option and its limit for a value that it does not take.
    """
    changes: dict[str, Any] = {key.removeprefix("train."): value for key, value in values.items()}
    if "lora_rank" in changes and "lora_alpha" not in changes and isinstance(changes["lora_rank"], int):
        changes["lora_alpha"] = config.train.lora_alpha / config.train.lora_rank * changes["lora_rank"]
    try:
        train = TrainConfig.model_validate({**config.train.model_dump(), **changes})
    except ValidationError as failure:
        first = failure.errors()[0]
        key = first["loc"][0]
        raise InputError(f"--over train.{key}={first['input']}: {first['msg']}.", _EXAMPLE) from None
    return config.model_copy(update={"train": train})


def parse(text: str, config: Config) -> Option:
    """``KEY=a,b,c`` or ``KEY=low..high`` or ``KEY=low..high:log``; every value is checked. Raises InputError."""
    key, _, wanted = text.partition("=")
    name = key.removeprefix("train.")
    field_ = TrainConfig.model_fields.get(name)
    if not wanted or not key.startswith("train.") or field_ is None:
        raise InputError(f"--over {text}: expected train.OPTION=VALUES.", _EXAMPLE)
    if name in _MEASURES:
        raise InputError(f"--over {key}: it changes what the dev loss measures.", "Sweep once for each of its values.")
    if name not in config.train.decisive():
        raise InputError(f"--over {key}: it does not change what is learned.", _EXAMPLE)
    option: Option
    if ".." in wanted:
        option = found = _range(text, key, wanted, field_.annotation)
        values: list[Value] = [round(end) if found.whole else end for end in (found.low, found.high)]
    else:
        values = [_value(text, part, field_.annotation) for part in wanted.split(",")]
        option = Choice(key, tuple(dict.fromkeys(values)))
    for value in values:
        with_values(config, {key: value})
        if key == "train.method" and value != "auto":
            check(str(value))
    return option


def _range(text: str, key: str, wanted: str, kind: Any) -> Range:
    bounds, _, scale = wanted.partition(":")
    try:
        low, high = (float(part) for part in bounds.split(".."))
    except ValueError:
        raise InputError(f"--over {text}: expected LOW..HIGH, two numbers.", _EXAMPLE) from None
    whole = kind is int
    if kind not in (int, float) or (whole and (low % 1 or high % 1)):
        raise InputError(f"--over {text}: {key} takes no such range.", "List its values: --over KEY=a,b,c")
    log = scale == "log"
    if scale not in ("", "log") or not low < high or (log and low <= 0):
        raise InputError(f"--over {text}: LOW must be below HIGH, and with :log above 0.", _EXAMPLE)
    return Range(key, low, high, log, whole)


def _value(text: str, part: str, kind: Any) -> Value:
    try:
        value = yaml.safe_load(part)
        found = float(value) if kind is float else value  # YAML reads 1e-3 as text
    except (yaml.YAMLError, TypeError, ValueError):
        found = None
    if not isinstance(found, (bool, int, float, str)):
        raise InputError(f"--over {text}: {part!r} is no value of it.", _EXAMPLE)
    return found


def around(config: Config, summary: Mapping[str, Any]) -> list[Option]:
    """What is searched when nothing else is said: near what a first training chose, but for what is set.

    Learning rates from a fifth to five times of it, half to twice its passes, and where LoRA is trained, ranks from a
    quarter to four times.
    """
    rate, epochs, rank = float(summary["learning_rate"]), float(summary["epochs"]), config.train.lora_rank
    options: list[Option] = [Range("train.learning_rate", _short(rate / 5), _short(rate * 5), log=True)]
    if config.train.optimizer == "muon":
        rate = config.train.muon_learning_rate
        options.append(Range("train.muon_learning_rate", _short(rate / 5), _short(rate * 5), log=True))
    if summary["method"] in LORA:
        options.append(Choice("train.lora_rank", tuple(sorted({max(1, int(rank * f)) for f in (0.25, 0.5, 1, 2, 4)}))))
    options.append(Choice("train.epochs", (_short(epochs / 2), epochs, _short(epochs * 2))))
    return [option for option in options if option.key.removeprefix("train.") not in config.train.model_fields_set]


def _short(value: float) -> float:
    """Three digits: what a person can copy."""
    return float(f"{value:.3g}")


def propose(space: Sequence[Option], trials: Sequence[Trial], seed: int, number: int) -> dict[str, Value] | None:
    """Values for trial ``number`` that were not tried before; None when none is left to be found.

    Equal arguments always give equal values.
    """
    optuna = library()
    tried = [trial.values for trial in trials]
    for attempt in range(_ATTEMPTS):
        chance = int(content_id("sweep", str(seed), str(number), str(attempt))[:8], 16)
        sampler = optuna.samplers.TPESampler(seed=chance, n_startup_trials=RANDOM_TRIALS, multivariate=True)
        if attempt > _ATTEMPTS // 2:  # it may insist on what it knows to be good
            sampler = optuna.samplers.RandomSampler(seed=chance)
        study = _study(optuna, trials, space, sampler=sampler)
        asked = study.ask({option.key: _distribution(optuna, option) for option in space})
        values = {option.key: _readable(option, asked.params[option.key]) for option in space}
        if values not in tried:
            return values
    return None


def hopeless(trials: Sequence[Trial], measured: Mapping[int, float], evaluations: int) -> bool:
    """Whether the best dev loss so far is worse than the median of the finished trials as far into their trainings.

    Trainings of other lengths are compared by the share that is done, for their learning rates fall with it.
    """
    optuna = library()
    pruner = optuna.pruners.MedianPruner(PRUNE_AFTER, n_warmup_steps=math.ceil(FREE_SHARE * evaluations))
    trial = _study(optuna, trials, (), pruner=pruner).ask()
    for place, loss in sorted(measured.items()):
        trial.report(loss, place)
    return bool(trial.should_prune())


def _study(optuna: Any, trials: Sequence[Trial], space: Sequence[Option], **parts: Any) -> Any:
    study = optuna.create_study(**parts)
    states = {"finished": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    for trial in trials:
        # Of a search over ``space`` a trial outside of it, such as the settings as they were, can tell nothing.
        if trial.state == "running" or not all(_holds(option, trial.values.get(option.key)) for option in space):
            continue
        made = optuna.trial.create_trial(
            state=states.get(trial.state, optuna.trial.TrialState.PRUNED),
            value=trial.dev_loss if trial.state == "finished" else None,
            params={option.key: trial.values[option.key] for option in space},
            distributions={option.key: _distribution(optuna, option) for option in space},
            intermediate_values=trial.measured,
        )
        study.add_trial(made)
    return study


def _distribution(optuna: Any, option: Option) -> Any:
    if isinstance(option, Choice):
        return optuna.distributions.CategoricalDistribution(option.values)
    if option.whole:
        return optuna.distributions.IntDistribution(round(option.low), round(option.high), log=option.log)
    return optuna.distributions.FloatDistribution(option.low, option.high, log=option.log)


def _holds(option: Option, value: Value | None) -> bool:
    if isinstance(option, Choice):
        return value in option.values
    return isinstance(value, (int, float)) and option.low <= value <= option.high


def _readable(option: Option, value: Any) -> Value:
    if isinstance(option, Choice) or option.whole:
        found: Value = value
        return found
    return min(max(_short(value), option.low), option.high)

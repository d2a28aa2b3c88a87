"""A metric of your own: one function in a Python file.

The file is run as a program would be, so its name is taken from the command line alone, never out of a recipe.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from tinyforge.errors import InputError
from tinyforge.evaluate.metrics.base import Metric
from tinyforge.run import hash_file

_SIGNATURE = "A metric is a function (prediction, example) -> float."


def is_file(name: str) -> bool:
    """Whether a metric's name is ``FILE.py:function``."""
    return name.rpartition(":")[0].endswith(".py") or name.endswith(".py")


def file_hashes(names: Sequence[str]) -> list[str]:
    """What the files among the metrics hold, so that a changed one is measured again."""
    places = [Path(name.rpartition(":")[0]) for name in names if is_file(name)]
    return [hash_file(place) for place in places if place.is_file()]


def from_file(name: str, taken: Sequence[str] = ()) -> tuple[str, Metric]:
    """The function's name and the function. Raises InputError, naming file and line, when there is no such metric."""
    place, _, wanted = name.rpartition(":")
    if not place or not wanted.isidentifier():
        raise InputError(f"--metric {name}: names no function.", "Say FILE.py:function, as in my_metrics.py:politeness")
    module = _run(Path(place))
    function = getattr(module, wanted, None)
    if not callable(function):
        defined = [n for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__]
        raise InputError(f"{place}: has no function {wanted!r}.", f"It has: {', '.join(defined) or 'none'}.")
    if wanted in taken:
        raise InputError(f"{place}: {wanted!r} is the name of another metric.", "Rename the function.")
    try:
        inspect.signature(function).bind("prediction", None)
    except TypeError:
        given = inspect.signature(function)
        raise InputError(f"{place}: {wanted}{given} cannot be called with two arguments.", _SIGNATURE) from None
    metric: Metric = function
    return wanted, metric


def _run(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"{path}: no such file.", "Give --metric FILE.py:function.")
    spec = spec_from_file_location(f"tinyforge_metric_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else 1
        raise InputError(f"{path}:{line}: {type(error).__name__}: {error}.", _SIGNATURE) from error
    return module

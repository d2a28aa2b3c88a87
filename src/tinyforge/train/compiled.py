"""The forward and backward pass of a training's model by ``torch.compile``, when asked for.

Only the training steps run compiled: a dev loss or a generated sample would each be compiled anew, for other shapes
and without gradients, and is a small part of the time.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.train.device import device_of


def compiling(model: Any, config: TrainConfig) -> AbstractContextManager[Any]:
    """A context, to be entered for each step, in which the model runs compiled where ``train.compile`` is on.

    Raises InputError when nothing here can compile, or the workers share the weights.
    """
    if config.compile == "off":
        return nullcontext()
    if config.accelerate_config:
        raise InputError("train.compile = on does not go with train.accelerate_config.", "Leave one of them out.")
    require_compiler(device_of(model).type)
    return _Compiled(model.get_base_model() if hasattr(model, "get_base_model") else model)


def require_compiler(device: str) -> None:
    """Raise InputError, with what to install, when torch could not compile for the device."""
    if device == "cuda":
        from importlib.util import find_spec

        if find_spec("triton") is None:
            raise InputError("train.compile = on needs Triton on a GPU.", "Run: pip install triton, or leave it off.")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise InputError(
            f"train.compile = on needs a C++ compiler; {compiler!r} is not found.",
            "Install one (Debian, Ubuntu: apt install g++), or leave it off.",
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        raise InputError(
            "train.compile = on needs Python's C headers, which are not found.",
            "Install them (Debian, Ubuntu: apt install python3-dev), or leave it off.",
        )


class _Compiled:
    """While entered, the model's blocks, which share one piece of compiled code, have a compiled forward.

    The whole model would be unrolled block by block: compiling 30 of them took more than a quarter of an hour.
    """

    def __init__(self, model: Any) -> None:
        import torch

        names = set(getattr(model, "_no_split_modules", None) or ())
        self._blocks = [module for module in model.modules() if type(module).__name__ in names] or [model.base_model]
        # Dynamic: rows of mixed lengths give a new shape with nearly every batch. Dropout draws as it does uncompiled.
        options: dict[str, Any] = {"fallback_random": True}
        self._forwards = [torch.compile(block.forward, dynamic=True, options=options) for block in self._blocks]

    def __enter__(self) -> None:
        self._before = [vars(block).get("forward") for block in self._blocks]
        for block, forward in zip(self._blocks, self._forwards, strict=True):
            block.forward = forward

    def __exit__(self, *_failure: object) -> None:
        for block, before in zip(self._blocks, self._before, strict=True):
            if before is None:
                del block.forward
            else:
                block.forward = before

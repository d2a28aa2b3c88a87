"""A student to be taught: some of the teacher's own blocks, or a model that has learned nothing yet."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch

from tinyforge.compress.blocks import blocks_of
from tinyforge.compress.depth import keep_blocks
from tinyforge.errors import InputError

_FORM = re.compile(r"(layers|scratch)(?::(\d+))?")


def is_made(name: str) -> bool:
    """Whether a student of this name is made from the teacher (``layers:N``, ``scratch``, ``scratch:N``)."""
    return _FORM.fullmatch(name) is not None


def make_student(teacher: Any, name: str, seed: int) -> Any:
    """``layers:N``: N of the teacher's blocks, evenly spaced from the first on, under its embedding and head, as in
    DistilBERT (Sanh et al. 2019). ``scratch``: the teacher's shape, ``scratch:N`` with N blocks, drawn from ``seed``.

    Raises InputError for a number of blocks that the teacher does not have.
    """
    found = _FORM.fullmatch(name)
    total = len(blocks_of(teacher))
    if found is None or (found[1] == "layers" and found[2] is None):
        raise InputError(f"--student {name}: is no student.", "Give a run, a base, layers:N, scratch or scratch:N.")
    count = int(found[2] or total)
    if not 0 < count <= total:
        raise InputError(f"--student {name}: the teacher has {total} blocks.", f"Give 1 to {total}.")
    student = keep_blocks(teacher, [number * total // count for number in range(count)])
    return student if found[1] == "layers" else _untaught(student, seed)


def _untaught(model: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    made = type(model)(copy.deepcopy(model.config)).to(model.dtype)
    made.generation_config = copy.deepcopy(model.generation_config)
    return made

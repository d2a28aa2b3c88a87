"""Find what a name stands for: a stage's own table first, then installed plug-ins."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from tinyforge.errors import InputError


def load(stage: str, name: str, table: Mapping[str, str]) -> Any:
    """The object behind ``name``: ``table[name]`` is ``"module:object"``, imported on use.

    A name that is not in the table is looked up in the entry-point group ``tinyforge.<stage>``.
    Raises InputError, listing the known names, when neither has it.
    """
    if name in table:
        module, _, attribute = table[name].partition(":")
        return getattr(import_module(module), attribute)
    plugins = {point.name: point for point in entry_points(group=f"tinyforge.{stage}")}
    if name in plugins:
        return plugins[name].load()
    known = ", ".join(sorted({*table, *plugins}))
    raise InputError(f"unknown {stage} {name!r}.", f"Known: {known}.")

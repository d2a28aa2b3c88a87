"""What each ``--to`` does: write its files into an empty folder, and open them again to be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.export.source import Source

if TYPE_CHECKING:
    from tinyforge.export.runners import Runner
    from tinyforge.models.predict import Predictor


@dataclass(frozen=True)
class Target:
    """``types`` are what ``--type`` may be, the default first.

    ``check`` raises InputError, before anything is loaded, when this source cannot be exported so. ``write`` fills an
    empty folder and returns what is worth telling. ``open`` gives the artifact as a Runner where the source writes,
    and as a Predictor where it classifies or the like.
    """

    types: tuple[str, ...]
    check: Callable[[Source, str], None]
    write: Callable[[Source, Path, str], dict[str, Any]]
    open: Callable[[Source, Path, str], Runner | Predictor]
    gelu_table: bool = False

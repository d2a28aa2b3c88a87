"""TinyForge: your documents in, your own small language model out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Trainer", "TrainingConfig", "__version__"]

if TYPE_CHECKING:
    from tinyforge.trainer import Trainer, TrainingConfig


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that ``import tinyforge`` stays light."""
    if name in ("Trainer", "TrainingConfig"):
        from tinyforge import trainer

        return getattr(trainer, name)
    raise AttributeError(f"module 'tinyforge' has no attribute {name!r}")

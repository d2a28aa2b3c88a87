"""``from backend.training.real_trainer import RealTrainer, TrainingConfig``: the tutorial's names for our own."""

from tinyforge.trainer import Trainer as RealTrainer
from tinyforge.trainer import TrainingConfig

__all__ = ["RealTrainer", "TrainingConfig"]

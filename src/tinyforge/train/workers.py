"""How a training uses its workers: each has the whole model, or (see ``sharding``) they share it among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tinyforge.config import TrainConfig
from tinyforge.train.device import Placed, device_of
from tinyforge.train.distributed import World, weights_digest
from tinyforge.train.objectives.base import Objective
from tinyforge.train.optimizer import MasterOptimizer


class Replicated:
    """Every worker has the whole model, its masters and its optimizer; only gradients travel.

    All of them do the same arithmetic on the same sums, so their weights stay the same bit for bit.
    """

    whole_model = True
    """Whether a worker may use the model without the others doing the same at the same time."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        world: World,
        config: TrainConfig,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._model, self._world, self._config, self.notes = model, world, config, notes
        device = device_of(model)
        self.objective: Any = objective if device.type == "cpu" else Placed(objective, device)

    def prepare(self, learning_rate: float) -> MasterOptimizer:
        """The optimizer of the model as it is now. Raises TrainingError when the workers' models differ."""
        if self._world.size > 1:
            self._world.check_same("weights", weights_digest(dict(self._model.named_parameters())))
        return MasterOptimizer(self._model, self._config, learning_rate)

    def add_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """Make the gradients of this worker's rows those of all workers' rows."""
        self._world.add_gradients(masters)

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors as the first worker writes them."""
        return tensors

    def split(self, tensors: dict[str, Tensor], masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What this worker keeps of written tensors."""
        return tensors

    def finish(self) -> None:
        """Leave the trained weights in the model that was given."""


def divide(model: nn.Module, objective: Objective, world: World, config: TrainConfig) -> Replicated:
    """The way that ``train.accelerate_config`` asks for. Raises InputError for what it asks and cannot be."""
    if not config.accelerate_config:
        return Replicated(model, objective, world, config)
    from tinyforge.train.sharding import Sharded, read_accelerate

    plan = read_accelerate(config.accelerate_config)
    if world.size == 1 or not plan.shards:
        alone = ("one process alone has no other to share the weights with",) if plan.shards else ()
        return Replicated(model, objective, world, config, (*plan.notes, *alone))
    return Sharded(model, objective, world, config, plan)

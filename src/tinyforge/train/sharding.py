"""Workers that share one model: each keeps a part of every weight, its master and its optimizer state (FSDP2).

Zhao et al. 2023, in the form of ``torch.distributed.fsdp.fully_shard``; which modules are sharded is read from a file
that ``accelerate config`` wrote, by Accelerate's own plugin. DeepSpeed is not driven: its engine takes over the
optimizer and the backward pass, and with them the float32 masters and the exact resume.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from tinyforge.config import TrainConfig
from tinyforge.environment import worker
from tinyforge.errors import InputError
from tinyforge.train.device import device_of
from tinyforge.train.distributed import World
from tinyforge.train.objectives.base import Objective
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.workers import Replicated

_PLAIN = ("NO", "MULTI_CPU", "MULTI_GPU")
_USED = ("version", "reshard_after_forward", "auto_wrap_policy", "transformer_layer_cls_to_wrap", "min_num_params")
_WITHOUT_EFFECT = {
    "cpu_ram_efficient_loading": "every worker reads the weights before they are divided",
    "state_dict_type": "checkpoints and the result are always whole",
    "backward_prefetch": "FSDP2 has none",
    "backward_prefetch_policy": "FSDP2 has none",
    "forward_prefetch": "FSDP2 has none",
    "sync_module_states": "the workers' weights are compared instead",
    "use_orig_params": "FSDP2 always does",
}


@dataclass(frozen=True)
class Plan:
    """What an Accelerate file asks for: so many ``processes`` in all, and, with FSDP, these ``settings``."""

    processes: int
    settings: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()

    @property
    def shards(self) -> bool:
        return self.settings is not None


def read_accelerate(path: str | Path) -> Plan:
    """Read a file written by ``accelerate config``. Raises InputError for what is wrong in it or is not done here."""
    from accelerate.commands.config.config_args import load_config_from_file

    try:
        found: Any = load_config_from_file(str(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.", "Write one with: accelerate config --config_file FILE") from None
    except Exception as error:  # whatever YAML and Accelerate raise for a file that is none
        raise InputError(f"{path}: not a file of `accelerate config` ({' '.join(str(error).split())}).") from error
    kind = str(getattr(found.distributed_type, "value", found.distributed_type)).upper()
    if getattr(found, "num_machines", 1) > 1 and worker().size == 1:
        raise InputError(
            f"{path}: num_machines is {found.num_machines}.",
            "On each machine run: torchrun --nnodes ... --nproc-per-node ... -m tinyforge train ...",
        )
    if found.mixed_precision in ("fp16", "fp8"):
        raise InputError(f"{path}: mixed_precision {found.mixed_precision} is not done.", "Use bf16, or no.")
    notes = () if found.mixed_precision in (None, "no") else ("mixed_precision has no effect: train.precision decides",)
    if kind in _PLAIN:
        return Plan(found.num_processes or 1, None, notes)
    if kind == "DEEPSPEED":
        raise _deepspeed(path)
    if kind != "FSDP":
        raise InputError(f"{path}: distributed_type {kind} is not done.", f"Known: FSDP, {', '.join(_PLAIN)}.")
    settings, more = _settings(path, found.fsdp_config)
    return Plan(found.num_processes or 1, settings, (*notes, *more))


def _deepspeed(path: str | Path) -> InputError:
    return InputError(
        f"{path}: DeepSpeed is not done, for its engine would replace the optimizer, its float32 masters and the exact "
        "resume.",
        "FSDP2 divides the same things. Write distributed_type: FSDP, and under fsdp_config fsdp_version: 2, with "
        "fsdp_reshard_after_forward: true for what ZeRO-3 does, false for ZeRO-2.",
    )


def _settings(path: str | Path, given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The options of FSDP2, and what to say about those that do nothing here."""
    options = {name.removeprefix("fsdp_"): value for name, value in given.items()}
    if str(options.get("version", 1)) != "2":
        raise InputError(f"{path}: only FSDP2 is done.", "Under fsdp_config write fsdp_version: 2")
    if options.pop("offload_params", False):
        raise InputError(f"{path}: fsdp_offload_params is not done.", "Set it to false.")
    if options.pop("activation_checkpointing", False):
        raise InputError(
            f"{path}: fsdp_activation_checkpointing is not done.",
            "Set it to false, and use --set train.gradient_checkpointing=true.",
        )
    unknown = sorted(options.keys() - {*_USED, *_WITHOUT_EFFECT})
    if unknown:
        raise InputError(f"{path}: fsdp_{unknown[0]} is not known.", "Take it out.")
    notes = [f"fsdp_{name} has no effect: {why}" for name, why in _WITHOUT_EFFECT.items() if options.get(name)]
    return {name: value for name, value in options.items() if name in _USED}, notes


def _wrapping(settings: Mapping[str, Any], model: nn.Module) -> tuple[Callable[[nn.Module], bool], bool]:
    """Which modules are sharded for themselves, and whether each is gathered only while it is used."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    names = settings.get("transformer_layer_cls_to_wrap")
    try:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=settings.get("reshard_after_forward", True),
            auto_wrap_policy=str(settings.get("auto_wrap_policy", "TRANSFORMER_BASED_WRAP")).lower(),
            transformer_cls_names_to_wrap=names.split(",") if isinstance(names, str) and names else names or None,
            min_num_params=settings.get("min_num_params"),
            cpu_offload=False,
            activation_checkpointing=False,
            cpu_ram_efficient_loading=False,
        )
        plugin.set_auto_wrap_policy(model)
        policy = fsdp2_prepare_auto_wrap_policy(plugin, model)
    except ValueError as error:
        raise InputError(f"train.accelerate_config: {error}") from error
    return policy or (lambda module: False), bool(plugin.reshard_after_forward)


class _Step(nn.Module):
    """The loss as the forward pass of a module, so that FSDP gathers what the whole of it needs, the head included."""

    def __init__(self, model: nn.Module, objective: Any) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Any:
        return self.objective.loss(self.model, batch)


class _Routed:
    """The objective, with its loss taken on the shared model once there is one."""

    def __init__(self, inner: Any, sharded: Sharded) -> None:
        self._inner, self._sharded = inner, sharded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def prepare(self, model: Any) -> None:
        prepare = getattr(self._inner, "prepare", None)
        if prepare is not None:
            prepare(model)

    def loss(self, model: Any, batch: Any) -> Any:
        return self._sharded.loss(self._inner, model, batch)


class Sharded(Replicated):
    """The model that was given is empty while it trains; a twin of it, sharded, learns, and gives its weights back.

    The masters are sharded like their parameters, and the backward pass adds up the gradients, so that the arithmetic
    is that of :class:`Replicated`.
    """

    whole_model = False

    def __init__(self, model: nn.Module, objective: Objective, world: World, config: TrainConfig, plan: Plan) -> None:
        super().__init__(model, objective, world, config, (*plan.notes, "the workers share the weights (FSDP2)"))
        if config.optimizer != "adamw":
            raise InputError(
                f"train.optimizer = {config.optimizer} does not go with FSDP: divided, it would not train the same.",
                "Use adamw.",
            )
        if not all(parameter.is_floating_point() for parameter in model.parameters()):
            raise InputError("weights in 4 bits cannot be shared by FSDP.", "Use train.method=lora.")
        assert plan.settings is not None
        self._settings, self._plain = plan.settings, self.objective
        self._step: Any = None
        self.objective = _Routed(self.objective, self)

    def prepare(self, learning_rate: float) -> MasterOptimizer:
        super().prepare(learning_rate)
        self._twin = _twin(self._model)
        self._step = self._shard(_Step(self._twin, self._plain))
        for parameter in self._model.parameters():
            parameter.data = parameter.data.new_empty(0)
        return MasterOptimizer(self._twin, self._config, learning_rate)

    def _shard(self, step: _Step) -> nn.Module:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        mesh = init_device_mesh(device_of(self._model).type, (self._world.size,))
        inner: Any = self._twin
        own, reshard = _wrapping(self._settings, inner.get_base_model() if hasattr(inner, "get_base_model") else inner)
        for module in reversed(list(self._twin.modules())):  # the inner ones first
            if own(module):
                fully_shard(module, mesh=mesh, reshard_after_forward=reshard)
        fully_shard(step, mesh=mesh)
        for module in step.modules():
            if isinstance(module, FSDPModule):  # losses are sums: gradients are added, not averaged
                module.set_force_sum_reduction_for_comms(True)
                module.set_gradient_divide_factor(1.0)
        return step

    def loss(self, objective: Any, model: Any, batch: Any) -> Any:
        if self._step is None:
            return objective.loss(model, batch)
        self._step.train(model.training)
        found = self._step(batch)
        if not torch.is_grad_enabled():
            self._reshard()
        return found

    def _reshard(self) -> None:
        from torch.distributed.fsdp import FSDPModule

        for module in self._step.modules():
            if isinstance(module, FSDPModule):
                module.reshard()

    def add_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """The backward pass has added them up."""

    def whole(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors gathered, in the first worker's memory; the others, which take part, get nothing."""
        found = {}
        for name, tensor in tensors.items():
            gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self._world.first:
                found[name] = gathered.cpu().contiguous()
        return found

    def split(self, tensors: dict[str, Tensor], masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each worker's part of the tensors that belong to a master: those whose name ends with its name."""
        return {name: _like(tensor, _owner(name, masters)) for name, tensor in tensors.items()}

    def finish(self) -> None:
        self._reshard()
        for parameter, shared in zip(self._model.parameters(), self._twin.parameters(), strict=True):
            gathered = shared.full_tensor() if isinstance(shared, DTensor) else shared.detach()
            if self._world.first:
                parameter.data = gathered


def _twin(model: nn.Module) -> nn.Module:
    """The same structure over the same storage, with parameters of its own."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _owner(name: str, masters: Mapping[str, Tensor]) -> Tensor | None:
    while name:
        if name in masters:
            return masters[name]
        name = name.partition(".")[2]
    return None


def _like(tensor: Tensor, owner: Tensor | None) -> Tensor:
    if not isinstance(owner, DTensor) or tensor.shape != owner.shape:
        return tensor
    return distribute_tensor(tensor, owner.device_mesh, owner.placements, src_data_rank=None)

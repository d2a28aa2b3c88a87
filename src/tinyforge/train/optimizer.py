"""AdamW, or Muon with AdamW, over float32 master copies of whatever precision the model computes in."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from tinyforge.config import TrainConfig
from tinyforge.train import eight_bit

BETAS, EPS = (0.9, 0.95), 1e-8
EIGHT_BIT = "adamw8bit"


def hidden_matrices(model: nn.Module) -> set[str]:
    """The names of the matrices between the embeddings and the output or a task's head."""
    whole: Any = model
    inner = whole.get_base_model() if hasattr(whole, "get_base_model") else whole  # beneath what PEFT adds
    outside = [module for module in inner.modules() if isinstance(module, nn.Embedding)]
    if hasattr(inner, "get_output_embeddings"):
        outside.append(inner.get_output_embeddings())
    backbone = getattr(inner, "base_model_prefix", "")
    if backbone and hasattr(inner, backbone):
        outside += [child for name, child in inner.named_children() if name != backbone]
    apart = {id(parameter) for module in outside if module is not None for parameter in module.parameters()}
    return {name for name, p in model.named_parameters() if p.ndim == 2 and id(p) not in apart}


def _whole(value: Any) -> Tensor:
    """The number itself, where the workers hold a part of it each (a DTensor)."""
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return whole


class MasterOptimizer:
    """Keeps a float32 master of each trained parameter, gathers gradients in float32, and writes the result back.

    Computing in bf16 while the masters stay in float32 loses no small update (Micikevicius et al. 2018) and avoids
    the mixed-precision kernels that are slow on CPUs. Muon (Jordan et al. 2024) orthogonalises the momentum of the
    hidden matrices; embeddings, heads and vectors always use AdamW (Loshchilov & Hutter 2019).
    """

    def __init__(self, model: nn.Module, config: TrainConfig, learning_rate: float) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.masters = {name: p.detach().to(torch.float32, copy=True) for name, p in self._parameters.items()}
        self._max_norm = config.max_gradient_norm
        hidden = hidden_matrices(model)
        matrices = {n: m for n, m in self.masters.items() if n in hidden}
        rest = {n: m for n, m in self.masters.items() if n not in matrices}
        self._optimizers: list[tuple[torch.optim.Optimizer, list[str], float]] = []
        if config.optimizer == "muon" and matrices:
            muon = torch.optim.Muon(
                list(matrices.values()),
                lr=config.muon_learning_rate,
                weight_decay=config.weight_decay,
                momentum=0.95,
                adjust_lr_fn="original",
            )
            self._optimizers.append((muon, list(matrices), config.muon_learning_rate))
        else:
            rest = dict(self.masters)
        decayed = [n for n in rest if self.masters[n].ndim >= 2]
        plain = [n for n in rest if self.masters[n].ndim < 2]
        groups = [
            {"params": [self.masters[n] for n in decayed], "weight_decay": config.weight_decay},
            {"params": [self.masters[n] for n in plain], "weight_decay": 0.0},
        ]
        adamw: torch.optim.Optimizer
        if config.optimizer_bits == 8:
            adamw = eight_bit.adamw(groups, learning_rate, BETAS, EPS)
        else:
            adamw = torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, eps=EPS)
        self._optimizers.append((adamw, decayed + plain, learning_rate))

    def gather(self) -> None:
        """Add the model's gradients to the masters' and free them; once per micro-batch."""
        for name, parameter in self._parameters.items():
            if parameter.grad is None:
                continue
            master = self.masters[name]
            gradient = parameter.grad.to(torch.float32)
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self, weight: int, scale: float) -> float:
        """Divide the gathered gradients by ``weight``, clip, update at ``scale`` times the peak rate, write back.

        Returns the norm of the gradient before clipping. When that is not finite, nothing is updated.
        """
        gradients = [m.grad for m in self.masters.values() if m.grad is not None]
        torch._foreach_div_(gradients, float(weight))
        norm = float(_whole(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self._max_norm)))
        if not math.isfinite(norm):
            return norm
        for optimizer, _, peak in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.write_back()
        return norm

    @torch.no_grad()
    def write_back(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(self.masters[name])

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor that the next step depends on, by a stable name."""
        found = {f"master.{name}": master for name, master in self.masters.items()}
        for optimizer, names, _ in self._optimizers:
            for name in names:
                master = self.masters[name]
                state = optimizer.state.get(master, {})
                kept = {key: eight_bit.as_tensor(state[key]) for key in _kept(optimizer, master) if state}
                found.update({f"{_kind(optimizer)}.{key}.{name}": value for key, value in kept.items()})
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what :meth:`tensors` gave. Raises KeyError when a tensor is missing."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(tensors[f"master.{name}"])
        for optimizer, names, _ in self._optimizers:
            for name in names:
                master = self.masters[name]
                keys = {key: f"{_kind(optimizer)}.{key}.{name}" for key in _kept(optimizer, master)}
                if not any(stored in tensors for stored in keys.values()):
                    continue  # it never had a gradient, as an adapter of a module that the objective goes round
                state: dict[str, Any] = {key: tensors[stored].clone() for key, stored in keys.items()}
                optimizer.state[master] = (
                    state if _kind(optimizer) != EIGHT_BIT else eight_bit.restored(optimizer, state)
                )
        self.write_back()


def _kind(optimizer: torch.optim.Optimizer) -> str:
    return type(optimizer).__name__.lower()


def _kept(optimizer: torch.optim.Optimizer, master: Tensor) -> tuple[str, ...]:
    """The names of the state that an optimizer keeps of a weight."""
    kind = _kind(optimizer)
    if kind == EIGHT_BIT:
        return eight_bit.names(master)
    return ("exp_avg", "exp_avg_sq", "step") if kind == "adamw" else ("momentum_buffer",)

"""Layers in forms that keep less and pass over memory less often while training; their results are the same.

transformers writes its layers for inference: a norm keeps several float32 copies of its input for the backward pass,
a gated MLP one more copy of its widest tensor than it needs, and LoRA adds its part in three passes over the output.
Each layer is exchanged only where its class is one whose arithmetic is known here, and takes its own form back after.

Legend: N tokens, D width, I width of the MLP, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn


class _RmsNorm(torch.autograd.Function):
    """``x / rms(x) * weight`` (Zhang & Sennrich 2019), keeping the input and one number per token."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_()
        scale = square.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight_D, scale)
        return torch.mul(x, scale).mul_(weight_D).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight_D, scale = ctx.saved_tensors
        (above,) = upstream
        normal = torch.mul(x, scale)
        grad_weight = None
        if ctx.needs_input_grad[1]:
            grad_weight = torch.mul(normal, above).flatten(0, -2).sum(0).to(weight_D.dtype)
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        grad = torch.mul(above, weight_D.float())
        along = torch.mul(grad, normal).mean(-1, keepdim=True)
        return grad.sub_(normal.mul_(along)).mul_(scale).to(x.dtype), grad_weight, None


class _SwiGlu(torch.autograd.Function):
    """``silu(gate) * up`` (Shazeer 2020), keeping the two inputs."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        (above,) = upstream
        grad_up = nn.functional.silu(gate).mul_(above)
        return torch.ops.aten.silu_backward(above * up, gate), grad_up


class _LoraLinear(torch.autograd.Function):
    """``x @ weight.T + bias + scale * x @ a.T @ b.T`` over a frozen weight (Hu et al. 2022), added up in place."""

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_OD: Tensor, bias_O: Tensor | None, a_RD: Tensor, b_OR: Tensor, scale: float
    ) -> Tensor:
        low_NR = x_ND @ a_RD.T
        ctx.save_for_backward(x_ND, weight_OD, a_RD, b_OR, low_NR)
        ctx.scale = scale
        return nn.functional.linear(x_ND, weight_OD, bias_O).addmm_(low_NR, b_OR.T, alpha=scale)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x_ND, weight_OD, a_RD, b_OR, low_NR = ctx.saved_tensors
        (above_NO,) = upstream
        grad_low = (above_NO @ b_OR).mul_(ctx.scale)
        grad_x = (above_NO @ weight_OD).addmm_(grad_low, a_RD) if ctx.needs_input_grad[0] else None
        return grad_x, None, None, grad_low.T @ x_ND, (above_NO.T @ low_NR).mul_(ctx.scale), None


class _LeanNorm(nn.Module):
    weight: Tensor
    variance_epsilon: float

    def forward(self, hidden_states: Tensor) -> Tensor:
        found: Tensor = _RmsNorm.apply(hidden_states, self.weight, self.variance_epsilon)  # type: ignore[no-untyped-call]
        return found


class _LeanMlp(nn.Module):
    gate_proj: nn.Module
    up_proj: nn.Module
    down_proj: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.down_proj(_SwiGlu.apply(self.gate_proj(x), self.up_proj(x)))  # type: ignore[no-untyped-call]
        return found


class _LeanLora(nn.Module):
    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        layer: Any = self
        (name,) = layer.active_adapters
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        if layer.disable_adapters or args or kwargs or x.dtype != a.dtype:
            found: Tensor = super().forward(x, *args, **kwargs)
            return found
        base = layer.base_layer
        flat: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]), base.weight, base.bias, a, b, layer.scaling[name]
        )
        return flat.view(*x.shape[:-1], -1)


_JOINED: dict[tuple[type, type], type] = {}


def _joined(lean: type, own: type) -> type:
    """A class of both, made once: the lean forward over the layer's own everything else."""
    if (lean, own) not in _JOINED:
        _JOINED[lean, own] = type(f"{lean.__name__}{own.__name__}", (lean, own), {})
    return _JOINED[lean, own]


_NORMS = ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm", "MistralRMSNorm", "Phi3RMSNorm")
_MLPS = ("LlamaMLP", "Qwen2MLP", "Qwen3MLP", "MistralMLP")


def _lean_form(module: nn.Module) -> type | None:
    name = type(module).__name__
    if name in _NORMS and hasattr(module, "variance_epsilon"):
        return _LeanNorm
    if name in _MLPS and isinstance(getattr(module, "act_fn", None), nn.SiLU | _hf_silu()):
        return _LeanMlp
    return _LeanLora if _plain_lora(module) else None


@lru_cache(maxsize=1)
def _hf_silu() -> type:
    from transformers.activations import ACT2FN

    return type(ACT2FN["silu"])


def _plain_lora(module: Any) -> bool:
    """One adapter of the plain kind, without dropout, over a frozen plain linear layer."""
    if type(module).__module__ != "peft.tuners.lora.layer" or type(module).__name__ != "Linear":
        return False
    names = list(module.active_adapters)
    if len(names) != 1 or names[0] not in module.lora_A or names[0] in module.lora_variant or module.merged:
        return False
    base, (name,) = module.base_layer, names
    frozen = type(base) is nn.Linear and not any(p.requires_grad for p in base.parameters())
    plain = isinstance(module.lora_dropout[name], nn.Identity) and module.lora_B[name].bias is None
    return frozen and plain and not module.fan_in_fan_out and module.lora_A[name].weight.requires_grad


@contextmanager
def lean_layers(model: nn.Module) -> Iterator[int]:
    """The model with its layers in their lean forms while the context is open; gives how many were exchanged."""
    exchanged: list[tuple[nn.Module, type]] = []
    for module in model.modules():
        form = _lean_form(module)
        if form is not None:
            exchanged.append((module, type(module)))
            module.__class__ = _joined(form, type(module))
    try:
        yield len(exchanged)
    finally:
        for module, own in exchanged:
            module.__class__ = own

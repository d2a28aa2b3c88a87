"""Adapters in PEFT's file format: choose a method, attach, load, merge."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tinyforge.adapters import four_bit, methods
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FULL_UP_TO = 100_000_000  # parameters; below this, training everything costs little more and learns facts better

# Peak rates under Adam where a method's differ much from LoRA's.
LEARNING_RATES = {
    "ia3": 3e-3,  # Liu et al. 2022, T-Few
    "vera": 4e-3,  # Kopiczko et al. 2024: ten times LoRA's
    "prompt_tuning": 3e-2,  # PEFT's example of it on a causal model
    # PEFT's own comparison (method_comparison/MetaMathQA, Llama 3.2 3B):
    "prefix_tuning": 5e-3,
    "p_tuning": 1e-3,
    "adaption_prompt": 5e-3,
    "lokr": 3e-3,
    "hira": 4.5e-3,
    "road": 1e-3,
    "c3a": 0.3,
}


def choose_method(wanted: str, parameters: int) -> str:
    """The method that was asked for, or by the model's size for ``auto``; nothing needs to be loaded for it.

    Raises InputError, listing the known ones, for an unknown method, and with the reason for one that cannot work.
    """
    if wanted == "auto":
        return "full" if parameters <= FULL_UP_TO else "lora"
    methods.check(wanted)
    return wanted


def quantization(method: str) -> str:
    """What ``load_model`` has to quantize the base to for this method: ``nf4`` for qlora, else nothing."""
    return "nf4" if method == "qlora" else ""


def default_learning_rate(method: str, parameters: int) -> float:
    """A peak learning rate: 1e-3 for full training at 10M parameters, falling with the root of the size.

    LoRA and its kin take 2e-4 (Dettmers et al. 2023 up to 13B), but as much as full training where that is more: at
    the width of tiny models 2e-4 hardly moves them. Other methods: LEARNING_RATES.
    """
    full = 1e-3 * min(1.0, math.sqrt(1e7 / parameters))
    if method in LEARNING_RATES:
        return LEARNING_RATES[method]
    return full if method == "full" else max(2e-4, full)


def attach(model: PreTrainedModel, config: TrainConfig, seed: int) -> Any:
    """The model with fresh adapters of ``config.method`` (LoRA for ``auto``); only they and a task's head train.

    A fresh adapter changes nothing, but for the methods in ``methods.NOT_IDENTITY``. For qlora the base must have been
    loaded in 4 bits. Raises InputError when the method does not fit the model.
    """
    import torch

    method = "lora" if config.method == "auto" else config.method
    methods.check(method)
    if method == "qlora" and not four_bit.layers(model):
        raise InputError("qlora needs a base loaded in 4 bits.", "Load it with quantize='nf4'.")
    dtype, own = model.dtype, list(model.parameters())
    torch.manual_seed(seed)
    try:
        wrapped = methods.peft().get_peft_model(
            model, methods.peft_config(method, model, config), autocast_adapter_dtype=False
        )
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, ImportError, RuntimeError) as error:
        raise _unfit(method, model, " ".join(str(error).split())[:200]) from error
    if not any(p.requires_grad for p in wrapped.parameters()):
        raise _unfit(method, model, "it finds nothing to train in it")
    _one_dtype(wrapped, own, dtype)
    return wrapped


def _unfit(method: str, model: Any, why: str) -> InputError:
    return InputError(
        f"train.method = {method} does not fit {type(model).__name__}: {why}.",
        "Use --set train.method=lora, which fits every model.",
    )


def _one_dtype(wrapped: Any, own: Iterable[Any], dtype: torch.dtype) -> None:
    """Bring the adapter's parameters, those that are not the model's ``own``, to one dtype: mixed ones are slow."""
    base = {id(parameter) for parameter in own}
    for parameter in wrapped.parameters():
        if id(parameter) not in base and parameter.is_floating_point() and parameter.dtype != dtype:
            parameter.data = parameter.data.to(dtype)


def save(model: Any, folder: Path) -> None:
    """PEFT's own files. What it keeps as sets is sorted: the same training must leave the same bytes in any process."""
    from tinyforge.run import read_json, write_json

    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    found = read_json(path)
    sets = [name for name, value in vars(model.active_peft_config).items() if isinstance(value, set)]
    write_json(path, {**found, **{name: sorted(found[name]) for name in sets}})


def load(model: PreTrainedModel, folder: Path) -> Any:
    """The model with the adapter saved in ``folder``, for inference. A qlora base must be loaded in 4 bits again."""
    return add(model, folder, "default")


def add(model: Any, folder: Path, name: str) -> Any:
    """The same under a name, beside the adapters that the model may have already; the last one added works.

    Raises InputError when several adapters cannot share the model with this one, or it does not fit.
    """
    dtype, own = model.dtype, list(model.parameters())
    peft = methods.peft()
    if not isinstance(model, peft.PeftModel):
        wrapped = _first(model, folder, name)
    else:
        wrapped = model
        if peft.PeftConfig.from_pretrained(folder).is_prompt_learning:
            raise InputError(f"{folder}: its virtual tokens cannot share a model.", "Serve it on a base of its own.")
        try:
            wrapped.load_adapter(folder, adapter_name=name, autocast_adapter_dtype=False)
            wrapped.set_adapter(name)
        except Exception as error:
            if name in wrapped.peft_config:
                wrapped.delete_adapter(name)
            _raise_misfit(folder, error)
    _one_dtype(wrapped, own, dtype)
    return wrapped.eval()


def _first(model: Any, folder: Path, name: str) -> Any:
    """The model under its first adapter; where that fails it is as it was, for PEFT changes it before it reads."""
    attributes = set(vars(model))
    modules = [(parent, place, child) for parent in model.modules() for place, child in parent.named_children()]
    try:
        return methods.peft().PeftModel.from_pretrained(model, folder, adapter_name=name, autocast_adapter_dtype=False)
    except Exception as error:  # of many kinds: a shape, a key, a file that is cut off
        for parent, place, child in modules:
            setattr(parent, place, child)
        for added in vars(model).keys() - attributes:
            delattr(model, added)
        _raise_misfit(folder, error)


def _raise_misfit(folder: Path, error: Exception) -> NoReturn:
    """Whatever PEFT raised, in one line; memory that does not suffice is no fault of the adapter's."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        raise error
    raise InputError(f"{folder}: does not fit the model: {' '.join(str(error).split())[:200]}.") from error


def virtual_tokens(model: Any) -> int:
    """How many learned tokens stand before every input: 0 but for prompt tuning and its kin."""
    config = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def merge(model: Any) -> Any:
    """A plain transformers model with the adapter in its weights; uses up ``model``.

    A base in 4 bits is dequantized first: rounding the sum to 4 bits again would lose most of what was learned.
    Raises InputError when the method keeps something that no weight can hold.
    """
    config = model.active_peft_config
    method = config.peft_type.value.lower()
    if config.is_prompt_learning:
        raise _unmergeable(method, "its virtual tokens are inputs, not weights")
    if not hasattr(type(model.base_model), "merge_and_unload"):
        raise _unmergeable(method, "it adds computation that no weight of the model can hold")
    if four_bit.layers(model):
        model = _dequantized(model, config)
    try:
        return model.merge_and_unload(safe_merge=True)
    except (NotImplementedError, ValueError) as error:
        raise _unmergeable(method, " ".join(str(error).split())) from error


def _unmergeable(method: str, why: str) -> InputError:
    return InputError(f"an adapter of {method} cannot be merged: {why}.", "Keep the base and the adapter as they are.")


def _dequantized(model: Any, config: Any) -> Any:
    """The same adapter on the dequantized base."""
    peft = methods.peft()
    weights = peft.get_peft_model_state_dict(model)
    plain = four_bit.dequantize(model.unload())
    dtype, own = plain.dtype, list(plain.parameters())
    wrapped = peft.get_peft_model(plain, config, autocast_adapter_dtype=False)
    peft.set_peft_model_state_dict(wrapped, weights)
    _one_dtype(wrapped, own, dtype)
    return wrapped.eval()

"""The repeated blocks of a decoder, and what flows through its layers on calibration rows.

Legend: T tokens, D width, I inputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tinyforge.errors import InputError

Rows = Sequence[list[int]]
"""Calibration rows as token ids."""


def blocks_of(model: Any) -> nn.ModuleList:
    """The list of transformer blocks. Raises InputError when the model has none of its own."""
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    lists = [m for _, m in decoder.named_children() if isinstance(m, nn.ModuleList) and len({type(b) for b in m}) == 1]
    if len(lists) != 1:
        raise InputError(
            f"{type(model).__name__}: its blocks cannot be told apart from its other parts.",
            "Use a decoder such as Llama, Qwen, Mistral, Gemma, Phi or GPT-2.",
        )
    return lists[0]


class _Enough(Exception):  # noqa: N818  # no error: what was wanted has been seen
    pass


def _enough(*_: Any) -> None:
    raise _Enough


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def observe(
    model: Any,
    rows: Rows,
    layers: dict[str, nn.Module],
    see: Callable[[str, Tensor], None],
    until: nn.Module | None = None,
) -> None:
    """Call ``see(name, inputs)`` with what each of the ``layers`` reads on each row, (T, I) float32.

    A row goes no further than the block ``until``. Rows are read one at a time: there is no padding to leave out.
    """

    def watch(name: str) -> Callable[..., None]:
        def hook(module: Any, given: Any) -> None:  # what a hook returns would take the place of the inputs
            see(name, given[0].detach().float().flatten(0, -2))

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    if until is not None:
        handles.append(until.register_forward_hook(_enough))
    model.eval()
    with _hooks(handles):
        for row in rows:
            ids_1T = torch.tensor([row], device=model.device)
            try:
                model(input_ids=ids_1T, use_cache=False, logits_to_keep=1)
            except _Enough:
                continue


@torch.inference_mode()
def block_streams(model: Any, rows: Rows) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """For each row, what goes into every block and what comes out, both (T, D) float32."""
    blocks = blocks_of(model)
    seen: list[tuple[Tensor, Tensor]] = []

    def watch(module: Any, given: Any, kept: Any, result: Any) -> None:
        stream = given[0] if given else kept["hidden_states"]
        after = result[0] if isinstance(result, tuple) else result
        seen.append((stream.detach().float().flatten(0, -2), after.detach().float().flatten(0, -2)))

    handles = [block.register_forward_hook(watch, with_kwargs=True) for block in blocks]
    model.eval()
    with _hooks(handles):
        for row in rows:
            seen.clear()
            model(input_ids=torch.tensor([row], device=model.device), use_cache=False, logits_to_keep=1)
            yield list(seen)

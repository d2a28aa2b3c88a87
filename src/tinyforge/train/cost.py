"""What a training step costs: the floating-point operations that useful tokens need, padding not counted.

Legend: L layers, D width of the attention, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from tinyforge.records import Tokens


@dataclass(frozen=True)
class Work:
    """Operations by kind, for one forward and backward pass.

    ``per_token``: each weight of a matrix costs 2 operations forward and 2 for the gradient of its input, and 2 more
    for its own gradient when it is trained (Kaplan et al. 2020, section 2.1). ``per_target`` is the same for the
    output matrix, which is applied only where there is a label. ``per_pair`` is causal attention: scores and mixture
    cost 2 * D each per pair of tokens and layer, half of the pairs are seen, and the backward pass costs twice that.
    """

    per_token: float
    per_target: float
    per_pair: float

    @classmethod
    def of(cls, model: nn.Module) -> Work:
        """Read from the model: every matrix but lookups; the output matrix apart."""
        head = _output(model)
        per_token, per_target = 0.0, 0.0
        for module in model.modules():
            weight = module._parameters.get("weight")  # its own: an adapter's wrapper shows its base's again
            if isinstance(module, nn.Embedding) or weight is None or weight.ndim != 2:
                continue
            # A layer in 4 bits holds two weights in a byte, but multiplies them all.
            size = getattr(module, "in_features", 0) * getattr(module, "out_features", 0) or weight.numel()
            cost = size * (6 if weight.requires_grad else 4)
            if module is head:
                per_target += cost
            else:
                per_token += cost
        config: Any = getattr(model, "config", None)
        layers, width = getattr(config, "num_hidden_layers", 0), getattr(config, "hidden_size", 0)
        return cls(per_token, per_target, 6.0 * layers * width)

    def operations(self, rows: Sequence[Tokens]) -> float:
        tokens = sum(len(row.ids) for row in rows)
        targets = sum(row.targets for row in rows)
        pairs = sum(len(row.ids) ** 2 for row in rows)
        return self.per_token * tokens + self.per_target * targets + self.per_pair * pairs

    def padded(self, rows: Any, width: Any) -> Any:
        """Operations of batches by their numbers of rows and padded widths (arrays or numbers), the head left out."""
        return self.per_token * rows * width + self.per_pair * rows * width**2


def _output(model: nn.Module) -> Any:
    find = getattr(model, "get_output_embeddings", None)
    return find() if find is not None else None

"""Size, speed and quality of several models beside each other, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def figures_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each of ``rows``, as pipeline.material.measure makes them; the first is what the others came from.

    Size and speed are followed by what they are of the first's.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title in ("params", "size", "", "tok/s", "", "F1", "KL", "agree", "loss"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, rows[0]))
    return table


def _cells(row: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    f1 = row["token_f1"]
    return [
        row["name"],
        f"{row['parameters'] / 1e6:.2f}M",
        f"{row['model_bytes'] / 1e6:.1f} MB",
        f"{row['model_bytes'] / first['model_bytes']:.0%}",
        f"{row['tokens_per_second']:,.0f}",
        f"{row['tokens_per_second'] / first['tokens_per_second']:.2f}x",
        "-" if f1 is None else f"{f1:.3f}",
        f"{row['mean_kl']:.4f}",
        f"{row['agreement']:.1%}",
        f"{row['loss']:.3f}",
    ]


LEGEND = (
    "F1: token F1 of answers on {where}. KL: nats per answer token from the first line's model; agree: equal first "
    "choices; loss: nats per token of the reference answers."
)

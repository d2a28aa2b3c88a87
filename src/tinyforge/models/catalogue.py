"""Bases that can be used here: embedded, in the hub's cache, and known ones, with what each would take."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge.models.resolve import EMBEDDED, count_parameters

COMFORTABLE_SECONDS = 1800.0  # a fine-tuning that a person waits for
TUNING_TOKENS = 300_000  # about what three passes over a handbook's questions come to
_EFFICIENCY = 0.4  # of the matrix rate; assumed, not measured on these bases

_CALL_SECONDS = 0.003  # a token's cost besides reading the weights, which is what limits a tiny model


@dataclass(frozen=True)
class Known:
    """A base on the hub: size (rounded), context and licence as published; not fetched or checked by TinyForge."""

    name: str
    parameters: float  # all weights, tied ones once
    context: int
    licence: str


KNOWN = (
    Known("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6, 8192, "apache-2.0"),
    Known("HuggingFaceTB/SmolLM2-360M-Instruct", 362e6, 8192, "apache-2.0"),
    Known("Qwen/Qwen2.5-0.5B-Instruct", 494e6, 32768, "apache-2.0"),
    Known("Qwen/Qwen3-0.6B", 596e6, 40960, "apache-2.0"),
    Known("TinyLlama/TinyLlama-1.1B-Chat-v1.0", 1100e6, 2048, "apache-2.0"),
    Known("HuggingFaceTB/SmolLM2-1.7B-Instruct", 1711e6, 8192, "apache-2.0"),
    Known("Qwen/Qwen3-1.7B", 1721e6, 40960, "apache-2.0"),
)


@dataclass(frozen=True)
class Rates:
    """This machine, measured in about a second: matrix products and reading memory."""

    operations: float  # per second
    bytes: float  # per second
    memory: int  # bytes that are free


def measure_rates() -> Rates:
    import psutil
    import torch

    from tinyforge.models.machine import matrix_rates

    block = torch.ones(1 << 25, dtype=torch.float32)
    best = float("inf")
    for _ in range(8):
        began = time.perf_counter()
        block.sum()
        best = min(best, time.perf_counter() - began)
    operations = max(matrix_rates((torch.bfloat16, torch.float32)))
    return Rates(operations, block.numel() * 4 / best, psutil.virtual_memory().available)


def entries(rates: Rates) -> list[dict[str, Any]]:
    """Every base as a row; ``recommended`` marks the largest whose fine-tuning is comfortable here.

    One that lies here and one of the hub are marked. Memory and speed are estimates from the number of parameters and
    the measured rates.
    """
    rows = [_row(name, "embedded", rates, **_read(folder)) for name, folder in EMBEDDED.items()]
    rows += [_row(name, "cached", rates, **_read(folder)) for name, folder in _cached()]
    here = {row["name"] for row in rows}
    rows += [
        _row(k.name, "hub", rates, parameters=k.parameters, context=k.context, licence=k.licence, folder=None)
        for k in KNOWN
        if k.name not in here
    ]
    for on_hub in (False, True):
        comfortable = [
            row
            for row in rows
            if (row["where"] == "hub") == on_hub and row["fits"] and row["tuning_seconds"] <= COMFORTABLE_SECONDS
        ]
        if comfortable:
            max(comfortable, key=lambda row: row["parameters"])["recommended"] = True
    return rows


def _row(
    name: str, where: str, rates: Rates, parameters: float, context: int | None, folder: str | None, licence: str
) -> dict[str, Any]:
    from tinyforge.adapters import FULL_UP_TO

    full = parameters <= FULL_UP_TO
    # Weights, and where all are trained their gradients, float32 masters and two moments; then the activations.
    memory = parameters * (2 + 2 + 12 if full else 2) + 0.4e9 + parameters * 1.5
    operations = (6 if full else 4) * parameters * TUNING_TOKENS
    return {
        "name": name,
        "where": where,
        "folder": folder,
        "parameters": round(parameters),
        "megabytes": round(2 * parameters / 1e6, 1),
        "context": context,
        "licence": licence,
        "method": "full" if full else "lora",
        "tuning_memory_mb": round(memory / 1e6),
        "tuning_seconds": round(operations / (_EFFICIENCY * rates.operations)),
        "tokens_per_second": round(1 / (_CALL_SECONDS + 2 * parameters / rates.bytes), 1),
        "fits": memory < rates.memory,
        "recommended": False,
    }


def _read(folder: Path) -> dict[str, Any]:
    """Parameters from the headers of the weight files, nothing loaded."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    licences = [line.split(":", 1)[1].strip() for line in text.splitlines()[:40] if line.startswith("license:")]
    return {
        "parameters": float(count_parameters(folder)),
        "context": config.get("max_position_embeddings"),
        "folder": str(folder),
        "licence": licences[0] if licences else "see its card",
    }


def _cached() -> Iterator[tuple[str, Path]]:
    """Hub models in the standard cache that have safetensors weights and a configuration."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    for folder in sorted(cache.glob("models--*/snapshots/*")):
        if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
            yield folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder

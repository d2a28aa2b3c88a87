"""Where the numbers of a report come from: data, training, machine, time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tinyforge.config import Config
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document
from tinyforge.run import Run, read_json

CURVE_POINTS = 400


def account(job: Job, documents: Sequence[Document], config: Config, command: str, began: float) -> dict[str, Any]:
    """Where the numbers come from; the evaluation, which is not over yet, ``began`` at this ``perf_counter``."""
    from tinyforge.environment import machine, versions

    stages: dict[str, Any] = {p.stem: read_json(p) for p in job.run.path("stages").glob("*.json")}
    order = [name for name in ("documents", "examples", "index", "dataset", "train") if name in stages]
    summary: dict[str, Any] = {name: stages[name]["summary"] for name in order}
    took = {name: stages[name]["seconds"] for name in order}
    return {
        "dataset": _dataset_account(summary, documents, job.run),
        "training": _training_account(summary["train"], job.run),
        "config": config.model_dump(),
        "machine": machine(),
        "versions": versions(),
        "seed": config.seed,
        "command": command,
        "seconds": {**took, "evaluate": round(time.perf_counter() - began, 3)},
    }


def _dataset_account(summary: Mapping[str, Any], documents: Sequence[Document], run: Run) -> dict[str, Any]:
    from collections import Counter

    from tinyforge.run import read_jsonl

    facts: dict[str, str] = {}
    for row in read_jsonl(run.path("dataset", "candidates.jsonl")):
        facts[row["fact"]] = row["metadata"]["source"]
    per_source = Counter(facts.values())
    examples = summary["examples"]
    rejected = [{"stage": "examples", "reason": r, "count": c} for r, c in examples["rejected"].items()]
    rendered = summary["train"]["rendered"]["train"]["left_out"]
    cut = [{"stage": "train", "reason": r, "count": c} for r, c in rendered.items()]
    return {
        "read": [
            {
                "source": d.source,
                "characters": len(d.text),
                "sections": len(d.sections()),
                "facts": per_source.get(d.source, 0),
            }
            for d in documents
        ],
        "skipped": summary["documents"]["skipped"],
        "sections": examples["sections"],
        "sections_with_facts": examples["sections_covered"],
        "sections_with_precise_facts": examples["sections_covered_by_precise_rules"],
        "spans_verified": examples["spans_verified"],
        "examples": examples["examples"],
        "facts": examples["facts"],
        "rules": examples["rules"],
        "splits": summary["dataset"]["splits"],
        "reading": summary["dataset"]["reading"],
        "dropped": [*rejected, *summary["dataset"]["dropped"], *cut],
    }


def _training_account(train: Mapping[str, Any], run: Run) -> dict[str, Any]:
    """The figures of the training and its curve; a step that was run twice after a kill is taken once."""
    steps = {row["step"]: row for row in run.events("step")}
    kept = [steps[n] for n in sorted(steps) if n <= train["steps"]]
    thin = max(1, len(kept) // CURVE_POINTS)
    names = ("step", "loss", "dev_loss", "learning_rate", "gradient_norm", "memory_mb", "tokens_per_second")
    curve = [
        {name: row.get(name) for name in names}
        for i, row in enumerate(kept)
        if i % thin == 0 or row["dev_loss"] is not None or i == len(kept) - 1
    ]
    return {
        "steps": train["steps"],
        "planned_steps": train["planned_steps"],
        "seconds": train["train_seconds"],
        "tokens": train["tokens"],
        "best_step": None if train["best_step"] == train["steps"] else train["best_step"],
        "stopped_by": train["stopped_by"],
        "general": train["general"],
        "method": train["method"],
        "parameters": train["parameters"],
        "trained": train["trained"],
        "learning_rate": train["learning_rate"],
        "precision": train["precision"],
        "curve": curve,
    }

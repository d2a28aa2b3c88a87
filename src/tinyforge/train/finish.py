"""What an objective leaves beside the weights when training is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinyforge.dataset.batches import plan_epoch
from tinyforge.dataset.pairs import output_text
from tinyforge.models.calibrate import Calibration, calibrate
from tinyforge.models.responses import BATCH_TOKENS, store_responses
from tinyforge.records import Example
from tinyforge.train.device import device_of, place
from tinyforge.train.rows import Rows


def finish(
    name: str, folder: Path, model: Any, tokenizer: Any, objective: Any, examples: Sequence[Example], dev: Rows | None
) -> dict[str, Any]:
    """Write into ``folder``, where the model is saved, what answering needs besides it; returns what to report.

    classify: calibration.json, a temperature fitted on the dev rows. respond: the distinct outputs of the training
    examples with their embeddings. Nothing for the others.
    """
    if name == "classify":
        calibration = calibrate_on(model, objective, dev)
        calibration.save(folder)
        return {"calibration": asdict(calibration)}
    if name == "respond":
        return {"responses": store_responses(folder, model, tokenizer, [output_text(e) for e in examples])}
    return {}


@torch.no_grad()
def calibrate_on(model: Any, objective: Any, rows: Rows | None) -> Calibration:
    """The calibration of a classifier on rows that it was not trained on."""
    model.eval()
    logits: list[Tensor] = []
    classes: list[Tensor] = []
    for indices in plan_epoch(rows.lengths, BATCH_TOKENS, 0, 0) if rows is not None else []:
        assert rows is not None
        batch = place(objective.collate([rows[int(i)] for i in indices]), device_of(model))
        logits.append(objective.logits(model, batch).cpu())
        classes.append(batch.labels_BT[:, 0].cpu())
    if not logits:
        return calibrate(torch.zeros(0, 1), torch.zeros(0, dtype=torch.long))
    return calibrate(torch.cat(logits), torch.cat(classes))

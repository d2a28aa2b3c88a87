"""One loop, many objectives: an objective is three functions; the loop does the rest."""

from __future__ import annotations

OBJECTIVES = {
    "pretrain": "tinyforge.train.objectives.pretrain:Pretrain",
    "sft": "tinyforge.train.objectives.sft:SupervisedFineTuning",
}

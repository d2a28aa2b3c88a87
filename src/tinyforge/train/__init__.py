"""One loop, many objectives: an objective is three functions; the loop does the rest."""

from __future__ import annotations

OBJECTIVES = {
    "pretrain": "tinyforge.train.objectives.pretrain:Pretrain",
    "sft": "tinyforge.train.objectives.sft:SupervisedFineTuning",
    "dpo": "tinyforge.train.objectives.dpo:PreferenceOptimization",
    "distill": "tinyforge.train.objectives.distill:Distillation",
    "classify": "tinyforge.train.objectives.classify:Classify",
    "seq2seq": "tinyforge.train.objectives.seq2seq:SequenceToSequence",
    "extract": "tinyforge.train.objectives.extract:Extract",
    "respond": "tinyforge.train.objectives.respond:Respond",
}

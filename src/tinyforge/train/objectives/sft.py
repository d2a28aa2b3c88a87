"""Learn the assistant's turns of a conversation, the stop token included; or, with ``train.all_tokens``, all of it."""

from __future__ import annotations

from typing import Any

from tinyforge.dataset.render import render
from tinyforge.records import Tokens
from tinyforge.train.objectives.pretrain import Pretrain


class SupervisedFineTuning(Pretrain):
    """The same batch and the same loss as pretraining: which tokens are learned was decided when encoding."""

    def encode(self, example: Any, tokenizer: Any) -> Tokens:
        return render(example.messages, tokenizer, self.config.all_tokens)

"""Make a model write: batches of prompts at once, or one prompt as a stream.

Legend: B prompts, T tokens, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyforge.adapters import virtual_tokens
from tinyforge.dataset.prompts import fit
from tinyforge.dataset.render import prompt_ids, stop_ids
from tinyforge.errors import InputError
from tinyforge.records import Hit, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 16384  # prompt tokens, padding included, that are read at once


class Writer:
    """A model with its tokenizer, ready to answer. Greedy: the same prompt gives the same answer."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> None:
        self.model, self.tokenizer, self.max_new_tokens = model.eval(), tokenizer, max_new_tokens
        self._stops = stop_ids(model, tokenizer)
        self._virtual = virtual_tokens(model)

    @property
    def context(self) -> int:
        """The most tokens that the model takes, prompt and answer together."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30)) - self._virtual

    def prompt_length(self, messages: Sequence[Message]) -> int:
        return len(prompt_ids(messages, self.tokenizer))

    def prompt(self, question: str, hits: Sequence[Hit]) -> list[Message]:
        """The messages that ask ``question`` with as many of the passages as leave room for an answer.

        Raises InputError when the question alone is too long for the model.
        """
        limit = self.context - self.max_new_tokens
        messages, _ = fit(question, hits, self.prompt_length, limit)
        length = self.prompt_length(messages)
        if length > limit:
            raise InputError(
                f"the question has {length} tokens; this model takes {limit} and {self.max_new_tokens} for the answer.",
                "Ask a shorter question.",
            )
        return messages

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer in pieces, as they are written; a piece never ends inside a character."""
        ids: list[int] = []
        shown = ""
        for (token,) in self._decode(*self._left_pad([prompt_ids(messages, self.tokenizer)])):
            ids.append(token)
            text = self._text(ids)
            if text.endswith("\ufffd"):  # a character whose bytes have not all come yet
                continue
            yield text[len(shown) :]
            shown = text
        rest = self._text(ids)[len(shown) :]
        if rest:
            yield rest

    def answer_all(
        self, prompts: Sequence[Sequence[Message]], on_done: Callable[[int], None] = lambda count: None
    ) -> list[str]:
        """The answer to each prompt, in order; prompts of similar length are read together."""
        encoded = [prompt_ids(messages, self.tokenizer) for messages in prompts]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        answers = [""] * len(encoded)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and self._fits(encoded[order[start]], encoded[order[stop]], stop + 1 - start):
                stop += 1
            group = order[start:stop]
            columns = list(self._decode(*self._left_pad([encoded[i] for i in group])))
            for row, index in enumerate(group):
                answers[index] = self._text(self._until_stop([column[row] for column in columns]))
            on_done(len(group))
            start = stop
        return answers

    def _fits(self, shortest: list[int], longest: list[int], rows: int) -> bool:
        """Whether these rows can be read at once; padding would come between virtual tokens and a shorter prompt."""
        return rows * len(longest) <= BATCH_TOKENS and not (self._virtual and len(shortest) != len(longest))

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _until_stop(self, ids: list[int]) -> list[int]:
        return next((ids[:i] for i, token in enumerate(ids) if token in self._stops), ids)

    def _left_pad(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor | None]:
        """Ids ``(B, T)`` and mask; no mask when nothing is padded, which keeps the fast causal kernel."""
        width = max(len(row) for row in rows)
        padding = self.tokenizer.pad_token_id or 0
        device = self.model.device
        ids_BT = torch.tensor([[padding] * (width - len(row)) + row for row in rows], device=device)
        mask_BT = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
        return ids_BT, None if all(len(row) == width for row in rows) else mask_BT

    @torch.inference_mode()
    def _decode(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Iterator[list[int]]:
        """One list of B tokens per step, until every row has stopped or the budget is spent.

        A row that has stopped yields padding. Nothing is yielded at the step where the last row stops.
        """
        rows, width = ids_BT.shape
        running = torch.ones(rows, dtype=torch.bool, device=ids_BT.device)
        stops = torch.tensor(sorted(self._stops), dtype=torch.long, device=ids_BT.device)
        extra: dict[str, Any] = {"past_key_values": None}
        if mask_BT is not None:
            positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
            extra.update(attention_mask=mask_BT, position_ids=positions_BT)
        step_ids, model = ids_BT, self.model
        for _ in range(min(self.max_new_tokens, self.context - width)):
            output = model(input_ids=step_ids, use_cache=True, logits_to_keep=1, **extra)
            next_B = output.logits[:, -1].argmax(-1)
            running &= ~torch.isin(next_B, stops)
            next_B = torch.where(running, next_B, torch.full_like(next_B, int(stops[0]) if len(stops) else 0))
            if not running.any():
                return
            yield next_B.tolist()
            if self._virtual:  # they are in the cache now; PEFT would put them before every token
                model = self.model.get_base_model()
            step_ids = next_B[:, None]
            extra["past_key_values"] = output.past_key_values
            if mask_BT is not None:
                mask_BT = torch.cat([mask_BT, torch.ones((rows, 1), dtype=mask_BT.dtype, device=mask_BT.device)], 1)
                extra.update(attention_mask=mask_BT, position_ids=extra["position_ids"][:, -1:] + 1)

"""Make a model write: batches of prompts at once, or one prompt as a stream; greedy, or as a Sampling asks.

Legend: B prompts, T tokens, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tinyforge.adapters import virtual_tokens
from tinyforge.dataset.prompts import fit, fit_shots
from tinyforge.dataset.render import prompt_ids, stop_ids
from tinyforge.errors import InputError
from tinyforge.models.pieces import Pieces
from tinyforge.models.sample import Choice, Chooser
from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.records import Hit, Message

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 16384  # of prompts and of the answers they may get, padding included, that are held at once


@dataclass(frozen=True, slots=True)
class Answer:
    """A written answer. ``finish`` says whether it ended by itself (or at a stop text), or where its budget did.

    ``tokens`` counts what was written for it. ``choices`` holds the log probabilities of the tokens in ``text``, where
    they were asked for.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    tokens: int
    choices: tuple[Choice, ...] = ()


class _Row:
    """One answer that is not simply the likeliest tokens up to a stop token."""

    def __init__(self, chooser: Chooser, pieces: Pieces, stops: set[int]) -> None:
        self.chooser, self.pieces, self._stops = chooser, pieces, stops
        self.running, self.tokens = True, 0

    def step(self, logits_V: Tensor) -> int:
        """The next token, and whether the answer goes on after it."""
        token = self.chooser.choose(logits_V)
        if token in self._stops:
            self.running = False
        else:
            self.tokens += 1
            self.pieces.push(token)
            self.running = not self.pieces.stopped
        return token

    def answer(self, prompt_tokens: int) -> Answer:
        self.pieces.close()
        finish: Literal["stop", "length"] = "length" if self.running else "stop"
        choices = tuple(self.chooser.choices[: self.pieces.tokens])
        return Answer(self.pieces.text, finish, prompt_tokens, self.tokens, choices)


class Writer:
    """A model with its tokenizer, ready to answer.

    Greedy unless a Sampling says otherwise: the same prompt gives the same answer. So does the same prompt with the
    same seed, whatever else is in the batch.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> None:
        self.model, self.tokenizer, self.max_new_tokens = model.eval(), tokenizer, max_new_tokens
        self._stops = stop_ids(model, tokenizer)
        self._virtual = virtual_tokens(model)

    @property
    def context(self) -> int:
        """The most tokens that the model takes, prompt and answer together."""
        return int(getattr(self.model.config, "max_position_embeddings", 1 << 30)) - self._virtual

    @property
    def takes_plain_prompts(self) -> bool:
        """Whether nothing stands before a prompt's own tokens."""
        return not self._virtual

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

    def few_shot(self, question: str, shots: Sequence[tuple[str, str]]) -> tuple[list[Message], int]:
        """The question after as many of the shots as leave room for an answer, and how many they are.

        Raises InputError when the question alone is too long for the model.
        """
        messages, kept = fit_shots(question, shots, self.prompt_length, self.context - self.max_new_tokens)
        return (messages, kept) if kept else (self.prompt(question, []), 0)

    def stream(self, messages: Sequence[Message], sampling: Sampling = GREEDY) -> Iterator[str]:
        """The answer in pieces, as they are written; a piece never ends inside a character."""
        ids = prompt_ids(messages, self.tokenizer)
        rows = self._rows([ids], sampling)
        pieces, budget = Pieces(self._text), self._budget(sampling)
        shown = 0
        for (token,) in self._decode(*self._left_pad([ids]), budget, rows):
            text = rows[0].pieces.text[shown:] if rows else pieces.push(token)
            shown += len(text)
            if text:
                yield text
        rest = rows[0].answer(0).text[shown:] if rows else pieces.close()
        if rest:
            yield rest

    def answer_all(
        self,
        prompts: Sequence[Sequence[Message]],
        on_done: Callable[[int], None] = lambda count: None,
        sampling: Sampling = GREEDY,
    ) -> list[str]:
        """The answer to each prompt, in order; prompts of similar length are read together."""
        return [answer.text for answer in self.write_all(prompts, on_done, sampling)]

    def write_all(
        self,
        prompts: Sequence[Sequence[Message]],
        on_done: Callable[[int], None] = lambda count: None,
        sampling: Sampling = GREEDY,
    ) -> list[Answer]:
        """The same with how each answer ended, its tokens and, where asked for, their log probabilities."""
        encoded = [prompt_ids(messages, self.tokenizer) for messages in prompts]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        budget = self._budget(sampling)
        answers: dict[int, Answer] = {}
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and self._fits(
                encoded[order[start]], encoded[order[stop]], stop + 1 - start, budget
            ):
                stop += 1
            group = order[start:stop]
            answers.update(zip(group, self._write([encoded[i] for i in group], sampling), strict=True))
            on_done(len(group))
            start = stop
        return [answers[i] for i in range(len(encoded))]

    def _write(self, encoded: Sequence[list[int]], sampling: Sampling) -> list[Answer]:
        """Answers to prompts that are read at once."""
        rows, budget = self._rows(encoded, sampling), self._budget(sampling)
        columns = list(self._decode(*self._left_pad(encoded), budget, rows))
        if rows:
            return [row.answer(len(ids)) for row, ids in zip(rows, encoded, strict=True)]
        answers = []
        for place, ids in enumerate(encoded):
            written = self._until_stop([column[place] for column in columns])
            full = len(written) == min(budget, self.context - max(map(len, encoded)))
            answers.append(Answer(self._text(written), "length" if full else "stop", len(ids), len(written)))
        return answers

    def _rows(self, encoded: Sequence[list[int]], sampling: Sampling) -> list[_Row]:
        """What chooses each row's tokens; empty where the likeliest token is all that is wanted."""
        if Chooser(sampling, []).plain and not sampling.stop:
            return []
        return [_Row(Chooser(sampling, ids), Pieces(self._text, sampling.stop), self._stops) for ids in encoded]

    def _budget(self, sampling: Sampling) -> int:
        return sampling.max_new_tokens or self.max_new_tokens

    def _fits(self, shortest: list[int], longest: list[int], rows: int, budget: int) -> bool:
        """Whether these rows can be read at once; padding would come between virtual tokens and a shorter prompt."""
        held = len(longest) + min(budget, self.context - len(longest))
        return rows * held <= BATCH_TOKENS and not (self._virtual and len(shortest) != len(longest))

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
    def _decode(
        self, ids_BT: Tensor, mask_BT: Tensor | None, budget: int = 0, rows: Sequence[_Row] = ()
    ) -> Iterator[list[int]]:
        """One list of B tokens per step, until every row has stopped or the budget is spent.

        A row that has stopped yields padding. Nothing is yielded at the step where the last row stops. ``rows`` choose
        their own tokens; without them it is the likeliest.
        """
        width = ids_BT.shape[1]
        choose = self._by_rows(rows) if rows else self._greedy(len(ids_BT), ids_BT.device)
        extra: dict[str, Any] = {"past_key_values": None}
        if mask_BT is not None:
            positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
            extra.update(attention_mask=mask_BT, position_ids=positions_BT)
        step_ids, model = ids_BT, self.model
        for _ in range(min(budget or self.max_new_tokens, self.context - width)):
            output = model(input_ids=step_ids, use_cache=True, logits_to_keep=1, **extra)
            next_B = choose(output.logits[:, -1])
            if next_B is None:
                return
            yield next_B.tolist()
            if self._virtual:  # they are in the cache now; PEFT would put them before every token
                model = self.model.get_base_model()
            step_ids = next_B[:, None]
            extra["past_key_values"] = output.past_key_values
            if mask_BT is not None:
                mask_BT = torch.cat([mask_BT, torch.ones_like(step_ids)], 1)
                extra.update(attention_mask=mask_BT, position_ids=extra["position_ids"][:, -1:] + 1)

    def _greedy(self, rows: int, device: torch.device) -> Callable[[Tensor], Tensor | None]:
        """The likeliest tokens of all rows at once; None when the last row stops."""
        running_B = torch.ones(rows, dtype=torch.bool, device=device)
        stops = torch.tensor(sorted(self._stops), dtype=torch.long, device=device)

        def choose(logits_BV: Tensor) -> Tensor | None:
            next_B = logits_BV.argmax(-1)
            running_B.logical_and_(~torch.isin(next_B, stops))
            next_B = torch.where(running_B, next_B, torch.full_like(next_B, int(stops[0]) if len(stops) else 0))
            return next_B if running_B.any() else None

        return choose

    def _by_rows(self, rows: Sequence[_Row]) -> Callable[[Tensor], Tensor | None]:
        padding = min(self._stops, default=0)

        def choose(logits_BV: Tensor) -> Tensor | None:
            tokens = [
                row.step(logits_V) if row.running else padding for row, logits_V in zip(rows, logits_BV, strict=True)
            ]
            going = any(row.running for row in rows)
            return torch.tensor(tokens, device=logits_BV.device) if going else None

        return choose

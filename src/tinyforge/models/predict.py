"""Answers from models that do not hold a conversation: classes, generated text, spans of a context, stored responses.

Legend: B rows, T tokens, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tinyforge.dataset.batches import plan_epoch
from tinyforge.dataset.spans import WINDOW, Window, split_context, windows
from tinyforge.errors import InputError
from tinyforge.models.calibrate import Calibration
from tinyforge.models.family import longest_input
from tinyforge.models.forward import padded, span_logits
from tinyforge.models.responses import BATCH_TOKENS, VECTORS, embed_all, load_responses

NO_LIMIT = 1 << 30
LONGEST_SPAN = 64  # tokens of an extracted answer


@dataclass(frozen=True)
class Prediction:
    """An answer. ``score`` is the probability of a class, or of a span in its window, or the cosine to a response.

    ``probabilities`` holds every class. ``complete`` is False when generated text was cut at its longest.
    """

    text: str
    score: float | None
    probabilities: dict[str, float] = field(default_factory=dict)
    complete: bool = True


class Predictor(Protocol):
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One answer for each text, in order. Raises InputError for a text that the model cannot take whole."""
        ...


class _Reader:
    """A model with its tokenizer; texts go in whole or are refused."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.limit = longest_input(model.config, tokenizer, NO_LIMIT)

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = [self.tokenizer(text, verbose=False)["input_ids"] for text in texts]
        for number, row in enumerate(rows, 1):
            if not 0 < len(row) <= self.limit:
                raise InputError(
                    f"text {number}: has {len(row)} tokens; this model takes 1 to {self.limit}.", "Shorten it."
                )
        return rows

    def _batches(self, rows: Sequence[list[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Places in ``rows``, ids and mask, of rows of similar length."""
        for batch in plan_epoch([len(row) for row in rows], BATCH_TOKENS, 0, 0):
            places = [int(i) for i in batch]
            yield places, *padded([rows[i] for i in places], self.tokenizer.pad_token_id)


class Classifier(_Reader):
    """Classes with probabilities; calibrated when the model's folder holds a temperature."""

    def __init__(self, model: Any, tokenizer: Any, temperature: float = 1.0) -> None:
        super().__init__(model, tokenizer)
        self.temperature = temperature
        self.labels = [model.config.id2label[i] for i in range(model.config.num_labels)]

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        found: dict[int, Prediction] = {}
        for places, ids_BT, mask_BT in self._batches(self._encode(texts)):
            logits_BC = self.model(input_ids=ids_BT, attention_mask=mask_BT).logits.float()
            shares = (logits_BC / self.temperature).softmax(-1).tolist()
            found.update(zip(places, map(self._named, shares), strict=True))
        return [found[i] for i in range(len(texts))]

    def _named(self, shares: list[float]) -> Prediction:
        best = max(range(len(shares)), key=shares.__getitem__)
        return Prediction(self.labels[best], shares[best], dict(zip(self.labels, shares, strict=True)))


class TextToText(_Reader):
    """Text written by an encoder-decoder. Greedy: the same text gives the same answer."""

    def __init__(self, model: Any, tokenizer: Any, max_new_tokens: int = 256) -> None:
        super().__init__(model, tokenizer)
        self.max_new_tokens = max_new_tokens

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        found: dict[int, Prediction] = {}
        for places, ids_BT, mask_BT in self._batches(self._encode(texts)):
            written = self._generate(ids_BT, mask_BT, self.max_new_tokens)
            found.update(zip(places, map(self._finished, written[:, 1:].tolist()), strict=True))
        return [found[i] for i in range(len(texts))]

    @torch.inference_mode()
    def write(self, text: str, most: int) -> list[int]:
        """The token that begins every answer, and up to ``most`` of this one, its end among them where it came."""
        (row,) = self._encode([text])
        ids_1T = torch.tensor([row])
        return [int(token) for token in self._generate(ids_1T, torch.ones_like(ids_1T), most)[0]]

    def _generate(self, ids_BT: Tensor, mask_BT: Tensor, most: int) -> Tensor:
        """The likeliest token each time, (B, 1 + T) with the token that begins every answer."""
        written: Tensor = self.model.generate(
            input_ids=ids_BT, attention_mask=mask_BT, do_sample=False, num_beams=1, max_new_tokens=most
        )
        return written

    @torch.inference_mode()
    def logits(self, text: str, written: Sequence[int]) -> Tensor:
        """What speaks for each token at the places after the first of ``written``; (len(written) - 1, V), float32."""
        (row,) = self._encode([text])
        ids_1T = torch.tensor([row])
        before_1A = torch.tensor([list(written[:-1])])
        told = self.model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), decoder_input_ids=before_1A)
        found: Tensor = told.logits[0].float()
        return found

    def _finished(self, ids: list[int]) -> Prediction:
        text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Prediction(text, None, complete=self.tokenizer.eos_token_id in ids)


class Extractor(_Reader):
    """The span of a text's context that answers its question; an empty text where the context does not say.

    A text is split into question and context as in training (:func:`split_context`). Over the windows of a long
    context, the span with the highest summed logits is taken, unless no window has one above its "no answer".
    """

    @torch.inference_mode()
    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        rows: list[Window] = []
        owners: list[int] = []
        contexts = []
        for number, text in enumerate(texts):
            question, context = split_context(text)
            contexts.append(context)
            cut = windows(question, context, self.tokenizer, min(self.limit, WINDOW))
            if not any(place for row in cut for place in row.offsets):
                raise InputError(f"text {number + 1}: is empty.", "Give a question and the text to look in.")
            rows += cut
            owners += [number] * len(cut)
        best: dict[int, tuple[float, float, str]] = {}
        for places, ids_BT, mask_BT in self._batches([row.ids for row in rows]):
            start_BT, end_BT = span_logits(self.model, ids_BT, mask_BT, [rows[i].border for i in places])
            for place, start_T, end_T in zip(places, start_BT, end_BT, strict=True):
                owner = owners[place]
                found = _best_span(rows[place], start_T, end_T, contexts[owner])
                best[owner] = max(best.get(owner, found), found, key=lambda span: span[0])
        return [Prediction(text, score) for _, score, text in (best[i] for i in range(len(texts)))]


def _best_span(window: Window, start_T: Tensor, end_T: Tensor, context: str) -> tuple[float, float, str]:
    """``(margin over no answer, probability, text)``; a margin of 0 is "no answer", whose place is the first token."""
    places = torch.tensor([i for i, offset in enumerate(window.offsets) if offset is not None])
    sums = start_T[places][:, None] + end_T[places][None, :]
    allowed = torch.ones_like(sums).triu().tril(LONGEST_SPAN - 1).bool()  # the end not before the start, nor far away
    first, last = divmod(int(sums.masked_fill(~allowed, float("-inf")).argmax()), len(places))
    nothing = float(start_T[0] + end_T[0])
    log_all = float(start_T.logsumexp(0) + end_T.logsumexp(0))
    total = float(sums[first, last])
    if total <= nothing:
        return 0.0, float(torch.tensor(nothing - log_all).exp()), ""
    begins, ends = window.offsets[int(places[first])], window.offsets[int(places[last])]
    assert begins is not None and ends is not None
    return total - nothing, float(torch.tensor(total - log_all).exp()), context[begins[0] : ends[1]]


class Responder(_Reader):
    """The stored response nearest to a text."""

    def __init__(self, model: Any, tokenizer: Any, texts: Sequence[str], vectors_nD: Tensor) -> None:
        super().__init__(model, tokenizer)
        self.texts, self.vectors_nD = list(texts), vectors_nD

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        if not texts:
            return []
        similarities = embed_all(self.model, self._encode(texts), self.tokenizer.pad_token_id) @ self.vectors_nD.T
        best, index = similarities.max(-1)
        return [Prediction(self.texts[i], score) for i, score in zip(index.tolist(), best.tolist(), strict=True)]


def kind_of(folder: Path) -> str:
    """Which objective made the model in ``folder``: classify, seq2seq, extract, respond, or sft for any decoder.

    Raises InputError for an encoder without a head.
    """
    from transformers import AutoConfig

    from tinyforge.models.family import family

    if (folder / VECTORS).is_file():
        return "respond"
    config = AutoConfig.from_pretrained(folder)
    names = config.architectures or []
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "classify"
    if any(name.endswith("ForQuestionAnswering") for name in names):
        return "extract"
    kind = family(config)
    if kind == "encoder":
        raise InputError(
            f"{folder}: holds an encoder that was not trained to answer ({', '.join(names)}).",
            "Train it on your rows first.",
        )
    return "seq2seq" if kind == "encoder-decoder" else "sft"


def load_predictor(folder: Path, precision: str = "fp32") -> Predictor:
    """The model saved in ``folder``, ready to answer; its files tell what it is.

    Raises InputError for a causal language model, which is asked with messages (see ``models.generate.Writer``).
    """
    from transformers import AutoConfig

    from tinyforge.models.family import load_for
    from tinyforge.models.resolve import load_tokenizer

    kind, tokenizer = kind_of(folder), load_tokenizer(folder)
    if kind == "sft":
        raise InputError(f"{folder}: holds a causal language model.", "Ask it with `tinyforge chat`.")
    names = AutoConfig.from_pretrained(folder).id2label
    labels = [names[i] for i in range(len(names))]
    model = load_for(kind, folder, precision, labels, tokenizer.pad_token_id)
    return predictor(kind, model, tokenizer, folder)


def predictor(kind: str, model: Any, tokenizer: Any, folder: Path) -> Predictor:
    """A loaded model as what it was trained for; ``folder`` holds what its training left beside the weights."""
    if kind == "classify":
        calibration = Calibration.load(folder)
        return Classifier(model, tokenizer, calibration.temperature if calibration else 1.0)
    if kind == "respond":
        return Responder(model, tokenizer, *load_responses(folder))
    return TextToText(model, tokenizer) if kind == "seq2seq" else Extractor(model, tokenizer)

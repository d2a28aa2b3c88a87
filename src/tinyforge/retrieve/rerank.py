"""Put passages in order anew with a cross-encoder: a model that reads question and passage together.

Slower than comparing vectors by the number of passages, so only the best few are looked at (Nogueira and Cho 2019,
arXiv:1901.04085). Held to sentence-transformers' CrossEncoder by a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.records import Hit

LONGEST = 512  # tokens of question and passage together


class Reranker:
    """A sequence classifier with one output, in a local folder; nothing is loaded before the first use."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise InputError(f"{folder}: is not a model folder (it has no config.json).", "Give a cross-encoder's.")

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self.folder), **options)
            model = AutoModelForSequenceClassification.from_pretrained(
                str(self.folder), use_safetensors=True, dtype="float32", **options
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{self.folder}: not usable as a cross-encoder ({reason}).") from error
        if model.config.num_labels != 1:
            raise InputError(
                f"{self.folder}: has {model.config.num_labels} outputs; a cross-encoder that ranks has one.",
                "Give another model.",
            )
        return tokenizer, model.eval()

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """The model's logit for each text: higher fits better."""
        import torch

        tokenizer, model = self._parts
        longest = min(LONGEST, getattr(model.config, "max_position_embeddings", LONGEST))
        pairs = tokenizer(
            [question] * len(texts), list(texts), truncation="longest_first", max_length=longest, padding=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            return [float(score) for score in model(**pairs).logits[:, 0]]

    def order(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, best first; of equal ones the earlier stays first."""
        scores = self.scores(question, [f"{' > '.join(hit.path)}\n{hit.text}" for hit in hits])
        return [hits[i] for i in sorted(range(len(hits)), key=lambda i: (-scores[i], i))]

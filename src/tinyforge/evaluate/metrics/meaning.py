"""Nearness in meaning, by the sentence embeddings that retrieval uses (offline MiniLM)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from tinyforge.evaluate.metrics.base import Answer, Array, Pooled, ratio, references
from tinyforge.records import Example
from tinyforge.retrieve.sentences import sentences

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Embedder, Vectors


@lru_cache(maxsize=1)
def _embedder() -> Embedder:
    from tinyforge.retrieve.embed import Embedder

    return Embedder()


def _vectors(texts: Sequence[str]) -> dict[str, Vectors]:
    """A unit vector for each distinct text, all embedded in one go."""
    unique = list(dict.fromkeys(text for text in texts if text.strip()))
    return dict(zip(unique, _embedder().embed(unique), strict=True))


def _similarities(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    wanted = [references(example) for example in examples]
    known = _vectors([*(answer.text for answer in answers), *(text for texts in wanted for text in texts)])
    rows = [
        max(
            (float(known[answer.text] @ known[text]) for text in texts if answer.text in known and text in known),
            default=0,
        )
        for answer, texts in zip(answers, wanted, strict=True)
    ]
    return np.array([[row, 1.0] for row in rows]).reshape(-1, 2)


def _flow(answers: Sequence[Answer], examples: Sequence[Example]) -> Array:
    parts = [[answer.text[a:b] for a, b in sentences(answer.text)] for answer in answers]
    known = _vectors([text for row in parts for text in row])
    return np.array([_neighbours([known[text] for text in row]) for row in parts]).reshape(-1, 2)


def _neighbours(vectors: Sequence[Vectors]) -> tuple[float, float]:
    if len(vectors) < 2:
        return np.nan, np.nan
    return float(np.mean([a @ b for a, b in pairwise(vectors)])), 1.0


similarity = Pooled(_similarities, ratio)
"""Cosine between the embeddings of the answer and the nearest reference; 0 for an empty answer."""

coherence = Pooled(_flow, ratio)
"""Mean cosine between each sentence of an answer and the next (after Foltz, Kintsch & Landauer 1998, with sentence
embeddings in place of latent semantic analysis); answers of a single sentence are left out."""

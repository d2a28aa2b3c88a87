"""What is measured of a model that reads: what a person is told, as in chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tinyforge.evaluate.metrics.base import Answer
from tinyforge.pipeline.answering import Hits, Respond
from tinyforge.records import Example

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Embedder


def give_way(answers: Sequence[Answer], hits: Hits, quotes: Sequence[Answer], copied: bool) -> list[Answer]:
    """What a person is told: an answer that does not stand on its passages gives way to the quote.

    ``copied`` is as in serve.answer.stands. What could not be asked stays as it is.
    """
    from tinyforge.serve.answer import stands

    told = []
    for answer, found, quote in zip(answers, hits, quotes, strict=True):
        text = answer.text if stands(answer.text, found, copied) else quote.text
        told.append(answer if answer.error else replace(answer, text=text, declined=False, as_written=answer.text))
    return told


def by_reading(respond: Respond, embedder: Embedder, sentences: int) -> Respond:
    """``respond`` with passages, as chat asks it and passes its answers on."""
    from tinyforge.pipeline.answering import by_quoting
    from tinyforge.retrieve.quote import to_read

    def reading(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        questions = [str(e.metadata.get("question", e.question)) for e in examples]
        answers = respond(examples, to_read(questions, hits, embedder, sentences))
        return give_way(answers, hits, by_quoting(embedder)(examples, hits), copied=bool(sentences))

    return reading

"""Passages as a search shows them: each with the sentence in it that fits the question best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyforge.records import Hit, Span
from tinyforge.retrieve.embed import Embedder
from tinyforge.retrieve.quote import pieces, quote_many


@dataclass(frozen=True, slots=True)
class Highlighted:
    """``spans`` are parts of the hit's own span, in order: the best sentence, and a neighbour that fits as well."""

    hit: Hit
    spans: tuple[Span, ...]

    def parts(self) -> list[tuple[str, bool]]:
        """The passage's text in pieces, and whether each is highlighted; joined they are the text."""
        start, found, last = self.hit.span.start, [], 0
        for span in self.spans:
            found.append((self.hit.text[last : span.start - start], False))
            found.append((self.hit.text[span.start - start : span.end - start], True))
            last = span.end - start
        found.append((self.hit.text[last:], False))
        return [(text, marked) for text, marked in found if text]


def highlight(question: str, hits: Sequence[Hit], embedder: Embedder) -> list[Highlighted]:
    """Each hit with its best sentence, in the order of the hits."""
    readable = [hit for hit in hits if pieces(hit)]
    quotes = quote_many([question] * len(readable), [[hit] for hit in readable], embedder)
    spans = {hit: quote.spans for hit, quote in zip(readable, quotes, strict=True)}
    return [Highlighted(hit, spans.get(hit, ())) for hit in hits]

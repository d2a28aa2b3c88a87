"""The words of a document that an answer stands on, with a little of what is around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyforge.records import Document, Span

AROUND = 110  # characters shown on either side
MOST = 4  # spans shown of one answer


def evidence_pieces(spans: Sequence[Span], documents: Mapping[str, Document]) -> list[dict[str, str]]:
    """``{"before", "text", "after"}`` of the first ``MOST`` spans; ``text`` is exactly the characters of the span."""
    return [_piece(span, documents[span.document].text) for span in spans[:MOST]]


def _piece(span: Span, text: str) -> dict[str, str]:
    start, end = max(0, span.start - AROUND), min(len(text), span.end + AROUND)
    before, after = text[start : span.start], text[span.end : end]
    if start and " " in before:  # not in the middle of a word
        before = "… " + before[before.index(" ") + 1 :]
    if end < len(text) and " " in after:
        after = after[: after.rindex(" ")] + " …"
    return {"before": before, "text": text[span.start : span.end], "after": after}

"""Does a passage say what an answer says? A check by words: strict about numbers, names and negations.

It cannot follow a paraphrase, so it errs on the side of "not supported"; what is not supported gives way to a quote,
which is always true to the document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tinyforge.records import Hit
from tinyforge.retrieve.quote import Piece, pieces
from tinyforge.retrieve.sentences import sentences
from tinyforge.retrieve.words import content_words, stem, words

SHARE = 0.75  # of an answer's content words that its passage must hold; assumed, not measured
CITED_SHARE = 0.5  # of them that one sentence must hold to be cited
_NEGATIONS = frozenset({"not", "no", "never", "none", "neither", "without", "nobody", "nothing"})
_CAPITALISED = re.compile(r"(?<=[\w,;:)] )[A-Z][\w.&-]*")


def supported(answer: str, passages: Sequence[str]) -> bool:
    """Whether each sentence of ``answer`` is held by one of the passages.

    That is: three quarters of its content words are in the passage, and so is every number and every name; and the
    passage's sentence that is nearest to it is negated when it is, and only then. An answer without a single content
    word is never supported.
    """
    return bool(content_words(answer)) and all(
        any(_holds(passage, answer[start:end]) for passage in passages) for start, end in sentences(answer)
    )


def verbatim(answer: str, passages: Sequence[str]) -> bool:
    """Whether each sentence of ``answer`` stands in one of the passages word for word, but for case and punctuation.

    What small models write out of passages are copies; one that is not exact is a slip.
    """
    texts = [f" {' '.join(words(passage))} " for passage in passages]
    parts = [" ".join(words(answer[start:end])) for start, end in sentences(answer)]
    said = [part for part in parts if part]
    return bool(said) and all(any(f" {part} " in text for text in texts) for part in said)


def _holds(passage: str, sentence: str) -> bool:
    held = frozenset(content_words(passage))
    wanted = content_words(sentence)
    numbers = {word for word in words(sentence) if any(map(str.isdigit, word))}
    names = {stem(word) for name in _CAPITALISED.findall(sentence) for word in words(name)}
    missing = (numbers - frozenset(words(passage))) | {name for name in names & frozenset(wanted) if name not in held}
    return not missing and share(wanted, held) >= SHARE and _negated(sentence) == _negated(_nearest(sentence, passage))


def share(wanted: Sequence[str], held: frozenset[str]) -> float:
    """The share of the wanted words that are held; 1.0 when nothing is wanted."""
    return sum(word in held for word in wanted) / len(wanted) if wanted else 1.0


def _negated(sentence: str) -> bool:
    return not _NEGATIONS.isdisjoint(words(sentence))


def _nearest(sentence: str, passage: str) -> str:
    wanted = content_words(sentence)
    found = [passage[start:end] for start, end in sentences(passage)]
    return max(found, key=lambda text: share(wanted, frozenset(content_words(text))), default="")


def evidence(answer: str, hits: Sequence[Hit]) -> list[tuple[tuple[int, int], tuple[Hit, Piece] | None]]:
    """The sentences of the answer as ``(start, end)``, each with the passage sentence that holds most of its words.

    None where no passage sentence holds at least half of them. Headings and the names of table cells count towards a
    passage sentence's words.
    """
    candidates = [(hit, piece) for hit in hits for piece in pieces(hit)]
    held = [frozenset(content_words(f"{hit.path[-1]} {piece.name} {piece.text}")) for hit, piece in candidates]
    found: list[tuple[tuple[int, int], tuple[Hit, Piece] | None]] = []
    for start, end in sentences(answer):
        wanted = content_words(answer[start:end])
        shares = [share(wanted, words) if wanted else 0.0 for words in held]
        best = max(range(len(shares)), key=lambda i: (shares[i], -i), default=None)
        enough = best is not None and shares[best] >= CITED_SHARE
        found.append(((start, end), candidates[best] if enough and best is not None else None))
    return found

"""Near copies of texts: word shingles, MinHash to find candidates, and their Jaccard similarity counted exactly.

MinHash signatures (Broder 1997) by rensa; rows whose signatures agree in a whole band are candidates (Leskovec,
Rajaraman and Ullman, Mining of Massive Datasets, 3.4). Bands are chosen so that 99% of the
pairs at the threshold are found.

Shapes: n texts, B bands, R numbers in a band.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = 128
SHINGLE_WORDS = 3
_FOUND = 0.99  # of the pairs at the threshold
_BUCKET = 64  # of the members of one bucket, each is compared with at most so many earlier ones
_CHUNK = 8192  # texts whose signatures exist as Python numbers at a time
_TO_SPACES = {number: " " for number in range(128) if not chr(number).isalnum()}  # what _WORD leaves out of ASCII
# Scripts without spaces between words count by character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+")


def words(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    lower = text.lower()
    return lower.translate(_TO_SPACES).split() if lower.isascii() else _WORD.findall(lower)


def shingles(found: Sequence[str], size: int) -> set[str]:
    """Every ``size`` words in a row; of fewer words, all of them as one."""
    if len(found) <= size:
        return {" ".join(found)}
    return set(map(" ".join, zip(*(found[i:] for i in range(size)), strict=False)))


def character_grams(text: str, size: int = 5) -> set[str]:
    """Every ``size`` characters in a row; a shorter text as it is."""
    return {text[i : i + size] for i in range(max(1, len(text) - size + 1))}


def jaccard(one: set[str], other: set[str]) -> float:
    """Shared over all; 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


def near_pairs(
    texts: Sequence[str], threshold: float, size: int = SHINGLE_WORDS, seed: int = 0
) -> list[tuple[int, int, float]]:
    """Pairs ``(earlier, later, similarity)`` of texts whose shingles' Jaccard similarity is at least ``threshold``.

    Sorted by the later, then the earlier. Every similarity is exact; a pair is missed with 1% probability at most, and
    in buckets of more than 64 texts, where each is compared with the first ones only.
    """
    sets = [shingles(words(text), size) for text in texts]
    if len(sets) < 2:
        return []
    found: dict[tuple[int, int], float] = {}
    checked: set[int] = set()
    for one, other in _candidates(sets, threshold, seed):
        key = one * len(sets) + other
        if key not in checked:
            checked.add(key)
            similarity = jaccard(sets[one], sets[other])
            if similarity >= threshold:
                found[one, other] = similarity
    return [(a, b, s) for (a, b), s in sorted(found.items(), key=lambda pair: (pair[0][1], pair[0][0]))]


def bands_for(threshold: float) -> tuple[int, int]:
    """``(B, R)`` with B x R numbers at most, the longest bands that find enough of the pairs at the threshold."""
    for rows in range(SIGNATURE, 1, -1):
        bands = SIGNATURE // rows
        if 1 - (1 - threshold**rows) ** bands >= _FOUND:
            return bands, rows
    return SIGNATURE, 1


def _candidates(sets: list[set[str]], threshold: float, seed: int) -> Iterator[tuple[int, int]]:
    bands, rows = bands_for(threshold)
    signatures = _signatures(sets, seed)
    mixing = np.random.default_rng(seed).integers(1, 1 << 63, SIGNATURE, dtype=np.uint64) * 2 + 1
    for band in range(bands):
        # One number for each band: two bands that share it by chance are told apart by the exact count.
        keys = (signatures[:, band * rows : (band + 1) * rows].astype(np.uint64) * mixing[:rows]).sum(axis=1)
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        yield from _bucket_pairs(order, same)


def _bucket_pairs(order: NDArray[np.int64], same: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Pairs among neighbours in ``order``; ``same[i]`` says that i and i + 1 are in one bucket."""
    places = np.flatnonzero(same).tolist()
    start = -1
    for number, place in enumerate(places):
        if number == 0 or places[number - 1] != place - 1:
            start = place
        later = int(order[place + 1])
        for earlier in order[start : min(place + 1, start + _BUCKET)].tolist():
            yield earlier, later


def _signatures(sets: list[set[str]], seed: int) -> NDArray[np.uint32]:
    from rensa import RMinHash

    parts = []
    for start in range(0, len(sets), _CHUNK):
        chunk: list[Any] = [list(one) for one in sets[start : start + _CHUNK]]
        matrix = RMinHash.digest_matrix_from_token_sets(chunk, SIGNATURE, seed)
        parts.append(np.array(matrix.to_rows(), dtype=np.uint32))
    return np.concatenate(parts)

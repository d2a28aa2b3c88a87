"""What a dataset consists of: counts that a person reads before training on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from tinyforge.dataset.checks import answers_of, texts_of
from tinyforge.dataset.dedupe import twins
from tinyforge.dataset.languages import language
from tinyforge.dataset.quality import difficulty_of, distinct, entropy
from tinyforge.dataset.rude import rude_words
from tinyforge.dataset.similar import words
from tinyforge.ingest.privacy import find
from tinyforge.records import Example

_RANKS = {"shortest": 0.0, "median": 0.5, "95th": 0.95, "longest": 1.0}
_TOP = 15
_GRAM = 3
_BARE = frozenset("the of and to a in is that it for was on are as with be this by from or an what how why who".split())


@dataclass(frozen=True)
class Options:
    """``tokens`` counts the tokens of a text, ``topics`` groups texts by meaning; None leaves the figure out."""

    tokens: Callable[[str], int] | None = None
    topics: Callable[[Sequence[str]], list[str]] | None = None
    near: float = 0.8


def statistics(examples: Sequence[Example], options: Options) -> dict[str, Any]:
    """All counts of a set of one kind, as JSON data."""
    texts = ["\n".join(texts_of(example)) for example in examples]
    found = twins(examples, options.near)
    labels = Counter(example.label for example in examples if example.label)
    return {
        "rows": len(examples),
        "kind": examples[0].kind if examples else "",
        "turns": _spread([len(e.messages) for e in examples if e.messages]),
        "lengths": _lengths(examples, options),
        "languages": dict(Counter(map(language, texts)).most_common()),
        "copies": dict(Counter(twin.how for twin in found).most_common()),
        "labels": dict(labels.most_common()),
        "label_balance": round(entropy(labels), 4) if labels else None,
        **_topics(examples, texts, options),
        "difficulty": dict(Counter(difficulty_of(e) for e in examples if e.kind == "chat").most_common()),
        "distinct_3_grams": round(distinct(texts), 4),
        "top_3_grams": dict(_grams(texts).most_common(_TOP)),
        "rude_words": dict(sum((rude_words(text) for text in texts), Counter[str]()).most_common()),
        "rows_with_rude_words": sum(bool(rude_words(text)) for text in texts),
        **_personal(texts),
    }


def _spread(sizes: Sequence[int]) -> dict[str, float]:
    ordered = sorted(sizes)
    if not ordered:
        return {}
    ranks = {name: ordered[max(0, ceil(share * len(ordered)) - 1)] for name, share in _RANKS.items()}
    return {**ranks, "mean": round(sum(ordered) / len(ordered), 1), "total": sum(ordered)}


def _lengths(examples: Sequence[Example], options: Options) -> dict[str, dict[str, float]]:
    given = ["\n".join(m.content for m in e.messages if m.role != "assistant") for e in examples if e.messages]
    learned = ["\n".join(answers_of(e)) for e in examples if e.kind != "labelled"]
    measures: dict[str, Callable[[str], int]] = {"characters": len, "words": lambda text: len(words(text))}
    if options.tokens:
        measures["tokens"] = options.tokens
    found = {}
    for name, measure in measures.items():
        for part, texts in (("given", given), ("learned", learned)):
            if texts:
                found[f"{name} {part}"] = _spread([measure(text) for text in texts])
    return found


def _topics(examples: Sequence[Example], texts: Sequence[str], options: Options) -> dict[str, Any]:
    """By the rows' own topics, else by meaning where that was asked for."""
    counts = Counter(example.topic for example in examples if example.topic)
    by = "the rows' own"
    if not counts and options.topics and len(texts) > 1:
        counts, by = Counter(options.topics(texts)), "meaning"
    if not counts:
        return {"topics": {}, "topic_entropy": None}
    return {"topics_by": by, "topics": dict(counts.most_common(_TOP)), "topic_entropy": round(entropy(counts), 4)}


def _grams(texts: Sequence[str]) -> Counter[str]:
    """Three words in a row by the number of rows that have them, those of small words alone left out."""
    counts: Counter[str] = Counter()
    for text in texts:
        found = words(text)
        runs = {tuple(found[i : i + _GRAM]) for i in range(len(found) - _GRAM + 1)}
        counts.update(" ".join(run) for run in runs if not _BARE.issuperset(run))
    return Counter({gram: count for gram, count in counts.items() if count > 1})


def _personal(texts: Sequence[str]) -> dict[str, Any]:
    kinds: Counter[str] = Counter()
    rows = 0
    for text in texts:
        found = find(text)
        rows += bool(found)
        kinds.update(one.kind for one in found)
    return {"personal_data": dict(kinds.most_common()), "rows_with_personal_data": rows}

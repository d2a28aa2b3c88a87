"""Examples into train, dev, held-out wordings and held-out documents: by fact, never by row.

Facts that share evidence, an answer, or eight words of an answer in a row form a cluster; a cluster stays on one side.
``documents`` holds the clusters that are never trained on, ``wordings`` the unseen wordings of trained facts, ``dev``
both kinds, for choosing checkpoints. :func:`check_leaks` says what is wrong with a split, from the examples alone.
"""

from __future__ import annotations

import random
import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tinyforge.config import DatasetConfig
from tinyforge.dataset.components import components
from tinyforge.dataset.similar import character_grams, jaccard
from tinyforge.errors import InputError
from tinyforge.records import Example, Span, Split, content_id

FEWEST_CLUSTERS = 8
_CLUSTER_NGRAM = 8  # stricter than what is checked, so that the check cannot fail for want of a word
_LEAK_NGRAM = 13
_NEAR_WORDING = 0.7  # Jaccard similarity of character 5-grams; clear of the 0.8 from which a leak is reported
_FEWEST_TEST_FACTS = 20  # where there are a hundred facts or more
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Dropped:
    """An example that is in no part of the split, and why."""

    id: str
    fact: str
    reason: str


@dataclass(frozen=True, slots=True)
class SplitResult:
    """``examples`` with cluster and split set, in their order; ``dropped`` holds every other example."""

    examples: list[Example]
    dropped: list[Dropped]

    def counts(self) -> dict[str, int]:
        return dict(Counter(example.split for example in self.examples))


def split(examples: Sequence[Example], config: DatasetConfig, seed: int) -> SplitResult:
    """Assign every example to a cluster and a part, or drop it with a reason.

    Raises InputError when there are too few independent facts for an honest test.
    """
    facts: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        facts[example.fact or example.id].append(example)
    clusters = components(facts, _links(facts))
    parts = _assign(clusters, {fact: rows[0].rule for fact, rows in facts.items()}, config, seed)
    names = {fact: content_id("cluster", *sorted(members)) for members in clusters for fact in members}
    placed: dict[str, Split] = {}
    reasons: dict[str, str] = {}
    for fact, rows in facts.items():
        _place(rows, parts[fact], config, placed, reasons)
    _drop_repeats(examples, placed, reasons)
    kept = [
        replace(example, cluster=names[example.fact or example.id], split=placed[example.id])
        for example in examples
        if example.id in placed
    ]
    left = [Dropped(e.id, e.fact, reasons[e.id]) for e in examples if e.id not in placed]
    return SplitResult(kept, left)


def _links(facts: dict[str, list[Example]]) -> Iterator[tuple[str, str]]:
    """Pairs of facts that belong together."""
    first: dict[str, str] = {}
    for fact, rows in facts.items():
        for key in dict.fromkeys(key for row in rows for key in _answer_keys(row)):
            yield first.setdefault(key, fact), fact
    spans = sorted(
        (
            (span.document, span.start, span.end, fact)
            for fact, rows in facts.items()
            for row in rows
            for span in row.evidence
        )
    )
    document, reach, holder = "", -1, ""
    for name, start, end, fact in spans:
        if name == document and start < reach:
            yield holder, fact
        if name != document or end > reach:
            document, reach, holder = name, end, fact


def _answer_keys(example: Example) -> Iterator[str]:
    found = _words(example.answer)
    yield "=" + " ".join(found)
    for gram in _grams(found, _CLUSTER_NGRAM):
        yield " ".join(gram)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _grams(found: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return (tuple(found[i : i + size]) for i in range(len(found) - size + 1))


def _assign(clusters: list[list[str]], rules: dict[str, str], config: DatasetConfig, seed: int) -> dict[str, Split]:
    """The part of each fact: clusters are dealt in random order until test and dev have their share of the facts."""
    total = sum(map(len, clusters))
    if len(clusters) < FEWEST_CLUSTERS:
        raise InputError(
            f"dataset: {total} facts in {len(clusters)} independent groups are too few to test honestly "
            f"({FEWEST_CLUSTERS} groups are needed).",
            "Add more documents, or documents with more to ask about.",
        )
    order = _order(clusters, rules, random.Random(f"split:{seed}"))
    test = max(round(config.test_fraction * total), _FEWEST_TEST_FACTS if total >= 100 else 1)
    dev = max(round(config.dev_fraction * total), 1)
    parts: dict[str, Split] = {}
    wishes: tuple[tuple[Split, int], ...] = (("documents", test), ("dev", dev))
    for part, wanted in wishes:
        chosen = _deal(order, parts, wanted)
        if not chosen:
            raise InputError(
                f"dataset: the {total} facts hang together too closely to keep any aside for a test.",
                "Add documents that say different things.",
            )
        parts.update(dict.fromkeys(chosen, part))
    for fact in (fact for members in clusters for fact in members):
        parts.setdefault(fact, "train")
    return parts


def _order(clusters: list[list[str]], rules: dict[str, str], rng: random.Random) -> list[list[str]]:
    """A random order in which every stretch holds about the same mix of rules."""
    kinds: dict[str, list[list[str]]] = defaultdict(list)
    for members in sorted(clusters, key=lambda members: content_id("order", *sorted(members))):
        kinds[rules[members[0]]].append(members)
    keyed: list[tuple[float, list[str]]] = []
    for kind in sorted(kinds):
        found = kinds[kind]
        rng.shuffle(found)
        offset = rng.random()
        keyed += [((place + offset) / len(found), members) for place, members in enumerate(found)]
    return [members for _, members in sorted(keyed)]


def _deal(order: list[list[str]], taken: dict[str, Split], wanted: int) -> list[str]:
    """Facts of whole clusters, in order, until there are ``wanted``; a cluster that would overshoot is passed over."""
    chosen: list[str] = []
    for members in order:
        if members[0] not in taken and len(chosen) + len(members) <= wanted:
            chosen += members
    return chosen


def _place(
    rows: list[Example], part: Split, config: DatasetConfig, placed: dict[str, Split], reasons: dict[str, str]
) -> None:
    """Put the wordings of one fact where they go. ``metadata["wording"]`` orders them; without it, their place does."""
    ordered = sorted(rows, key=lambda row: int(row.metadata.get("wording", 0)))
    aside = config.held_out_wordings
    if part != "train":
        for row in ordered[:aside]:
            placed[row.id] = part
        for row in ordered[aside:]:
            reasons[row.id] = f"further wording of a held-out fact ({part})"
        return
    # A fact with few wordings is trained first, tested on new wordings second.
    tested = min(aside, len(ordered) - 1)
    held = ordered[:tested]
    apart = [row for row in ordered[tested:] if not any(_nearly(row, other) for other in held)]
    if not apart:  # every wording is nearly a tested one: then it is the test that goes
        apart, held = ordered[tested:], []
    kept = {row.id for row in (*held, *apart)}
    reasons.update({row.id: "nearly a wording of the other side" for row in ordered if row.id not in kept})
    ordered, tested = [*held, *apart], len(held)
    watched = 1 if len(ordered) - tested > 1 else 0
    for number, row in enumerate(ordered):
        placed[row.id] = "wordings" if number < tested else "dev" if number < tested + watched else "train"


def _nearly(one: Example, other: Example) -> bool:
    """Whether two wordings differ by a few letters: a test on one would only ask for the other again."""
    grams = (character_grams(_asked(example)) for example in (one, other))
    return jaccard(*grams) >= _NEAR_WORDING


def _asked(example: Example) -> str:
    """Everything before the answer, without case and punctuation."""
    return " ".join(_words(" ".join(m.content for m in example.messages[:-1] if m.role != "system")))


def _drop_repeats(examples: Sequence[Example], placed: dict[str, Split], reasons: dict[str, str]) -> None:
    """A held-out question that is also trained, word for word, would test memory."""
    trained = {_asked(e) for e in examples if placed.get(e.id) == "train"}
    for example in examples:
        if placed.get(example.id, "train") != "train" and _asked(example) in trained:
            del placed[example.id]
            reasons[example.id] = "the same question is trained"


def check_leaks(examples: Iterable[Example]) -> list[str]:
    """What a split lets through, one line each; empty when it is clean.

    Between train and documents: shared clusters or facts, overlapping evidence, 13 words of an answer in a row. Between
    train and every held-out part: the same question but for case and punctuation. Between dev and documents: clusters.
    """
    parts: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        parts[example.split].append(example)
    train, documents = parts["train"], parts["documents"]
    return [
        *_shared_names(train, documents, "train"),
        *_shared_names(parts["dev"], documents, "dev"),
        *_shared_evidence(train, documents),
        *_shared_answers(train, documents),
        *_shared_questions(train, [e for name in ("wordings", "documents", "dev") for e in parts[name]]),
    ]


def _shared_names(ones: list[Example], documents: list[Example], part: str) -> Iterator[str]:
    for kind in ("cluster", "fact"):
        known = {getattr(e, kind) for e in ones} - {""}
        for name in dict.fromkeys(getattr(e, kind) for e in documents):
            if name in known:
                yield f"{kind} {name} is in {part} and in documents."


def _shared_evidence(train: list[Example], documents: list[Example]) -> Iterator[str]:
    trained: dict[str, list[Span]] = defaultdict(list)
    for span in sorted({span for e in train for span in e.evidence}, key=lambda s: (s.document, s.start, s.end)):
        stretches = trained[span.document]
        if stretches and span.start < stretches[-1].end:
            stretches[-1] = Span(span.document, stretches[-1].start, max(stretches[-1].end, span.end))
        else:
            stretches.append(span)
    for span in dict.fromkeys(span for e in documents for span in e.evidence):
        stretches = trained[span.document]
        place = bisect_left(stretches, span.end, key=lambda s: s.start) - 1
        if place >= 0 and stretches[place].overlaps(span):
            yield f"evidence {span.document}[{span.start}:{span.end}] is in train and in documents."


def _shared_answers(train: list[Example], documents: list[Example]) -> Iterator[str]:
    trained = {gram for text in dict.fromkeys(e.answer for e in train) for gram in _grams(_words(text), _LEAK_NGRAM)}
    for text in dict.fromkeys(e.answer for e in documents):
        shared = next((gram for gram in _grams(_words(text), _LEAK_NGRAM) if gram in trained), None)
        if shared is not None:
            yield f"answers in train and in documents share {' '.join(shared)!r}."


def _shared_questions(train: list[Example], held_out: list[Example]) -> Iterator[str]:
    trained = {_asked(e) for e in train}
    for example in held_out:
        if _asked(example) in trained:
            yield f"{example.split} asks a trained question: {example.question!r}."


def without_answers_of(documents: Sequence[Example], rows: Sequence[Example]) -> tuple[list[Example], dict[str, int]]:
    """The rows whose prompts hold no answer of the documents test, nor 13 words of one in a row; how many do, and why.

    An answer of a single word, which any passage may hold, does not count.
    """
    answers = [_words(e.answer) for e in documents]
    grams = {gram for words in answers for gram in _grams(words, _LEAK_NGRAM)}
    whole = {f" {' '.join(words)} " for words in answers if len(words) > 1}

    def clean(content: str) -> bool:
        words = _words(content)
        text = f" {' '.join(words)} "
        return grams.isdisjoint(_grams(words, _LEAK_NGRAM)) and not any(answer in text for answer in whole)

    kept = [row for row in rows if all(clean(m.content) for m in row.messages)]
    reason = "its passages hold an answer of the documents test"
    return kept, {reason: len(rows) - len(kept)} if len(kept) < len(rows) else {}

"""Whether an adaptive budget finds more of what people ask than one pass does, at the same number of facts.

    python bench/adaptive.py                     the handbook and the economics textbook of ../shared
    python bench/adaptive.py --budgets 50 100    other numbers of facts

Everything that the rules and gates let through is the pool; each way takes the same number of facts from it:

    first come      in the order of the documents
    by length       one pass: each topic its share by its length, what is left over in the order of the documents
    by root         one pass: each topic its share by the root of its fact units, at least one for each section
    adaptive        in four rounds, each by root x coverage deficit x acceptance, no section twice before each had its
                    turn (synthesize/adaptive.py)

Held-out recall is the share of questions, written by others, whose answer stands in a fact that was taken: for the
handbook those of retrieval_questions.json, with the words that an answer must hold; for the textbook its own review
questions, whose answer is taken to be the sentence of the same module that shares most of their rare words (questions
that share less than half with any sentence are left out). Writes bench/results/adaptive.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_quality import texts
from lines import ROOT

from tinyforge.config import Config, IngestConfig, SynthesizeConfig
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.records import Document, Span
from tinyforge.retrieve.words import content_words
from tinyforge.run import write_json
from tinyforge.synthesize import synthesize
from tinyforge.synthesize.adaptive import Record, coverage, order, round_shares, section, shares
from tinyforge.synthesize.facts import Place
from tinyforge.synthesize.places import places
from tinyforge.synthesize.topics import Topic, topics

BUDGETS = {"handbook": [40, 80, 120], "economics": [150, 300, 600, 1200, 2000]}
POOL = SynthesizeConfig(facts_per_section=12, wordings=5)
ROUNDS = 4
PER_MODULE_WORDS = 0.5
_REFUSED = ("over_budget", "duplicate_question", "conflicting_answers", "too_few_wordings")


@dataclass(frozen=True)
class Taken:
    """A fact of the pool."""

    spans: tuple[Span, ...]
    answer: str
    heading: str


@dataclass
class Pool:
    """By section: the attempts in their order, None for one that a gate refused."""

    attempts: dict[int, list[Taken | None]]
    topics: list[Topic]

    def facts(self, numbers: Sequence[int]) -> list[Taken]:
        return [fact for number in numbers for fact in self.attempts[number] if fact is not None]


def pool_of(documents: Sequence[Document]) -> Pool:
    made = synthesize(documents, POOL, Config().seed)
    found = list(places(documents))
    number = {(place.document.source, place.path): place.number for place in reversed(found)}
    facts: dict[int, dict[str, Taken]] = defaultdict(dict)
    for e in made.examples:
        heading = e.metadata["section"].split(" > ")[-1]
        facts[number[e.metadata["source"], e.metadata["section"]]].setdefault(
            e.fact, Taken(e.evidence, e.answer, heading)
        )
    refused = Counter(number[r.source, r.section] for r in made.rejected if r.gate not in _REFUSED)
    attempts = {p.number: _mixed(list(facts[p.number].values()), refused[p.number]) for p in found}
    return Pool(attempts, [topic for topic in topics(found) if topic.units])


def _mixed(facts: list[Taken], refused: int) -> list[Taken | None]:
    """The facts with the refused attempts spread evenly among them."""
    keyed: list[tuple[float, Taken | None]] = [((i + 0.5) / len(facts), fact) for i, fact in enumerate(facts)]
    keyed += [((i + 0.4) / refused, None) for i in range(refused)]
    return [fact for _, fact in sorted(keyed, key=lambda pair: pair[0])]


def first_come(pool: Pool, budget: int) -> list[Taken]:
    return pool.facts(sorted(pool.attempts))[:budget]


def one_pass(weigh: Callable[[Sequence[Topic], int], list[int]]) -> Callable[[Pool, int], list[Taken]]:
    def take(pool: Pool, budget: int) -> list[Taken]:
        wanted = weigh(pool.topics, budget)
        chosen: list[Taken] = []
        for topic, count in zip(pool.topics, wanted, strict=True):
            chosen += _turns(pool, topic.places)[:count]
        ids = set(map(id, chosen))
        rest = [fact for fact in pool.facts(sorted(pool.attempts)) if id(fact) not in ids]
        return (chosen + rest)[:budget]

    return take


def by_root(found: Sequence[Topic], budget: int) -> list[int]:
    weights = [math.sqrt(len(topic.units)) for topic in found]
    floors = [len(topic.askable) for topic in found]
    return shares(weights, budget, floors if sum(floors) <= budget else None)


def by_length(found: Sequence[Topic], budget: int) -> list[int]:
    return shares([sum(p.section.span.end - p.section.span.start for p in topic.places) for topic in found], budget)


def _turns(pool: Pool, found: Sequence[Place]) -> list[Taken]:
    """The facts of the sections in turns: every section's first, then every second."""
    lists = [pool.facts([place.number]) for place in found]
    longest = max(map(len, lists), default=0)
    return [facts[turn] for turn in range(longest) for facts in lists if turn < len(facts)]


def adaptive(pool: Pool, budget: int) -> list[Taken]:
    for topic in pool.topics:
        topic.covered.clear()
    left = {number: list(attempts) for number, attempts in pool.attempts.items()}
    record = Record()
    chosen: list[Taken] = []
    size = math.ceil(budget / ROUNDS)
    wanted = round_shares(pool.topics, record, size)
    idle = 0
    while len(chosen) < budget and any(left.values()) and idle < 20:
        before = len(chosen)
        for topic, count in zip(pool.topics, wanted, strict=True):
            for _ in range(min(count, budget - len(chosen))):
                fact = _attempt(topic, left, record)
                if fact is not None:
                    chosen.append(fact)
        wanted = round_shares(pool.topics, record, min(size, budget - len(chosen)))
        idle = idle + 1 if len(chosen) == before else 0
        if len(chosen) == before:  # nothing more where coverage is missing: go by what is there
            weights = [float(sum(len(left[p.number]) for p in topic.places)) for topic in pool.topics]
            wanted = shares(weights, budget - len(chosen))
    if len(chosen) < budget:
        ids = set(map(id, chosen))
        chosen += [f for f in pool.facts(sorted(pool.attempts)) if id(f) not in ids][: budget - len(chosen)]
    return chosen


def _attempt(topic: Topic, left: dict[int, list[Taken | None]], record: Record) -> Taken | None:
    """The next attempt in the section of the topic that is furthest behind."""
    if not topic.askable:
        record.add(topic.name, False)
        return None
    place = order(topic, record)[0]
    fact = left[place.number].pop(0) if left[place.number] else None
    for name in (topic.name, section(place)):
        record.add(name, fact is not None)
    if fact is not None:
        topic.add(fact.spans)
    return fact


WAYS: dict[str, Callable[[Pool, int], list[Taken]]] = {
    "first come": first_come,
    "by length": one_pass(by_length),
    "by root": one_pass(by_root),
    "adaptive": adaptive,
}


def handbook_questions() -> list[tuple[list[str], str]]:
    rows = json.loads((ROOT / "bench" / "retrieval_questions.json").read_text(encoding="utf-8"))
    return [(row["headings"], row["contains"]) for part in ("first", "held_out") for row in rows[part]]


def handbook_recall(documents: Sequence[Document]) -> Callable[[Sequence[Taken]], tuple[int, int]]:
    asked = handbook_questions()

    def recall(taken: Sequence[Taken]) -> tuple[int, int]:
        held = sum(any(f.heading in names and said in f.answer for f in taken) for names, said in asked)
        return held, len(asked)

    return recall


def review_recall(documents: Sequence[Document]) -> Callable[[Sequence[Taken]], tuple[int, int]]:
    gold = [span for document in documents for span in _answers(list(places([document])))]

    def recall(taken: Sequence[Taken]) -> tuple[int, int]:
        known: dict[str, list[Span]] = defaultdict(list)
        for fact in taken:
            for span in fact.spans:
                known[span.document].append(span)
        return sum(any(span.overlaps(other) for other in known[span.document]) for span in gold), len(gold)

    return recall


def _answers(found: Sequence[Place]) -> list[Span]:
    """For each review question of a module: the sentence that shares most of its words, the rare ones counting more."""
    told = [(s, set(content_words(s.text))) for p in found if not p.is_apparatus for s in p.all_sentences]
    often = Counter(word for _, said in told for word in said)
    weight = {word: math.log(1 + len(told) / count) for word, count in often.items()}
    answers = []
    for sentence in (s for p in found if p.is_apparatus for s in p.all_sentences if s.text.endswith("?")):
        asked = set(content_words(sentence.text))
        total = sum(weight.get(word, math.log(1 + len(told))) for word in asked)
        scored = [(sum(weight[w] for w in asked & said) / math.sqrt(4 + len(said)), s, said) for s, said in told]
        if len(asked) < 2 or not scored:
            continue
        _, best, said = max(scored, key=lambda row: row[0])
        if sum(weight[w] for w in asked & said) >= PER_MODULE_WORDS * total:
            answers.append(best.span)
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=int, nargs="+", help="facts to take (default: two or three for each text)")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        sources = texts(Path(name))
        for kind, recall_of in (("handbook", handbook_recall), ("economics", review_recall)):
            documents = read_sources([sources[kind]], IngestConfig(), lambda name, outcome: None).documents
            pool, recall = pool_of(documents), recall_of(documents)
            whole = pool.facts(sorted(pool.attempts))
            held, asked = recall(whole)
            results[kind] = {"pool": len(whole), "questions": asked, "recall_of_the_pool": round(held / asked, 4)}
            for budget in args.budgets or BUDGETS[kind]:
                results[kind][str(budget)] = {}
                for way, take in WAYS.items():
                    taken = take(pool, budget)
                    assert len(taken) == min(budget, len(whole)), (way, len(taken))
                    for topic in pool.topics:
                        topic.covered.clear()
                        topic.add(span for fact in taken for span in fact.spans)
                    found, _ = recall(taken)
                    figures = {"recall": round(found / asked, 4), "units_covered": round(coverage(pool.topics), 4)}
                    results[kind][str(budget)][way] = figures
                    print(kind, budget, way, figures, flush=True)
    write_json(ROOT / "bench" / "results" / "adaptive.json", {**results, "machine": machine(), "versions": versions()})


if __name__ == "__main__":
    main()

"""How good a dataset is, in numbers that need no model; every share is between 0 and 1, and more is better.

grounding      share of an answer's words and numbers that stand in its evidence, averaged over the facts
clarity        share of questions that can be asked without the page at hand
completeness   share of answers that end where a sentence, value or list ends and leave nothing open
diversity      share of distinct 3-grams among all 3-grams of the questions (distinct-n; Li et al. 2016)
topic entropy  Shannon entropy of the rows over the topics, over that of rows spread evenly
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tinyforge.dataset.similar import near_pairs, words
from tinyforge.records import Document, Example

NEAR = 0.8
_VAGUE = re.compile(
    r"\b(?:above|below|aforementioned|this (?:passage|text|section|page|document|article|chapter|table|figure)|"
    r"the (?:passage|text|excerpt|author|following|previous|given (?:text|passage)))\b",
    re.I,
)
_DANGLING = re.compile(
    r"^(?:what|who|why|how|when|where|is|are|was|were|does|do|did|can|explain|describe|define)?\W*"
    r"(?:is|are|was|were|does|do|did|can|about)?\W*(?:it|this|that|these|those|they|he|she|him|her|them)\W*"
    r"(?:\w+\W*)?$",
    re.I,
)
_OPEN = re.compile(r"(?:[,;:(\[{\-–—]|\b(?:and|or|but|the|a|an|of|to|with|because))$", re.I)
_PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ("“", "”"))
_WHY = re.compile(r"^\W*why\b|\breason(?:s)?\b|\bbecause\b", re.I)


def is_clear(question: str) -> bool:
    """Whether a question stands on its own: three words or more, pointing at no page and at nothing said before."""
    return len(question.split()) >= 3 and not _VAGUE.search(question) and not _DANGLING.match(question.strip())


def is_complete(answer: str) -> bool:
    """Whether nothing is left open: brackets and code closed, no word or mark at the end that asks for more."""
    text = answer.strip()
    balanced = all(text.count(a) == text.count(b) for a, b in _PAIRS) or text.count("```") >= 2
    return bool(text) and balanced and text.count("```") % 2 == 0 and not _OPEN.search(text)


def difficulty_of(example: Example) -> str:
    """As the maker says, else by what is asked: why, multi-span (several evidence spans), lookup."""
    if example.difficulty:
        return example.difficulty
    if len(example.evidence) > 1:
        return "multi-span"
    return "why" if example.messages and _WHY.search(example.question) else "lookup"


def grounding(example: Example, documents: Mapping[str, Document]) -> float | None:
    """Share of the answer's distinct words that stand in its evidence; None without evidence that can be read."""
    if any(span.document not in documents for span in example.evidence) or not example.evidence:
        return None
    said = set(words(example.answer))
    stands = {word for span in example.evidence for word in words(documents[span.document].slice(span))}
    return len(said & stands) / len(said) if said else 1.0


def entropy(counts: Mapping[str, int], possible: int = 0) -> float:
    """Of a distribution, over that of one that is even on ``possible`` classes (0: on those that occur); 1 for one."""
    total, classes = sum(counts.values()), max(possible, len(counts))
    if classes < 2 or not total:
        return 1.0
    shares = [count / total for count in counts.values() if count]
    return -sum(share * math.log(share) for share in shares) / math.log(classes)


def distinct(texts: Iterable[str], size: int = 3) -> float:
    """Distinct ``size``-grams over all of them."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        found = words(text)
        grams.update(tuple(found[i : i + size]) for i in range(len(found) - size + 1))
    return len(grams) / grams.total() if grams else 1.0


def by_fact(examples: Sequence[Example]) -> list[Example]:
    """The first wording of each fact; rows without a fact each for themselves."""
    first: dict[str, Example] = {}
    for example in examples:
        first.setdefault(example.fact or example.id, example)
    return list(first.values())


def near_duplicates(examples: Sequence[Example]) -> dict[str, Any]:
    """Near copies: of all pairs of rows, and, more strictly, facts that say and ask nearly what another fact does."""
    texts = ["\n".join(m.content for m in e.messages) or e.text for e in examples]
    facts = by_fact(examples)
    asked = ["\n".join(m.content for m in e.messages) or e.text for e in facts]
    total = len(texts) * (len(texts) - 1) // 2
    pairs = len(near_pairs(texts, NEAR))
    twins = {later for _, later, _ in near_pairs(asked, NEAR)}
    return {
        "threshold": NEAR,
        "pairs": pairs,
        "of_pairs": total,
        "share_of_pairs": pairs / total if total else 0.0,
        "facts_with_a_twin": len(twins),
        "share_of_facts": len(twins) / len(facts) if facts else 0.0,
    }


def quality(examples: Sequence[Example], documents: Sequence[Document] = (), topics: int = 0) -> dict[str, Any]:
    """All figures of questions and answers; ``topics`` is how many there could be (0: those that occur)."""
    asked = [e for e in examples if e.kind == "chat"]
    facts = by_fact(asked)
    by_id = {document.id: document for document in documents}
    grounded = [value for e in facts if (value := grounding(e, by_id)) is not None]
    by_topic = Counter(e.topic for e in facts if e.topic)
    return {
        "rows": len(asked),
        "facts": len(facts),
        "grounding": _mean(grounded),
        "grounding_measured_on": len(grounded),
        "clarity": _mean([float(is_clear(e.question)) for e in asked]),
        "completeness": _mean([float(is_complete(e.answer)) for e in facts]),
        "diversity": round(distinct(e.question for e in asked), 4),
        "diversity_of_facts": round(distinct(e.question for e in facts), 4),
        "topics": len(by_topic),
        "topic_entropy": round(entropy(by_topic, topics), 4) if by_topic else None,
        "difficulty": dict(Counter(map(difficulty_of, facts)).most_common()),
        "near_duplicates": near_duplicates(asked),
        "examples_of": _unclear(asked),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _unclear(examples: Sequence[Example]) -> dict[str, list[str]]:
    """A few rows that lower a figure, for a person to look at."""
    found: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        if not is_clear(example.question):
            found["unclear questions"].append(example.question)
        if not is_complete(example.answer):
            found["incomplete answers"].append(example.answer[-80:])
    return {name: list(dict.fromkeys(texts))[:5] for name, texts in found.items()}

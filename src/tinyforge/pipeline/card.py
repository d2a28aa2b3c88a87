"""The dataset's card: README.md as the hub reads it, and dataset.html for people, beside the rows they describe."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from tinyforge import __version__
from tinyforge.pipeline.examples import SPLITS, read_documents, read_examples
from tinyforge.pipeline.stages import Job
from tinyforge.records import Document, Example
from tinyforge.run import write_text

Card = dict[str, Any]
_SAMPLES = 6
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card_stage(job: Job, examples: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Stage ``card``: write dataset/README.md and dataset/dataset.html from the summaries of the stages before.

    Its summary holds ``quality`` (see dataset.quality), so that a report can show the figures.
    """
    from tinyforge.evaluate.dataset_page import render

    def work(key: str) -> dict[str, Any]:
        found = {name: read_examples(job.run, name) for name in SPLITS}
        made = card(found, read_documents(job.run), examples, dataset)
        write_text(job.run.path("dataset", "dataset.html"), render(made))
        write_text(job.run.path("dataset", "README.md"), readme(made))
        quality = made["quality"]
        near = quality["near_duplicates"]["share_of_facts"]
        job.say(
            "card", f"{quality['clarity'] or 0:.0%} of the questions are clear, {near:.1%} of the facts near copies"
        )
        return {"key": key, "quality": {name: value for name, value in quality.items() if name != "examples_of"}}

    return job.stage("card", [__version__, examples["key"], dataset["key"]], work)


def card(
    found: Mapping[str, Sequence[Example]],
    documents: Sequence[Document],
    examples: Mapping[str, Any],
    dataset: Mapping[str, Any],
) -> Card:
    """What the page and the README show, as dataset_page tells it; ``found`` holds the rows of each split."""
    from tinyforge.dataset.languages import language
    from tinyforge.dataset.quality import by_fact, quality
    from tinyforge.dataset.rude import rude_words
    from tinyforge.ingest.privacy import find

    rows = [e for name in SPLITS for e in found[name] if not _is_reading(e)]
    facts = by_fact(rows)
    asked = ["\n".join(m.content for m in e.messages) for e in facts]
    measured = quality(rows, documents, _topics_possible(facts, examples))
    kinds = Counter(one.kind for text in asked for one in find(text))
    return {
        "title": _title(documents),
        "sources": _sources(facts, examples, documents),
        "splits": dict(dataset["splits"]),
        "reading": dict(dataset.get("reading", {})),
        "rules": dict(Counter(e.rule for e in facts).most_common()),
        "topics": dict(Counter(e.topic for e in facts if e.topic).most_common()),
        "difficulty": measured["difficulty"],
        "rejected": dict(examples.get("rejected", {})),
        "questions": [len(e.question.split()) for e in rows],
        "answers": [len(e.answer.split()) for e in facts],
        "quality": measured,
        "languages": _languages(language(text) for text in asked),
        "rude": dict(sum((rude_words(text) for text in asked), Counter[str]()).most_common()),
        "personal": dict(kinds.most_common()),
        "samples": _samples(facts),
        "coverage": {
            "sections": examples["sections"],
            "covered": examples["sections_covered"],
            "precise": examples["sections_covered_by_precise_rules"],
        },
    }


def _is_reading(example: Example) -> bool:
    """Whether it is a question of the set asked a second time, with passages."""
    return "reading" in example.metadata


def _title(documents: Sequence[Document]) -> str:
    if len(documents) == 1:
        return documents[0].title
    return f"Questions and answers on {len(documents):,} documents"


def _section(example: Example) -> str:
    return str(example.metadata.get("section", ""))


def _topics_possible(facts: Sequence[Example], examples: Mapping[str, Any]) -> int:
    """Topics that there are, and one for each section that yields nothing."""
    return len({e.topic for e in facts if e.topic}) + len(examples.get("uncovered", []))


def _sources(facts: Sequence[Example], examples: Mapping[str, Any], documents: Sequence[Document]) -> list[Card]:
    """Sections of each document and those that yield a fact, in the documents' order."""
    covered: dict[str, set[str]] = {}
    for example in facts:
        covered.setdefault(str(example.metadata.get("source", "")), set()).add(_section(example))
    bare = Counter(str(row["source"]) for row in examples.get("uncovered", []))
    counts = Counter(str(e.metadata.get("source", "")) for e in facts)
    named = list(dict.fromkeys(d.source for d in documents))
    return [
        {
            "source": name,
            "sections": len(covered.get(name, ())) + bare[name],
            "covered": len(covered.get(name, ())),
            "facts": counts[name],
        }
        for name in named
    ]


def _languages(found: Iterable[str]) -> dict[str, int]:
    """Those of a fiftieth of the facts or more; fewer are chance."""
    counts: Counter[str] = Counter(found)
    return {name: n for name, n in counts.most_common() if name != "unknown" and n >= 0.02 * counts.total()}


def _samples(facts: Sequence[Example]) -> list[Card]:
    chosen = random.Random(0).sample(list(facts), min(_SAMPLES, len(facts)))
    return [
        {
            "question": e.question,
            "answer": e.answer,
            "source": str(e.metadata.get("source", "")),
            "section": _section(e),
        }
        for e in chosen
    ]


# --- README.md --------------------------------------------------------------------------------------------------------


def readme(made: Card) -> str:
    """The card as the hub and ``datasets.load_dataset`` read it: YAML in front, then what a person wants to know."""
    front = yaml.safe_dump(_front(made), sort_keys=False, allow_unicode=True)
    quality, near, coverage = made["quality"], made["quality"]["near_duplicates"], made["coverage"]
    splits = [
        f"| `{name}` | {row['facts']:,} | {row['examples'] + made['reading'].get(name, 0):,} |"
        for name, row in made["splits"].items()
    ]
    figures = [
        f"| {name.replace('_', ' ')} | {quality[name]:.3f} |"
        for name in ("grounding", "clarity", "completeness", "diversity", "diversity_of_facts", "topic_entropy")
        if quality.get(name) is not None
    ]
    parts = [
        f"---\n{front}---",
        f"# {made['title']}",
        f"{quality['rows']:,} questions about {quality['facts']:,} facts in {len(made['sources']):,} documents, made "
        f"by TinyForge {__version__}. Each answer names the characters of its document on which it stands "
        "(`evidence`); every wording of one fact has the same `fact`. What may be done with the rows depends on the "
        "licence of the documents, which TinyForge does not know.",
        "[dataset.html](dataset.html) shows the same with charts.",
        "## Splits\n\n| split | facts | rows |\n|---|---|---|\n" + "\n".join(splits),
        "The configuration `retention` holds general text that belongs to no document, to see what a tuned model "
        "forgets. No fact, no evidence and no 13 words of an answer in a row are in both `train` and `documents`.",
        "## Quality\n\n| figure | value |\n|---|---|\n"
        + "\n".join(figures)
        + f"\n| sections covered | {coverage['covered']:,} of {coverage['sections']:,} |"
        + f"\n| facts with a near copy (Jaccard {near['threshold']:g}) | {near['share_of_facts']:.3f} |"
        + f"\n| pairs of rows that are near copies | {near['share_of_pairs']:.4f} |",
        "## Loading\n\n```python\nfrom datasets import load_dataset\n\n"
        'rows = load_dataset("this-folder")["train"]\n```',
    ]
    return "\n\n".join(parts) + "\n"


def _front(made: Card) -> dict[str, Any]:
    total = sum(row["examples"] for row in made["splits"].values()) + sum(made["reading"].values())
    size = next((name for most, name in _SIZES if total < most), "n>1M")
    files = [{"split": name, "path": f"{name}.jsonl"} for name in SPLITS if made["splits"][name]["examples"]]
    retention = [{"split": "retention", "path": "retention.jsonl"}]
    return {
        "pretty_name": made["title"],
        "language": list(made["languages"]) or ["und"],
        "task_categories": ["question-answering", "text-generation"],
        "size_categories": [size],
        "tags": ["tinyforge", "synthetic"],
        "configs": [
            {"config_name": "default", "default": True, "data_files": files},
            {"config_name": "retention", "data_files": retention},
        ],
    }

"""A made-up report, only as input for what renders reports: the numbers mean nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinyforge.config import Config
from tinyforge.evaluate.answers import question_rows
from tinyforge.evaluate.compare import Answer, difference_table, plain, recall_at, score_table
from tinyforge.evaluate.forgetting import KINDS, forgetting, sentences
from tinyforge.evaluate.probes import INSTRUCTIONS, general_questions
from tinyforge.evaluate.topics import breakdown
from tinyforge.evaluate.verdict import verdict
from tinyforge.records import Block, Document, Example, Hit, Message, Span

TEXT = [
    ("Paid time off", "Paid time off is time away from work that you are still paid for."),
    ("Desktop", "Basecamp Desktop is the app that shows your projects without a browser."),
    ("Sabbatical", "Every three years you may take a sabbatical of up to six weeks."),
    ("On call", "Ops people are on call for one week in eight."),
    ("Severance", "Severance is two weeks of salary for each year that you worked here."),
    ("Moonlighting", "Moonlighting is paid work for somebody else outside of your job."),
    ("FMLA", "FMLA is the Family and Medical Leave Act, which protects your job while you care for a relative."),
    ("Pitch", "A pitch is a short document that frames a problem and shapes a solution."),
]
WORDINGS = ["What is {}?", "tell me about {}", "Could you explain {}?", "{} means what exactly?"]


def document() -> Document:
    text, blocks = "", []
    for heading, body in TEXT:
        for kind, part, level in (("heading", heading, 2), ("paragraph", body, 0)):
            blocks.append(Block(kind, Span("doc", len(text), len(text) + len(part)), level))  # type: ignore[arg-type]
            text += part + "\n"
    return Document("doc", text, tuple(blocks), "handbook/benefits-and-perks.md")


def examples(split: str, facts: range) -> list[Example]:
    found = []
    for fact in facts:
        heading, body = TEXT[fact]
        start = document().text.index(body)
        for number, wording in enumerate(WORDINGS):
            messages = (Message("user", wording.format(heading.lower())), Message("assistant", body))
            span = Span("doc", start, start + len(body))
            name = f"{split}-{fact}-{number}"
            kinds = ("definition", "lookup" if fact % 2 else "explain")
            found.append(Example(name, messages, (span,), f"f{fact}", "c", heading, *kinds, split=split))  # type: ignore[arg-type]
    return found


def _answers(asked: list[Example], skill: float, rng: np.random.Generator, scored: bool) -> list[Answer]:
    """Answers that keep about ``skill`` of the reference's words and end in words of something else."""
    given = []
    for example in asked:
        words = example.answer.split()
        kept = [w for w in words if rng.random() < skill] or ["the", "team"]
        other = TEXT[int(rng.integers(len(TEXT)))][1].split()[: int(rng.integers(2, 9) * (1.2 - skill))]
        nll = float(len(words) * (1.05 - skill) * rng.uniform(3, 6)) if scored else None
        span = example.evidence[0] if rng.random() < 0.9 else Span("doc", 0, 1)
        hit = Hit(span, "", "", (), 1.0, 0.5)
        given.append(Answer(" ".join(kept + other), nll, len(words) if scored else None, False, (hit,)))
    return given


SKILL = {"base": (0.05, 0.05), "tuned": (0.8, 0.1), "base+retrieval": (0.25, 0.25)}
SKILL |= {"few-shot": (0.2, 0.1), "tuned+retrieval": (0.85, 0.6), "quote": (0.7, 0.68)}


GENERAL = {"before": 1.742, "after": 1.915, "change": 0.0993, "texts": 18, "bytes": 17650, "tokens": 4799}


def probe_answers(skill: float) -> dict[str, list[str]]:
    """Answers of which about ``skill`` are right; the rest say nothing to the point."""
    wanted = [[example.answer for _, example in general_questions()], [""] * len(INSTRUCTIONS)]
    return {
        kind: [text if i % 10 < 10 * skill else "zzz" for i, text in enumerate(answers)]
        for kind, answers in zip(KINDS, wanted, strict=True)
    }


def _leaks(word: str, count: int) -> dict[str, Any]:
    found = [{"id": f"x{i}", "question": f"Asked {i}?", "kind": "exact", "trained": f"asked {i}"} for i in range(count)]
    line = f"{word}: {count} of 16 questions have a twin in training"
    return {"verdict": word, "leaked": count > 0, "leaks": found, "line": line}


def _curve(steps: int) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1, 3):
        dev = 0.9 + 2.6 * math.exp(-step / 50) + 0.0012 * step if step % 30 == 1 else None
        rate = 1e-3 * min(step / 15, (steps - step) / (steps - 15))
        loss = 0.15 + 3.6 * math.exp(-step / 60) + 0.12 * math.sin(step * 1.7)
        row = {"step": step, "loss": loss, "dev_loss": dev, "learning_rate": rate, "tokens_per_second": 3150.0}
        rows.append({**row, "gradient_norm": 4 * math.exp(-step / 80), "memory_mb": 900.0 + step / 10})
    return rows


def sample_report(change: Callable[[dict[str, list[Answer]]], None] = lambda answers: None) -> dict[str, Any]:
    """The report of invented answers to real questions; ``change`` may spoil the answers of each set first."""
    rng = np.random.default_rng(5)
    sets = {"wordings": examples("wordings", range(4)), "documents": examples("documents", range(4, 8))}
    answers: dict[str, dict[str, list[Answer]]] = {}
    for place, (name, asked) in enumerate(sets.items()):
        answers[name] = {v: _answers(asked, s[place], rng, v != "quote") for v, s in SKILL.items()}
        change(answers[name])
    scores = {name: score_table(sets[name], answers[name], resamples=300, seed=1) for name in sets}
    differences = difference_table(sets, answers, resamples=300, seed=1)
    forgot = forgetting(GENERAL, probe_answers(0.7), probe_answers(0.3), resamples=300, seed=1)
    result = verdict(scores, differences, forgotten=sentences(forgot))
    hits = [a.hits for name in sets for a in answers[name]["quote"]]
    asked = [example for name in sets for example in sets[name]]
    rows = [r for name in sets for r in question_rows(name, sets[name], answers[name], {"doc": document()})]
    config = Config().model_dump()
    config["train"]["epochs"], config["seed"] = 5.0, 7
    return {
        "verdict": result.text,
        "choice": result.choice,
        "reasons": list(result.reasons),
        "scores": plain(scores),
        "differences": plain(differences),
        "recall": plain({f"recall@{k}": recall_at(hits, asked, k, resamples=300, seed=1) for k in (1, 3)}),
        "breakdown": breakdown(rows),
        "forgetting": forgot,
        "leaks": {"wordings": _leaks("clean", 0), "documents": _leaks("leaked", 3)},
        "left_out": ["The few-shot prompt of 2 questions has fewer than 4 examples."],
        "questions": rows,
        "dataset": _dataset(),
        "training": {
            "steps": 300,
            "seconds": 104.2,
            "best_step": 181,
            "method": "full",
            "parameters": 12_471_000,
            "curve": _curve(300),
        },
        "config": config,
        "machine": {"processor": "2 cores, x86_64", "memory": "23 GB", "system": "Linux 6.1", "bf16": True},
        "versions": {"tinyforge": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.11.7"},
        "seed": 7,
        "command": "tinyforge build ../shared/samples/handbook --out my-model --set train.epochs=5 --set seed=7",
        "seconds": {"ingest": 0.8, "synthesize": 1.4, "dataset": 2.1, "train": 104.2, "index": 6.3, "evaluate": 41.5},
    }


def _dataset() -> dict[str, Any]:
    names = ["benefits-and-perks.md", "getting-started.md", "how-we-work.md", "our-rituals.md", "severance.md"]
    return {
        "read": [
            {"source": n, "characters": 9000 + 311 * i, "sections": 6 + i, "facts": 11 + i} for i, n in enumerate(names)
        ],
        "skipped": [
            {"source": "logo.png", "reason": "images are not read"},
            {"source": "scan-2019.pdf", "reason": "no text layer: the pages are pictures"},
        ],
        "sections": 40,
        "sections_with_facts": 37,
        "facts": 65,
        "rules": {"definition": 21, "table": 17, "because": 4, "steps": 6, "coverage": 17},
        "splits": {
            "train": {"facts": 53, "examples": 742},
            "dev": {"facts": 4, "examples": 64},
            "wordings": {"facts": 53, "examples": 106},
            "documents": {"facts": 8, "examples": 128},
        },
        "dropped": [
            {"stage": "examples", "reason": "answer longer than 320 characters", "count": 12},
            {"stage": "dataset", "reason": "same question asked of two facts", "count": 9},
        ],
    }

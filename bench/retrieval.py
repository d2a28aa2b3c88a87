"""Retrieval against its targets, beside its two halves alone: what it finds, what it declines, how fast it is.

    python bench/retrieval.py                   the handbook of ../shared, and 10,000 and 100,000 passages made up
    python bench/retrieval.py --sizes 10000     other sizes

The questions are in retrieval_questions.json: `first` is what the constants were chosen on, `held_out` was written
before anything was measured on it; the threshold for declining was chosen on both, and on `third` nothing was. The
textbook is one of economics with the review questions that its authors put behind its chapters, which are taken out
first; what answers one is its own chapter. SQLite's FTS5 is the full text that nothing has to be installed for.
Writes bench/results/retrieval.json. Quit other work first.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lines import ROOT, SHARED, Line, finish

from tinyforge.config import Config
from tinyforge.errors import TinyForgeError
from tinyforge.ingest import read_sources
from tinyforge.records import Document
from tinyforge.retrieve import index as index_module
from tinyforge.retrieve.index import Index
from tinyforge.retrieve.passages import Passage, cut
from tinyforge.retrieve.quote import closeness, quote_many
from tinyforge.serve.answer import THRESHOLD
from tinyforge.serve.followup import follow_up

HANDBOOK = SHARED / "samples" / "handbook"
TEXTBOOK = SHARED / "corpus" / "openstax-osbooks-principles-economics-bundle.jsonl.gz"
EXERCISES = re.compile(r"^#+ (?:Review|Self-Check|Critical Thinking) Questions?$|^#+ Problems?$", re.MULTILINE)
DEPTH = 10
SETS = ("first", "held_out", "third")
CHOSEN_ON = SETS[:2]  # the threshold for declining
Ranking = Callable[[str], list[str]]
"""A question to the headings of what is found, best first."""


def read_textbook(folder: Path) -> list[dict[str, Any]]:
    """Write the chapters into the folder without what follows them; their review questions, each with its chapter."""
    rows = []
    with gzip.open(TEXTBOOK, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            text, name = json.loads(line)["text"], f"{number:03d}.md"
            end = EXERCISES.search(text)
            (folder / name).write_text(text[: end.start()] if end else text, encoding="utf-8")
            asked = re.search(r"^#+ Review Questions?$\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
            for question in asked[1].split("\n\n") if asked else ():
                if question.strip().endswith("?") and len(question.split()) >= 4:
                    rows.append({"question": " ".join(question.split()), "headings": [name]})
    return rows


def textbook(folder: Path, config: Config) -> dict[str, Any]:
    """Is the chapter of a review question among the first passages?"""
    folder.mkdir()
    rows = read_textbook(folder)
    documents = read_sources([folder], config.ingest).documents
    index = Index.build(folder.with_suffix(".index"), documents, config.retrieve)
    found = index.search_many([row["question"] for row in rows], DEPTH)
    names = [[Path(hit.source).name for hit in hits] for hits in found]
    return {**score(rows, names), "passages": index.meta["passages"], "chapters": len(documents)}


def score(rows: Sequence[dict[str, Any]], found: Sequence[Sequence[str]]) -> dict[str, float]:
    """Recall at 1, 3 and 5 and the mean reciprocal rank within ten: is a section that answers among the first?"""
    ranks = [
        next((i for i, name in enumerate(names) if name in row["headings"]), DEPTH)
        for row, names in zip(rows, found, strict=True)
    ]
    shares = {f"recall@{k}": sum(rank < k for rank in ranks) / len(ranks) for k in (1, 3, 5)}
    return {**shares, "mrr": sum(1 / (1 + rank) for rank in ranks if rank < DEPTH) / len(ranks), "n": len(ranks)}


class Fts5:
    """SQLite's full text over the same passages, ranked by its BM25."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.headings = [passage.path[-1] for passage in passages]
        self.db = sqlite3.connect(":memory:")
        self.db.execute("create virtual table t using fts5(searched, tokenize='porter unicode61')")
        self.db.executemany("insert into t values (?)", [(passage.searched,) for passage in passages])

    def __call__(self, question: str) -> list[str]:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        query = "select rowid from t where t match ? order by bm25(t), rowid limit ?"
        return [self.headings[row - 1] for (row,) in self.db.execute(query, (words, DEPTH))]


def rankings(index: Index, passages: Sequence[Passage]) -> dict[str, Ranking]:
    def by_vectors(question: str) -> list[str]:
        found = index.by_meaning(index.embedder.embed([question])[0], DEPTH)
        return [passages[position].path[-1] for _, position in found]

    def by_both(question: str) -> list[str]:
        return [hit.path[-1] for hit in index.search(question, DEPTH)]

    return {"hybrid": by_both, "vectors alone": by_vectors, "FTS5 alone": Fts5(passages)}


def quality(index: Index, passages: Sequence[Passage], asked: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, ranking in rankings(index, passages).items():
        for rows in SETS:
            names = [ranking(row["question"]) for row in asked[rows]]
            found.setdefault(rows, {})[name] = score(asked[rows], names)
    follow_ups = asked["follow_ups"]
    for name, text in (("alone", _alone), ("rewritten", _rewritten)):
        names = [[hit.path[-1] for hit in index.search(text(row), DEPTH)] for row in follow_ups]
        found.setdefault("follow_ups", {})[name] = score(follow_ups, names)
    return found


def _alone(row: dict[str, Any]) -> str:
    return str(row["question"])


def _rewritten(row: dict[str, Any]) -> str:
    found = follow_up(row["question"], [row["before"]])
    return f"{found.question} {found.context} {found.question}" if found.context else found.question


def declines(index: Index, asked: dict[str, Any]) -> dict[str, Any]:
    """The share declined, of questions with an answer and without, by the passage alone and by closeness."""
    found = {}
    for rows in SETS:
        answerable = [row["question"] for row in asked[rows]]
        both = {"answerable": answerable, "unanswerable": asked[f"{rows}_unanswerable"]}
        found[rows] = {
            kind: {
                **dict(zip(("by passage", "by closeness"), _shares(index, questions), strict=True)),
                "n": len(questions),
            }
            for kind, questions in both.items()
        }
    found["chosen on"] = {
        kind: {
            name: sum(found[rows][kind][name] * found[rows][kind]["n"] for rows in CHOSEN_ON)
            / sum(found[rows][kind]["n"] for rows in CHOSEN_ON)
            for name in ("by passage", "by closeness")
        }
        for kind in ("answerable", "unanswerable")
    }
    return found


def _shares(index: Index, questions: Sequence[str]) -> tuple[float, float]:
    hits = index.search_many(questions, 3)
    quotes = quote_many(questions, hits, index.embedder)
    passages = [max(hit.similarity for hit in found) for found in hits]
    close = [closeness(quoted, found) for quoted, found in zip(quotes, hits, strict=True)]
    return tuple(sum(value < THRESHOLD for value in values) / len(values) for values in (passages, close))  # type: ignore[return-value]


class Measured:
    """Random unit vectors for passages, so that the index is what is timed; a question is embedded for real."""

    def __init__(self, real: Any) -> None:
        self.name, self.content_hash, self.dimension = real.name, real.content_hash, real.dimension
        self.real, self.random = real, np.random.default_rng(0)

    def embed(self, texts: Sequence[str]) -> Any:
        if len(texts) < 1000:
            return self.real.embed(texts)
        vectors = self.random.standard_normal((len(texts), self.dimension), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up(documents: Sequence[Document], count: int) -> list[Document]:
    """As many passages of real words, drawn from the documents, one to a document."""
    words = np.array(" ".join(document.text for document in documents).split())
    random = np.random.default_rng(0)
    from tinyforge.records import Block, Span

    found = []
    for number in range(count):
        text = " ".join(words[random.integers(0, len(words), 120)])
        name = f"{number}.md"
        one = Document.identify(name, text)
        found.append(Document(one, text, (Block("paragraph", Span(one, 0, len(text))),), name))
    return found


def speed(
    documents: Sequence[Document], size: int, questions: Sequence[str], folder: Path, real: Any
) -> dict[str, Any]:
    """Milliseconds a search at this size, question embedded and all; the median and the 95th percentile."""
    settings = Config().retrieve.model_copy(update={"passage_characters": 5000})
    began = time.perf_counter()
    index = Index.build(folder / str(size), made_up(documents, size), settings, Measured(real))  # type: ignore[arg-type]
    built = time.perf_counter() - began
    ways: dict[str, Callable[[str], object]] = {
        "hybrid": lambda question: index.search(question, 5),
        "embedding the question": lambda question: real.embed([question]),
        "vectors alone": lambda question: index.by_meaning(vector, 50),
        "words alone": lambda question: index.by_words(question, 50),
    }
    vector = real.embed(["a question"])[0]
    found: dict[str, Any] = {name: _timed(way, questions) for name, way in ways.items()}
    before, index_module.IN_MEMORY = index_module.IN_MEMORY, 0
    found["vectors alone, searched on the disk"] = _timed(ways["vectors alone"], questions[:10])
    index_module.IN_MEMORY = before
    return {**found, "built_seconds": round(built, 2), "passages": index.meta["passages"]}


def _timed(way: Callable[[str], object], questions: Sequence[str]) -> dict[str, float]:
    way(questions[0])
    times = []
    for question in questions:
        began = time.perf_counter()
        way(question)
        times.append(1000 * (time.perf_counter() - began))
    return {"median_ms": round(statistics.median(times), 2), "p95_ms": round(sorted(times)[int(0.95 * len(times))], 2)}


def lines(found: dict[str, Any]) -> Iterator[Line]:
    held = found["quality"]["held_out"]
    yield Line("recall@5, held out", held["hybrid"]["recall@5"], "", 0.95, more=True)
    yield Line("MRR, held out", held["hybrid"]["mrr"], "", 0.80, more=True)
    yield Line("recall@5, third set", found["quality"]["third"]["hybrid"]["recall@5"], "", 0.95, more=True)
    yield Line("MRR, third set", found["quality"]["third"]["hybrid"]["mrr"], "", 0.80, more=True)
    yield Line("recall@5, textbook", found["textbook"]["recall@5"], "", 0.95, more=True)
    yield Line("MRR, textbook", found["textbook"]["mrr"], "", 0.80, more=True)
    for name in ("vectors alone", "FTS5 alone"):
        yield Line(f"MRR over that of {name}", held["hybrid"]["mrr"] / held[name]["mrr"], "", 1, more=True)
    yield Line("follow-ups, recall@5", found["quality"]["follow_ups"]["rewritten"]["recall@5"], "", 0.95, more=True)
    # The threshold was chosen on the first two sets together, so held_out alone says less and more; the third is fresh.
    for rows, name in (("chosen on", ""), ("held_out", ", held out"), ("third", ", third set")):
        shares = found["declines"][rows]
        yield Line(f"unanswerable declined{name}", shares["unanswerable"]["by closeness"], "", 0.80, more=True)
        yield Line(f"answerable declined{name}", shares["answerable"]["by closeness"], "", 0.10)
    for size, times in found["speed"].items():
        yield Line(f"search of {int(size):,}, median", times["hybrid"]["median_ms"], "ms", 50)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure retrieval against its targets.")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "retrieval.json")
    args = parser.parse_args()
    asked = json.loads((ROOT / "bench" / "retrieval_questions.json").read_text(encoding="utf-8"))
    config = Config()
    try:
        documents = read_sources([HANDBOOK], config.ingest).documents
        with tempfile.TemporaryDirectory() as scratch:
            index = Index.build(Path(scratch) / "handbook", documents, config.retrieve)
            passages = cut(documents, config.retrieve.passage_characters)
            found: dict[str, Any] = {"quality": quality(index, passages, asked), "declines": declines(index, asked)}
            found["textbook"] = textbook(Path(scratch) / "textbook", config)
            questions = [row["question"] for row in asked["held_out"]]
            found["speed"] = {
                str(size): speed(documents, size, questions, Path(scratch), index.embedder) for size in args.sizes
            }
    except TinyForgeError as error:
        print(f"bench/retrieval.py: {error}", file=sys.stderr)
        return error.exit_code
    measured = list(lines(found))
    for rows, ways in found["quality"].items():
        for name, scores in ways.items():
            print(f"{rows:<11} {name:<14} " + "  ".join(f"{key} {value:.3g}" for key, value in scores.items()))
    print("textbook    hybrid         " + "  ".join(f"{key} {value:.3g}" for key, value in found["textbook"].items()))
    return finish(measured, args.out, **found)


if __name__ == "__main__":
    sys.exit(main())

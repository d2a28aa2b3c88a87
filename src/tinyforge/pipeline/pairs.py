"""Two contenders on the same questions, for whoever decides between them: a judge or a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.evaluate.metrics import Answer
from tinyforge.pipeline.answering import Asking, Hits, ask
from tinyforge.pipeline.contenders import Models, Opened, open_contender
from tinyforge.pipeline.evaluate import Heard, read_questions, sample
from tinyforge.records import Example

if TYPE_CHECKING:
    from tinyforge.pipeline.answering import Contender


@dataclass(frozen=True)
class Pair:
    """A question with the answers of the first and the second contender."""

    example: Example
    first: Answer
    second: Answer


@dataclass(frozen=True)
class Pairs:
    """``key`` stands for the two contenders: equal ones answer alike."""

    names: tuple[str, str]
    key: str
    rows: list[Pair]


def answer_pairs(first: str, second: str, data: str, limit: int, folder: Path, config: Config, heard: Heard) -> Pairs:
    """Both contenders' answers to the rows of ``data`` (none: the held-out sets of the first that is a run).

    At most ``limit`` questions (0: all), drawn with the seed. Answers are kept in ``folder`` and found there again.
    Raises InputError for contenders or data that cannot be used.
    """
    if first == second:
        raise InputError(f"{first}: is compared with itself.", "Name two different contenders.")
    with Models() as models:
        opened = {name: open_contender(name, config, models) for name in (first, second)}
        runs = {run.name: run for _, run in opened.values() if run is not None}
        asked = sample(read_questions(data, heard) if data else _held_out(runs), limit, config.seed)
        asking = Asking(folder / "answers", heard.count)
        answers = {name: ask(who, asked, _hits(who, asked, runs), asking) for name, (who, _) in opened.items()}
    rows = [Pair(*row) for row in zip(asked, answers[first], answers[second], strict=True)]
    return Pairs((first, second), " against ".join(who.key for who, _ in opened.values()), rows)


def _held_out(runs: Mapping[str, Opened]) -> list[Example]:
    for run in runs.values():
        found = [example for rows in run.held_out().values() for example in rows]
        if found:
            return found
    raise InputError("there are no questions to ask.", "Give some: --data FILE")


def _hits(contender: Contender, asked: Sequence[Example], runs: Mapping[str, Opened]) -> Hits:
    if not contender.reads:
        return ()
    run = runs[contender.reads]
    questions = [str(e.metadata.get("question", e.question)) for e in asked]
    return [tuple(hits) for hits in run.index().search_many(questions, run.config.retrieve.passages)]

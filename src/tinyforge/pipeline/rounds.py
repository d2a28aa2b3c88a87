"""A teacher's rounds: each is planned by what is missing, asked, judged, and learned from for the next one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.models.calls import Call
from tinyforge.models.endpoint import Options
from tinyforge.records import Document, Example, Message, Span, content_id
from tinyforge.synthesize import Rejected
from tinyforge.synthesize.adaptive import (
    LEAST_GAIN,
    Record,
    coverage,
    expected_gain,
    order,
    round_shares,
    section,
    turn,
)
from tinyforge.synthesize.focus import weights
from tinyforge.synthesize.places import first_sentences, places
from tinyforge.synthesize.prompts import PERSONAS, PROMPTS, REPAIR
from tinyforge.synthesize.teacher import Excerpt, Item, Known, Task, example_of, items_of, judge, rejected_of, unread
from tinyforge.synthesize.topics import Topic, topics

if TYPE_CHECKING:
    from tinyforge.models.calls import Caller
    from tinyforge.retrieve.index import Index
    from tinyforge.synthesize.facts import Place

_EXCERPT = 3000  # characters of a section that are shown
_DISTRACTORS = 2


@dataclass
class Written:
    """What the rounds gave. ``rounds`` holds a line of figures for each."""

    examples: list[Example] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""


class Rounds:
    """The plan of the rounds, and what is known so far: the topic map, the acceptance, the questions asked."""

    def __init__(
        self, documents: Sequence[Document], examples: Sequence[Example], index: Index, caller: Caller, config: Config
    ) -> None:
        self.documents = {document.id: document for document in documents}
        self.index, self.caller, self.config = index, caller, config
        self.map = topic_map(documents, examples, index, config)
        self.record = Record()
        self.gains: dict[str, float] = {}
        self.known = Known(examples)
        self.facts = _by_place(examples)
        self.wordings = Counter(example.fact for example in examples)
        self._used: Counter[str] = Counter()
        facts = len({example.fact for example in examples})
        wanted = config.synthesize.teacher_examples or facts
        items = sum(prompt.items for prompt in PROMPTS.values()) / len(PROMPTS)
        self.calls = math.ceil(wanted / items)
        self.per_round = math.ceil(self.calls / config.synthesize.rounds)

    def run(self, say: Callable[[str], None]) -> Written:
        written = Written()
        for number in range(self.config.synthesize.rounds):
            wanted = round_shares(self.map, self.record, self.per_round)
            if number and expected_gain(self.map, self.gains, wanted) < LEAST_GAIN:
                written.stopped = f"another round would add under {LEAST_GAIN:.0%} of coverage"
                break
            before = coverage(self.map)
            tasks = self._tasks(wanted, number, self._used)
            accepted, rejected = self._round(tasks)
            written.examples += accepted
            written.rejected += rejected
            now = coverage(self.map)
            figures = {"calls": len(tasks), "accepted": len(accepted), "rejected": len(rejected)}
            written.rounds.append({**figures, "units_covered": round(now, 4)})
            done = f"{len(accepted)} accepted, {len(rejected)} rejected"
            say(f"round {number + 1}: {done}, coverage {before:.1%} to {now:.1%}")
            if self.caller.spent:
                written.stopped = "the budget is spent"
                break
        say(f"stopped: {written.stopped}" if written.stopped else "all rounds are done")
        return written

    def _round(self, tasks: Sequence[Task]) -> tuple[list[Example], list[Rejected]]:
        items: list[Item] = []
        rejected: list[Rejected] = []
        for task, reply, found in self._ask(tasks):
            if reply is None:
                continue  # not asked: the budget is spent
            if found is None:
                rejected.append(unread(task, reply))
                self._note(task, False)
            items += found or []
        judged = judge(items, self.documents, self._reader(), self.known)
        accepted = [self._accept(item) for item in judged if not item.gate]
        rejected += [rejected_of(item) for item in judged if item.gate]
        for item in judged:
            self._note(item.task, not item.gate)
        self._measure(tasks, judged)
        return accepted, rejected

    def _ask(self, tasks: Sequence[Task]) -> list[tuple[Task, str | None, list[Item] | None]]:
        """Each task with its reply and what could be read from it; one that cannot be read is asked for again, once."""
        calls = [self._call(task) for task in tasks]
        replies = self.caller.ask_all(calls)
        read = [items_of(reply, task) for reply, task in zip(replies, tasks, strict=True)]
        again = [i for i, reply in enumerate(replies) if reply is not None and read[i] is None]
        repairs = self.caller.ask_all([_repair(calls[i], replies[i] or "") for i in again])
        for i, reply in zip(again, repairs, strict=True):
            if reply is not None:
                replies[i], read[i] = reply, items_of(reply, tasks[i])
        return list(zip(tasks, replies, read, strict=True))

    def _reader(self) -> Any:
        from tinyforge.synthesize.readers import quoting, teaching

        if self.config.synthesize.reader == "teacher":
            return teaching(self.index, self.caller.ask_all)
        return quoting(self.index, self.documents)

    def _accept(self, item: Item) -> Example:
        fact = item.task.about.fact if item.task.about else ""
        self.wordings[fact] += 1
        return example_of(item, self.caller.teacher.name, self.wordings[fact] - 1)

    def _note(self, task: Task, accepted: bool) -> None:
        names = (task.topic, section(task.place), task.prompt.name, f"{task.topic}\n{task.prompt.name}")
        for name in names:
            self.record.add(name, accepted)

    def _measure(self, tasks: Sequence[Task], judged: Sequence[Item]) -> None:
        """Note what the accepted stand on, and how many units a call newly covered, by topic."""
        asked = Counter(task.topic for task in tasks)
        for topic in self.map:
            gained = topic.add(
                s for item in judged if not item.gate and item.task.topic == topic.name for s in item.evidence
            )
            if asked[topic.name]:
                self.gains[topic.name] = gained / asked[topic.name]

    # --- planning ---

    def first_calls(self) -> list[Call]:
        """What the first round will ask; planning it changes nothing."""
        wanted = round_shares(self.map, self.record, self.per_round)
        return [self._call(task) for task in self._tasks(wanted, 0, Counter())]

    def _tasks(self, wanted: Sequence[int], number: int, used: Counter[str]) -> list[Task]:
        tasks = []
        for topic, count in zip(self.map, wanted, strict=True):
            found = order(topic, self.record)
            for n in range(count if found else 0):
                place = found[n % len(found)]
                task = self._task(topic, place, number, n, used)
                used.update((task.prompt.name, f"{topic.name}\n{task.prompt.name}"))
                tasks.append(task)
        return tasks

    def _task(self, topic: Topic, place: Place, number: int, n: int, used: Counter[str]) -> Task:
        facts = self.facts.get((place.document.id, place.path), [])
        kinds = [k for k in PROMPTS if facts or k not in ("paraphrase", "distractors")]
        prompt = PROMPTS[turn(kinds, topic.name, self.record, used)]
        about = facts[(number + n) % len(facts)] if prompt.name in ("paraphrase", "distractors") else None
        excerpts = [_excerpt(place)]
        if prompt.name == "multi_span" and len(topic.places) > 1:
            excerpts.append(_excerpt(topic.places[(topic.places.index(place) + 1) % len(topic.places)]))
        if prompt.name == "distractors" and about is not None:
            excerpts += self._distractors(about, place)
        persona = _persona(self.config.seed, number, n, topic.name) if prompt.name == "persona" else ""
        return Task(prompt, place, topic.name, tuple(excerpts), about, persona, number)

    def _distractors(self, about: Example, place: Place) -> list[Excerpt]:
        hits = self.index.search(about.question, 8)
        others = [hit for hit in hits if not hit.span.overlaps(place.section.span)]
        return [Excerpt(hit.span, " > ".join(hit.path), hit.text) for hit in others[:_DISTRACTORS]]

    def _call(self, task: Task) -> Call:
        settings = self.config.synthesize
        options = Options(
            settings.teacher_answer_tokens, settings.teacher_temperature, self.config.seed + task.round, True
        )
        return Call(task.messages(), task.prompt.name, options)


def _repair(call: Call, reply: str) -> Call:
    return replace(call, messages=(*call.messages, Message("assistant", reply[:2000]), Message("user", REPAIR)))


def topic_map(documents: Sequence[Document], examples: Sequence[Example], index: Index, config: Config) -> list[Topic]:
    """The topics with what the examples already cover, and with the weights of the report that is in focus."""
    found = list(places(documents))
    focus = weights(config.synthesize.focus) if config.synthesize.focus else {}
    made = topics(found, _section_vectors(found, index), focus)
    evidence = [span for example in examples for span in example.evidence]
    for topic in made:
        topic.add(evidence)
    return [topic for topic in made if topic.units]


def _section_vectors(found: Sequence[Place], index: Index) -> dict[int, Any]:
    """For each section the mean of its passages' vectors."""
    by_document: dict[str, list[Any]] = {}
    for span, vector in index.vectors():
        by_document.setdefault(span.document, []).append((span, vector))
    means = {}
    for place in found:
        inside = [v for span, v in by_document.get(place.document.id, ()) if span.overlaps(place.section.span)]
        if inside:
            means[place.number] = sum(inside) / len(inside)
    return means


def _by_place(examples: Sequence[Example]) -> dict[tuple[str, str], list[Example]]:
    """One example of each fact, by document and section."""
    found: dict[tuple[str, str], dict[str, Example]] = {}
    for example in examples:
        key = (example.evidence[0].document, example.metadata["section"])
        found.setdefault(key, {}).setdefault(example.fact, example)
    return {key: list(facts.values()) for key, facts in found.items()}


def _excerpt(place: Place) -> Excerpt:
    whole = place.section.span
    cut = Span(whole.document, whole.start, min(whole.end, whole.start + _EXCERPT))
    span = first_sentences(place.document, whole, _EXCERPT) or cut
    return Excerpt(span, f"{place.title} > {place.path}", place.document.slice(span))


def _persona(seed: int, number: int, n: int, topic: str) -> str:
    return PERSONAS[int(content_id("persona", str(seed), str(number), str(n), topic), 16) % len(PERSONAS)]

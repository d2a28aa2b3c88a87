"""The parts of a report that say where the scores come from and what they are worth: topics, forgetting, leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyforge.evaluate import charts, legend
from tinyforge.evaluate.cells import number
from tinyforge.evaluate.markup import Markup, details, facts, join, table, tag

Report = Mapping[str, Any]

LABEL = 22  # characters of a row's name in a map
ROWS = 24  # groups drawn in one map
LEAKS_SHOWN = 20


def topics(report: Report) -> Markup:
    """Token F1 of every variant for each document, each kind of question and each topic, worst change first."""
    found = report.get("breakdown")
    if not found:
        return Markup()
    parts = [
        _map("source", "By document", found["source"]),
        _map("difficulty", "By kind of question", found["difficulty"]),
        _map("topic", f"By topic: {len(found['topic'])}, each a section of a document", found["topic"], folded=True),
    ]
    note = tag(
        "p",
        "Token F1, over both sets; what training changed for the worse comes first. A group holds few facts, so this "
        "says where to look, and proves nothing: there are no intervals here.",
    )
    return join(note, *parts)


def _map(name: str, title: str, groups: Sequence[Report], folded: bool = False) -> Markup:
    if not groups:
        return Markup()
    columns = legend.ordered(groups[0]["token_f1"], legend.READING_ORDER)
    drawn = groups[:ROWS]
    cells = [[group["token_f1"][variant] for variant in columns] for group in drawn]
    labels = [f"{_short(group['name'])} ({group['questions']})" for group in drawn]
    figure = tag("figure", charts.heat(name, title, labels, columns, cells), _key(groups), class_="map")
    return details(title, figure) if folded else join(tag("h3", title), figure)


def _key(groups: Sequence[Report]) -> Markup:
    rest = f" The first {ROWS} of {len(groups)}." if len(groups) > ROWS else ""
    return tag("figcaption", f"In brackets: questions. The stronger the colour, the higher the token F1.{rest}")


def _short(name: str) -> str:
    name = name.rpartition(" > ")[2]
    return name if len(name) <= LABEL else f"{name[: LABEL - 1].rstrip()}…"


def forgetting(report: Report) -> Markup:
    """General text, general questions and instructions, before and after."""
    found = report.get("forgetting")
    if not found:
        return Markup()
    note = tag(
        "p",
        "What the model could do before and was not trained to do here: predict general text, answer questions on "
        "general texts that stand in the prompt, follow simple instructions. Small sets: they find large losses.",
    )
    head: list[object] = ["Measured on", "Before", "After", "Change"]
    rows = [row for row in (_general(found["general"]), *(_measured(found, kind) for kind in _KINDS)) if row]
    return join(note, table(head, rows, "measured"), *(_probes(kind, found[kind]["rows"]) for kind in _KINDS))


_KINDS = {
    "questions": ("general questions, their text in the prompt (token F1)", "General questions"),
    "instructions": ("simple instructions (share followed)", "Instructions"),
}


def _general(general: Report | None) -> list[object]:
    if not general:
        return []
    before, after, change = (general[name] for name in ("before", "after", "change"))
    name = f"general text, {general['bytes']:,} bytes (bits per byte, lower is better)"
    return [name, f"{before:.2f}", f"{after:.2f}", _signed(change, 0.05, -1, f"{change:+.0%}")]


def _measured(found: Report, kind: str) -> list[object]:
    measured = found[kind]
    change = measured["difference"]
    shown = join(f"{change['value']:+.2f}", tag("small", f"{change['low']:+.2f} to {change['high']:+.2f}"))
    label = f"{measured['before']['n']} {_KINDS[kind][0]}"
    return [label, *(_score(measured[when]) for when in ("before", "after")), _sign(change, shown)]


def _score(score: Report) -> Markup:
    return join(number(score["value"]), tag("small", f"{number(score['low'])} to {number(score['high'])}"))


def _sign(change: Report, shown: Markup) -> Markup:
    """Coloured only where the interval leaves out 0."""
    word = "worse" if change["high"] < 0 else "better" if change["low"] > 0 else "same"
    return tag("span", shown, class_=word)


def _signed(value: float, threshold: float, good: int, shown: str) -> Markup:
    word = "same" if abs(value) <= threshold else "better" if value * good > 0 else "worse"
    return tag("span", shown, class_=word)


def _probes(kind: str, rows: Sequence[Report]) -> Markup:
    """Every probe with both answers, what was lost first."""
    order = sorted(rows, key=lambda row: row["after"]["score"] - row["before"]["score"])
    cells: list[list[object]] = [
        [row["prompt"], row["wanted"], *(_answer(row[when]) for when in ("before", "after"))] for row in order
    ]
    title = f"{_KINDS[kind][1]}: all {len(rows)}, what was lost first"
    return details(title, table(["Asked", "Wanted", "Before", "After"], cells, "probes"))


def _answer(answer: Report) -> Markup:
    return join(tag("span", answer["text"] or tag("em", "nothing")), tag("small", f"{answer['score']:.2f}"))


def leaks(report: Report) -> Markup:
    """What each question set shares with the training set."""
    found = report.get("leaks")
    if not found:
        return Markup()
    rows: list[tuple[str, object]] = [
        (legend.SETS.get(name, name), tag("span", one["line"], class_="worse" if one["leaked"] else "same"))
        for name, one in found.items()
    ]
    twins: list[list[object]] = [
        [leak["question"], leak["kind"], leak["trained"]]
        for one in found.values()
        for leak in one["leaks"][:LEAKS_SHOWN]
    ]
    return join(
        tag("h3", "Was any of it trained on?"),
        facts(rows),
        details(f"Questions with a twin in training (the first {LEAKS_SHOWN} of each set)", table(_TWIN, twins))
        if twins
        else "",
    )


_TWIN: list[object] = ["Question", "Found by", "In training"]

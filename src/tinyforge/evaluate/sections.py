"""The parts of the report, each from its share of the data to HTML. The data's shape is told in report.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinyforge.config import options
from tinyforge.evaluate import charts, legend
from tinyforge.evaluate.answers import side_by_side
from tinyforge.evaluate.cells import best_value, duration, number, shown_metrics
from tinyforge.evaluate.markup import Markup, details, facts, join, table, tag

Report = Mapping[str, Any]


def scores(report: Report) -> Markup:
    names = legend.ordered(report["scores"], legend.SETS)
    sets = [_score_set(name, report["scores"][name], report["choice"]) for name in names]
    return join(*sets, _recall(report["recall"]), _legend(report))


def _score_set(name: str, scores: Report, choice: str) -> Markup:
    count = max(score["n"] for metrics in scores.values() for score in metrics.values())
    title = legend.SETS.get(name, name)
    caption = tag("figcaption", "Token F1, with 95% intervals. The filled dot is the variant that chat uses.")
    return join(
        tag("h3", f"{title[:1].upper()}{title[1:]} ", tag("span", f"{count} questions", class_="count")),
        tag("p", legend.SET_HELP.get(name, "")),
        tag("figure", charts.score_dots(name, scores, choice), caption),
        score_rows(scores, count, choice),
    )


def score_rows(scores: Report, count: int, choice: str) -> Markup:
    """Variants by metrics, each value with its interval, the best of a column in bold."""
    metrics = shown_metrics(scores)
    best = {metric: best_value(scores, metric) for metric in metrics}
    rows: list[list[object]] = []
    for variant in legend.ordered(scores, legend.READING_ORDER):
        mark = tag("span", "chat", class_="chip") if variant == choice else ""
        cells = [_cell(scores[variant].get(metric), best[metric], count) for metric in metrics]
        rows.append([join(variant, " ", mark), *cells])
    return table(["Variant", *(legend.METRICS.get(metric, metric) for metric in metrics)], rows, "scores")


def _cell(score: Mapping[str, float] | None, best: float | None, count: int) -> Markup:
    if score is None:
        return tag("span", "–", title="not measured: no model writes this answer")
    value = number(score["value"])
    partial = f", n={score['n']}" if score["n"] != count else ""
    shown = tag("strong", value) if score["value"] == best else value
    return join(shown, tag("small", f"{number(score['low'])} to {number(score['high'])}{partial}"))


def _recall(recall: Report) -> Markup:
    if not recall:
        return Markup()
    rows: list[list[object]] = [
        [
            f"among the first {name.rpartition('@')[2]}" if not name.endswith("@1") else "first",
            join(tag("strong", f"{score['value']:.0%}"), tag("small", f"{score['low']:.0%} to {score['high']:.0%}")),
        ]
        for name, score in recall.items()
    ]
    count = next(iter(recall.values()))["n"]
    return join(
        tag("h3", "Was the right passage found? ", tag("span", f"{count} questions", class_="count")),
        tag("p", "Share of questions for which a retrieved passage holds the text that the answer stands on."),
        table(["A passage with the evidence came", "Recall"], rows),
    )


def _legend(report: Report) -> Markup:
    metrics = dict.fromkeys(m for scores in report["scores"].values() for m in shown_metrics(scores))
    variants = dict.fromkeys(v for scores in report["scores"].values() for v in scores)
    return details(
        "What these words mean",
        tag("h4", "Variants"),
        facts([(v, legend.VARIANT_HELP.get(v, "")) for v in legend.ordered(variants, legend.READING_ORDER)]),
        tag("h4", "Metrics"),
        facts([(legend.METRICS.get(m, m), legend.METRIC_HELP.get(m, "")) for m in metrics]),
        tag("h4", "Intervals"),
        tag(
            "p",
            "Only some of all possible questions were asked. An interval made like these contains, about 95 times in "
            "100, the value that asking all of them would give. Questions about one fact count together: they stand or "
            "fall together. Two variants are compared question by question; a difference counts only when its interval "
            "leaves out 0.",
        ),
    )


def training(report: Report) -> Markup:
    record = report["training"]
    curve = record["curve"]
    key = tag(
        "figcaption",
        "Loss in nats per token, by step: ",
        tag("span", "training", class_="key first"),
        " ",
        tag("span", "questions kept aside", class_="key second"),
        ". The ring is the step whose weights were kept." if record["best_step"] is not None else ".",
    )
    figures = [tag("figure", charts.losses(curve, record["best_step"]), key)] if curve else []
    if any(row.get("learning_rate") is not None for row in curve):
        figures.append(tag("figure", charts.learning_rate(curve), tag("figcaption", "Learning rate, by step.")))
    return join(facts(_training_facts(record), "figures"), tag("div", *figures, class_="charts"))


def _training_facts(training: Report) -> list[tuple[str, object]]:
    rates = sorted(row["tokens_per_second"] for row in training["curve"] if row.get("tokens_per_second"))
    pairs: list[tuple[str, object]] = [("Time", duration(training["seconds"])), ("Steps", f"{training['steps']:,}")]
    if training["best_step"] is not None:
        pairs.append(("Kept step", f"{training['best_step']:,}"))
    if rates:
        pairs.append(("Median speed", f"{rates[len(rates) // 2]:,.0f} tokens/s"))
    if training.get("method"):
        pairs.append(("Method", training["method"]))
    if training.get("parameters"):
        pairs.append(("Weights", f"{training['parameters']:,}"))
    if training.get("trained"):
        pairs.append(("Weights trained", f"{training['trained']:,}"))
    if training.get("general"):
        before, after, change = (training["general"][name] for name in ("before", "after", "change"))
        pairs.append(("General text", f"{before:.2f} → {after:.2f} bits per byte ({change:+.1%})"))
    return pairs


def answers(report: Report) -> Markup:
    note = tag(
        "p",
        "Each answer comes with its token F1. ",
        tag("mark", "Underlined words"),
        " are not in the reference at that place; capitals and punctuation do not count.",
    )
    return join(note, side_by_side(report["questions"]))


def data(report: Report) -> Markup:
    made = report["dataset"]
    share = made["sections_with_facts"] / made["sections"] if made["sections"] else 0.0
    summary: list[tuple[str, object]] = [
        ("Files read", _count(len(made["read"]))),
        ("Files skipped", _count(len(made["skipped"]))),
        ("Sections", _count(made["sections"])),
        ("Sections that gave a fact", f"{_count(made['sections_with_facts'])} ({share:.0%})"),
        ("Facts", _count(made["facts"])),
    ]
    splits: list[list[object]] = [[k, _count(v["facts"]), _count(v["examples"])] for k, v in made["splits"].items()]
    read: list[list[object]] = [
        [row["source"], *(_count(row[key]) for key in ("characters", "sections", "facts"))] for row in made["read"]
    ]
    rules = sorted(made["rules"].items(), key=lambda pair: (-pair[1], pair[0]))
    return join(
        facts(summary, "figures"),
        tag("h3", "What was learned from, and what was kept aside"),
        table(["Split", "Facts", "Questions"], splits),
        _list("Files skipped", ["File", "Why"], [[row["source"], row["reason"]] for row in made["skipped"]], 10),
        _list("Files read", ["File", "Characters", "Sections", "Facts"], read),
        _list("Rules that found facts", ["Rule", "Facts"], [[rule, _count(count)] for rule, count in rules]),
        _list(
            "What was dropped, and why",
            ["Reason", "Stage", "Dropped"],
            [[row["reason"], row["stage"], _count(row["count"])] for row in made["dropped"]],
        ),
    )


def _count(value: int) -> str:
    return f"{value:,}"


def _list(title: str, head: list[object], rows: list[list[object]], open_up_to: int = 0) -> Markup:
    """A titled table, folded away when it has more rows than ``open_up_to``; nothing when empty."""
    if not rows:
        return Markup()
    if len(rows) <= open_up_to:
        return join(tag("h3", title), table(head, rows))
    return details(f"{title} ({_count(len(rows))})", table(head, rows))


def reproduce(report: Report) -> Markup:
    changed: list[list[object]] = [
        [tag("code", key), _shown(new), _shown(old)] for key, new, old in changed_options(report["config"])
    ]
    total = sum(report["seconds"].values())
    stages: list[list[object]] = [[stage, duration(value)] for stage, value in report["seconds"].items()]
    machine: list[tuple[str, object]] = [(name, _shown(value)) for name, value in report["machine"].items()]
    versions: list[list[object]] = [[name, version] for name, version in report["versions"].items()]
    return join(
        tag("pre", tag("code", report["command"]), tabindex="0"),
        facts([("Seed", report["seed"]), ("Time in all", duration(total)), *machine]),
        tag("h3", "Options that differ from the defaults") if changed else tag("p", "Every option has its default."),
        table(["Option", "Here", "Default"], changed) if changed else "",
        details(f"Time of each stage, {duration(total)} in all", table(["Stage", "Time"], [*stages])),
        details(f"Versions of {len(versions)} packages", table(["Package", "Version"], versions)),
    )


def changed_options(config: Report) -> list[tuple[str, Any, Any]]:
    """``(key, value, default)`` of every option of a resolved configuration that is not at its default.

    An option that this version does not know is listed too, with None for its default.
    """
    defaults = {key: default for key, _, default, _ in options()}
    return [(key, value, defaults.get(key)) for key, value in _flat(config, "") if value != defaults.get(key)]


def _flat(config: Report, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    return "yes" if value is True else "no" if value is False else str(value)

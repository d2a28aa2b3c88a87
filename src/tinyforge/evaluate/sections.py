"""The parts of the report, each from its share of the data to HTML. The data's shape is told in report.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyforge.evaluate import charts, legend
from tinyforge.evaluate.answers import side_by_side
from tinyforge.evaluate.cells import best_value, duration, number, shown_metrics
from tinyforge.evaluate.markup import Markup, details, facts, join, table, tag

Report = Mapping[str, Any]


def scores(report: Report) -> Markup:
    names = legend.ordered(report["scores"], legend.SETS)
    leaks = report.get("leaks", {})
    asked = report["config"].get("evaluate", {}).get("metrics", [])
    drawn = list(dict.fromkeys(["token_f1", *(name.rpartition(":")[2] for name in asked)]))
    sets = [_score_set(name, report["scores"][name], report["choice"], leaks.get(name), drawn) for name in names]
    left_out = [tag("p", note, class_="note") for note in report.get("left_out", [])]
    return join(*sets, *left_out, _recall(report["recall"]), _legend(report))


def _score_set(name: str, scores: Report, choice: str, leaks: Report | None, drawn: Sequence[str]) -> Markup:
    """``drawn``: the metrics with a chart of their own, which are token F1 and those that a person asked for."""
    count = max(score["n"] for metrics in scores.values() for score in metrics.values())
    title = legend.SETS.get(name, name)
    figures = [_dots(name, scores, choice, m) for m in drawn if any(m in row for row in scores.values())]
    return join(
        tag("h3", f"{title[:1].upper()}{title[1:]} ", tag("span", f"{count} questions", class_="count")),
        tag("p", legend.SET_HELP.get(name, "")),
        tag("p", f"Overlap with training: {leaks['line']}.", class_="note") if leaks else "",
        figures[0] if len(figures) == 1 else tag("div", *figures, class_="charts"),
        score_rows(scores, count, choice),
    )


def _dots(name: str, scores: Report, choice: str, metric: str) -> Markup:
    title = legend.METRICS.get(metric, metric)
    caption = f"{title}, with 95% intervals. The filled dot is the variant that chat uses."
    return tag("figure", charts.score_dots(name, scores, choice, metric), tag("figcaption", caption))


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
    for name, title in _CURVES.items():
        if any(row.get(name) is not None for row in curve):
            figures.append(
                tag("figure", charts.over_steps(curve, name, title), tag("figcaption", f"{title}, by step."))
            )
    return join(facts(_training_facts(record), "figures"), tag("div", *figures, class_="charts"))


_CURVES = {
    "learning_rate": "Learning rate",
    "gradient_norm": "Norm of the gradient before clipping",
    "memory_mb": "Memory of the process in MB",
}


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
    return pairs


def answers(report: Report) -> Markup:
    note = tag(
        "p",
        "Each answer comes with its token F1. ",
        tag("mark", "Underlined words"),
        " are not in the reference at that place; capitals and punctuation do not count. ",
        tag("mark", "Shaded words", class_="evidence"),
        " are where the documents say it.",
    )
    return join(note, side_by_side(report["questions"]))

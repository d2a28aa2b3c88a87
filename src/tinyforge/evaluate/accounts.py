"""Where the numbers of a report come from: the data, what it cost, and how to make them again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tinyforge.config import options
from tinyforge.evaluate import charts, findings
from tinyforge.evaluate.cells import duration
from tinyforge.evaluate.markup import Markup, details, facts, join, table, tag

Report = Mapping[str, Any]


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
    return join(
        facts(summary, "figures"),
        tag("h3", "What was learned from, and what was kept aside"),
        table(["Split", "Facts", "Questions"], splits),
        findings.leaks(report),
        _figures(made),
        _list("Files skipped", ["File", "Why"], [[row["source"], row["reason"]] for row in made["skipped"]], 10),
        _list("Files read", ["File", "Characters", "Sections", "Facts"], read),
        _list(
            "What was dropped, and why",
            ["Reason", "Stage", "Dropped"],
            [[_plain(row["reason"]), row["stage"], _count(row["count"])] for row in made["dropped"]],
        ),
    )


def _figures(made: Report) -> Markup:
    """The rules by the facts that they found, and the gates by the questions that they refused."""
    refused = {row["reason"]: row["count"] for row in made["dropped"] if row["stage"] == "examples"}
    shown = [
        _bars("rules", "Facts, by the rule that found them", made["rules"]),
        _bars("gates", "Facts that a gate refused, by gate", refused),
    ]
    return tag("div", *shown, class_="charts") if any(shown) else Markup()


def _bars(name: str, title: str, counts: Mapping[str, int]) -> Markup:
    if not counts:
        return Markup()
    most = dict(sorted(((_plain(key), n) for key, n in counts.items()), key=lambda pair: (-pair[1], pair[0])))
    return tag("figure", charts.bars(name, title, most), tag("figcaption", f"{title}."))


def _plain(name: str) -> str:
    """A gate's name as words."""
    return name.replace("_", " ")


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
        facts([("Seed", report["seed"]), *machine]),
        tag("h3", "What it cost"),
        facts(_cost(report, total)),
        tag("h3", "Options that differ from the defaults") if changed else tag("p", "Every option has its default."),
        table(["Option", "Here", "Default"], changed) if changed else "",
        details(f"Time of each stage, {duration(total)} in all", table(["Stage", "Time"], [*stages])),
        details(f"Versions of {len(versions)} packages", table(["Package", "Version"], versions)),
    )


def _cost(report: Report, total: float) -> list[tuple[str, object]]:
    hourly = report["config"].get("train", {}).get("price_per_hour", 0)
    memory = [row["memory_mb"] for row in report["training"]["curve"] if row.get("memory_mb")]
    pairs: list[tuple[str, object]] = [("Time", duration(total))]
    if memory:
        pairs.append(("Most memory while training", f"{max(memory):,.0f} MB"))
    if hourly:
        pairs.append(("Price", f"{total / 3600 * hourly:,.2f}, at {hourly:g} an hour (train.price_per_hour)"))
    return [*pairs, ("Energy", "not measured, so nothing is said of it")]


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

"""The result of an evaluation or a comparison in the terminal: who scored what, who is better, where it got worse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tinyforge.evaluate import legend
from tinyforge.evaluate.cells import best_value, number
from tinyforge.evaluate.measure import failure_lines

if TYPE_CHECKING:
    from rich.table import Table

Result = Mapping[str, Any]
GROUPS_SHOWN = 6
REGRESSIONS_SHOWN = 5


def labels(names: Iterable[str]) -> dict[str, str]:
    """What each contender is called in the terminal: of a path as many of its last parts as tell it from the others."""
    parts = {name: [name] if "://" in name else [part for part in name.split("/") if part] for name in names}
    short = {}
    for name, own in parts.items():
        others = [other for other in parts if other != name]
        kept = next(
            (n for n in range(1, len(own)) if not any(parts[other][-n:] == own[-n:] for other in others)), len(own)
        )
        short[name] = "/".join(own[-kept:]) if kept < len(own) else name
    return short


def shortened(result: Result) -> tuple[dict[str, Any], list[str]]:
    """The same result with its contenders' labels for their names, and a line for each label that is no whole name."""
    short = labels(dict.fromkeys([*result["scores"], *result["leaks"]]))
    renamed = {
        part: {short[name]: value for name, value in result[part].items()} for part in ("scores", "leaks", "unanswered")
    }
    pairs = [{**pair, "a": short[pair["a"]], "b": short[pair["b"]]} for pair in result["pairs"]]
    told = [f"{label} is {name}" for name, label in short.items() if label != name]
    return {**result, **renamed, "pairs": pairs}, told


def score_table(result: Result) -> Table:
    """Metrics down, contenders across; the deciding metric first, with its 95% interval; the best of a row is bold."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    scores = result["scores"]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for contender in scores:
        table.add_column(escape(contender.replace("+", "\n+")), justify="right", overflow="fold")
    for metric in _rows(scores, result["primary"]):
        best = best_value(scores, metric)
        cells = [_cell(row.get(metric), best, metric == result["primary"]) for row in scores.values()]
        table.add_row(escape(legend.METRICS.get(metric, metric)), *cells)
    return table


def title(name: str, result: Result) -> str:
    """What stands above the table of a set."""
    known = legend.SETS.get(name)
    return f"{f'{name}: {known}' if known else name} ({result['questions']} questions about {result['facts']} facts)"


def _rows(scores: Mapping[str, Mapping[str, Any]], primary: str) -> list[str]:
    present = dict.fromkeys(metric for row in scores.values() for metric in row)
    return [primary, *(metric for metric in legend.ordered(present, legend.METRICS) if metric != primary)]


def _cell(score: Mapping[str, Any] | None, best: float | None, interval: bool) -> str:
    if score is None:
        return "-"
    value = f"[bold]{number(score['value'])}[/bold]" if score["value"] == best else number(score["value"])
    return f"{value}\n{number(score['low'])} to {number(score['high'])}" if interval else value


def lines(result: Result) -> Iterator[str]:
    """What stands under the table: leaks, then each pair, then what could not be scored."""
    for run, leak in result["leaks"].items():
        yield leak_line(run, leak)
    if not result["leaks"]:
        yield "Leak check: no training rows are known to hold the questions against."
    for pair in result["pairs"]:
        yield pair_line(pair, result["primary"])
    yield from failure_lines(result["failures"])
    for contender, rows in result["unanswered"].items():
        if rows:
            yield f"{contender} did not answer {len(rows)} questions (first {rows[0]['question']}: {rows[0]['error']})"


def leak_line(run: str, leak: Mapping[str, Any]) -> str:
    """One line beside the scores."""
    label = {"leaked": "LEAKED", "nearly clean": "Nearly clean", "clean": "Clean"}[leak["verdict"]]
    kinds = ", ".join(f"{kind} {count}" for kind, count in leak["kinds"].items() if count)
    among = f"the {leak['training']:,} training rows"
    found = f"{len(leak['leaks'])} of {leak['questions']} questions have a twin among {among}"
    taught = f"; {leak['taught']} ask about facts that it was taught" if leak["taught"] else ""
    return f"{label}: {found} of {run}{f' ({kinds})' if kinds else ''}{taught}."


def pair_line(pair: Mapping[str, Any], primary: str) -> str:
    """Whether the second of a pair is better, and if that cannot be told, what could have been."""
    change = pair["differences"].get(primary)
    name = legend.METRICS.get(primary, primary)
    if change is None:
        return f"{pair['b']} and {pair['a']} cannot be compared: too few questions were scored for both."
    better = (change["value"] > 0) != (primary in legend.LOWER_IS_BETTER)
    interval = f"95% interval {change['low']:+.3f} to {change['high']:+.3f}"
    told = f"{name} {change['value']:+.3f}, {interval}, {_p(pair['p_holm'])}"
    if pair["clear"]:
        line = f"{pair['b']} is {'better' if better else 'worse'} than {pair['a']} ({told})"
    else:
        line = f"{pair['b']} is not measurably different from {pair['a']} ({told})"
        if pair["detectable"] is not None:
            line += f"; a difference below {pair['detectable']:.3f} could go unseen with this many questions"
    if pair["mcnemar"]:
        found = pair["mcnemar"]
        line += f"; right alone: {found['only_b']} against {found['only_a']}, exact McNemar {_p(found['p_holm'])}"
    return line + "."


def group_title(pair: Mapping[str, Any]) -> str:
    shown = min(len(pair["groups"]), GROUPS_SHOWN + 2)
    return f"{pair['b']} less {pair['a']}, worst first ({shown} of {len(pair['groups'])} groups)"


def group_table(pair: Mapping[str, Any]) -> Table | None:
    """Where the second of a pair lost and gained most, worst first; None where nothing tells the questions apart."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    groups = pair["groups"]
    if not groups:
        return None
    shown = [*groups[:GROUPS_SHOWN], *groups[GROUPS_SHOWN:][-2:]]
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("by", "group", "questions", "difference", "95% interval", "p (Holm)"):
        table.add_column(column, justify="left" if column in ("by", "group") else "right", overflow="fold")
    for group in shown:
        known = group["low"] is not None
        table.add_row(
            group["by"],
            escape(_short(group["name"] or "(none)")),
            str(group["questions"]),
            f"{group['value']:+.2f}",
            f"{group['low']:+.2f} to {group['high']:+.2f}" if known else "one fact",
            f"{group['p_holm']:.3f}{' *' if group['clear'] else ''}" if known else "-",
        )
    return table


def _short(text: str, limit: int = 36) -> str:
    return text if len(text) <= limit else f"…{text[1 - limit :]}"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _start(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def regression_lines(pair: Mapping[str, Any]) -> Iterator[str]:
    """The questions on which the second of a pair lost most."""
    lost: Sequence[Mapping[str, Any]] = pair["regressions"]
    if not lost:
        return
    yield f"{pair['b']} lost against {pair['a']} on {len(lost)} questions; the worst:"
    for row in lost[:REGRESSIONS_SHOWN]:
        yield f"  {_start(row['question'], 100)}  ({number(row['a_score'])} → {number(row['b_score'])})"
        yield f"      reference  {_start(row['reference'], 90)}"
        yield f"      {pair['a']}: {_start(row['a'], 90)}"
        yield f"      {pair['b']}: {_start(row['b'], 90)}"

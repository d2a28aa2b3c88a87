"""Charts as inline SVG, drawn by matplotlib, then freed of everything that is fixed to one theme or one moment.

Colours are drawn as placeholders and replaced by ``currentColor`` and CSS variables of report.css, so that one file
serves light, dark and print. The same data always gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinyforge.evaluate.legend import METRICS, READING_ORDER, ordered
from tinyforge.evaluate.markup import Markup

_INK, _LINE, _FIRST, _SECOND, _PAPER = "#010101", "#010102", "#010103", "#010104", "#010105"
_COLOURS = {
    _INK: "currentColor",
    _LINE: "var(--line)",
    _FIRST: "var(--series-1)",
    _SECOND: "var(--series-2)",
    _PAPER: "var(--paper)",
}
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 11.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}


def losses(curve: Sequence[Mapping[str, Any]], best_step: int | None) -> Markup:
    """Training and dev loss (nats per token) over optimizer steps, with the step whose weights were kept."""

    def draw(axes: Any) -> None:
        axes.plot(*_column(curve, "loss"), color=_FIRST, linewidth=1.6)
        steps, values = _column(curve, "dev_loss")
        axes.plot(steps, values, color=_SECOND, linewidth=1.6, marker="o", markersize=4, linestyle="--")
        axes.set_ylim(bottom=0)
        if best_step in steps:
            best = values[steps.index(best_step)]
            axes.plot([best_step], [best], "o", markersize=10, markerfacecolor="none", color=_SECOND, linewidth=1.5)

    return _svg("loss", "Training and dev loss over steps", draw, height=2.7)


def over_steps(curve: Sequence[Mapping[str, Any]], key: str, title: str) -> Markup:
    """One measured quantity over optimizer steps, from zero up."""

    def draw(axes: Any) -> None:
        axes.plot(*_column(curve, key), color=_FIRST, linewidth=1.6)
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 5), useMathText=False)

    return _svg(key.replace("_", "-"), f"{title} over steps", draw, height=2.7)


def heat(
    name: str, title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float]]
) -> Markup:
    """A map of numbers from 0 to 1: the higher, the stronger its colour; the number stands in each field."""

    def draw(axes: Any) -> None:
        from matplotlib.patches import Rectangle

        for y, line in enumerate(cells):
            for x, value in enumerate(line):
                strength = 0.04 + 0.56 * min(1.0, max(0.0, value))
                axes.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, facecolor=_FIRST, alpha=strength, lw=0))
                axes.text(x + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=9.5)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        axes.set_xticks([x + 0.5 for x in range(len(columns))], columns, rotation=40, ha="left")
        axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=9.5)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return _svg(f"map-{name}", title, draw, height=1.0 + 0.3 * len(rows))


def bars(name: str, title: str, counts: Mapping[str, int]) -> Markup:
    """How many of each, the most first, the number at the end of its bar."""

    def draw(axes: Any) -> None:
        axes.barh(list(counts), list(counts.values()), color=_FIRST, height=0.62)
        for row, count in enumerate(counts.values()):
            axes.annotate(f"{count:,}", (count, row), xytext=(5, 0), textcoords="offset points", va="center")
        axes.set_ylim(len(counts) - 0.5, -0.5)
        axes.margins(x=0.14)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return _svg(f"bars-{name}", title, draw, height=0.25 + 0.3 * len(counts))


def histogram(name: str, title: str, sizes: Sequence[int]) -> Markup:
    """How many there are of each size, in about twenty steps."""

    def draw(axes: Any) -> None:
        step = max(1, -(-max(sizes) // 20))
        axes.hist(sizes, bins=range(0, max(sizes) + 2 * step, step), color=_FIRST, rwidth=0.88)
        axes.set_xlim(left=0)

    return _svg(f"histogram-{name}", title, draw, height=2.4)


def shares(name: str, title: str, values: Mapping[str, float]) -> Markup:
    """Shares from 0 to 1, one bar each in the order given, with the number at its end."""

    def draw(axes: Any) -> None:
        rows = range(len(values))
        axes.barh(rows, [1.0] * len(values), color=_LINE, height=0.62, alpha=0.4)
        axes.barh(rows, list(values.values()), color=_FIRST, height=0.62)
        for row, value in enumerate(values.values()):
            axes.annotate(f"{value:.0%}", (1, row), xytext=(5, 0), textcoords="offset points", va="center")
        axes.set_yticks(rows, [label if len(label) <= 32 else "…" + label[-31:] for label in values])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.12)
        axes.tick_params(length=0)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    return _svg(f"shares-{name}", title, draw, height=0.25 + 0.3 * len(values))


def score_dots(
    name: str, scores: Mapping[str, Mapping[str, Mapping[str, float]]], choice: str, metric: str = "token_f1"
) -> Markup:
    """One metric of each variant in one set: a dot with its 95% interval; the variant that chat uses is filled."""
    variants = [variant for variant in ordered(scores, READING_ORDER)[::-1] if metric in scores[variant]]
    ends = [scores[variant][metric][end] for variant in variants for end in ("low", "high")]
    share = min(ends) >= 0 and max(ends) <= 1

    def draw(axes: Any) -> None:
        for row, variant in enumerate(variants):
            score, colour = scores[variant][metric], _SECOND if variant == choice else _FIRST
            axes.plot([score["low"], score["high"]], [row, row], color=colour, linewidth=2.4, solid_capstyle="round")
            face = colour if variant == choice else _PAPER
            axes.plot([score["value"]], [row], "o", markersize=8, color=colour, markerfacecolor=face, markeredgewidth=2)
        axes.set_yticks(range(len(variants)), variants)
        if share:
            axes.set_xlim(-0.025, 1.025)  # a dot at either end stays whole
        else:
            axes.margins(x=0.06)
        axes.set_ylim(-0.6, len(variants) - 0.4)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)

    title = f"{METRICS.get(metric, metric)} of each variant, set {name}"
    place = name if metric == "token_f1" else f"{name}-{re.sub(r'[^A-Za-z0-9_-]', '-', metric)}"
    return _svg(f"scores-{place}", title, draw, height=0.6 + 0.36 * len(variants))


def _column(curve: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """The steps at which ``key`` was measured, and its values."""
    rows = [row for row in curve if row.get(key) is not None]
    return [int(row["step"]) for row in rows], [float(row[key]) for row in rows]


def _svg(name: str, title: str, draw: Callable[[Any], None], height: float) -> Markup:
    from matplotlib import style
    from matplotlib.figure import Figure

    # From the defaults, so that a person's own matplotlibrc does not leak into the report.
    with style.context(["default", {**_SETTINGS, "svg.hashsalt": name}]):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return Markup(_inline(buffer.getvalue(), name, title))


def _inline(svg: str, name: str, title: str) -> str:
    """The drawing as part of a page: no XML prologue, no addresses, ids of its own, colours and font of the page."""
    svg = svg[svg.index("<svg") :]
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box is not None  # matplotlib always writes one
    svg = f'<svg role="img" aria-label="{title}" {box.group()}>' + svg[svg.index(">") + 1 :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'#([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(url\(|href=")#([\w-]+)', rf"\1#{name}-\2", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for placeholder, colour in _COLOURS.items():
        svg = svg.replace(placeholder, colour)
    return svg.strip()

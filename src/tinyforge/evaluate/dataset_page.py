"""The dataset's card as a page: what it covers, how long and how hard it is, what was refused. The data:

title, sources [{"source", "sections", "covered", "facts"}], splits {name: {"facts", "examples"}}, reading {name: rows},
rules, topics, difficulty, rejected {name: count}, questions, answers [words of each], quality (see
dataset.quality.quality), languages {code: facts}, rude, personal {word or kind: rows}, samples [{"question",
"answer", "source", "section"}], coverage {"sections", "covered", "precise"}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyforge.evaluate import charts
from tinyforge.evaluate.markup import Markup, facts, join, table, tag
from tinyforge.evaluate.page import page

Card = Mapping[str, Any]
_MOST = 20  # bars of a chart

_HELP = {
    "grounding": "of an answer's words stand in the text that it is taken from",
    "clarity": "of the questions can be asked without the page at hand",
    "completeness": "of the answers end where a sentence, a value or a list ends",
    "diversity_of_facts": "of the runs of three words in the facts' first questions are distinct",
    "topic_entropy": "of the evenness that the topics could have (entropy over its maximum)",
}
_SPLITS = {
    "train": "learned from",
    "dev": "watched while training, to keep the best weights",
    "wordings": "trained facts, asked in words that are not trained",
    "documents": "facts that are never trained",
    "retention": "general text, to see what is forgotten",
}


def render(card: Card) -> str:
    """The whole page. The same card gives the same bytes."""
    sections = {
        "Coverage": _coverage(card),
        "Topics": _topics(card),
        "Questions": _shape(card),
        "Quality": _quality(card),
        "Splits": _splits(card),
        "Refused": _refused(card),
        "Samples": _samples(card),
    }
    made = {title: content for title, content in sections.items() if content}
    return page(f"{card['title']}: dataset card", _masthead(card, list(made)), made)


def _masthead(card: Card, titles: list[str]) -> Markup:
    quality, coverage = card["quality"], card["coverage"]
    shown = [
        ("Facts", f"{quality['facts']:,}"),
        ("Questions", f"{quality['rows']:,}"),
        ("Documents", f"{len(card['sources']):,}"),
        ("Sections covered", f"{_share(coverage['covered'], coverage['sections'])} of {coverage['sections']:,}"),
        ("Languages", ", ".join(card["languages"]) or "unknown"),
    ]
    return tag(
        "header",
        tag("p", "TinyForge dataset", class_="kicker"),
        tag("h1", card["title"]),
        facts([(name, value) for name, value in shown], "figures"),
        tag("nav", *(tag("a", title, href=f"#{title.lower()}") for title in titles), aria_label="Parts of this page"),
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


def _coverage(card: Card) -> Markup:
    coverage = card["coverage"]
    said = (
        f"{coverage['covered']:,} of {coverage['sections']:,} sections with text yield an example "
        f"({_share(coverage['covered'], coverage['sections'])}); by the precise rules alone, "
        f"{coverage['precise']:,} ({_share(coverage['precise'], coverage['sections'])})."
    )
    rows: list[list[object]] = [
        [row["source"], f"{row['covered']:,} of {row['sections']:,}", f"{row['facts']:,}"] for row in card["sources"]
    ]
    by_share = {row["source"]: row["covered"] / row["sections"] for row in card["sources"][:_MOST] if row["sections"]}
    caption = "Share of each document's sections that yield an example" + _first(len(card["sources"]))
    return join(
        tag("p", said),
        _figure(charts.shares("coverage", "Sections covered, by document", by_share), caption) if by_share else "",
        table(["Document", "Sections covered", "Facts"], rows[: 5 * _MOST]),
    )


def _first(count: int) -> str:
    return f" (the first {_MOST} of {count:,})." if count > _MOST else "."


def _figure(chart: Markup, caption: str) -> Markup:
    return tag("figure", chart, tag("figcaption", caption))


def _bars(name: str, title: str, counts: Mapping[str, int], caption: str) -> Markup:
    shown = {_short(key): count for key, count in list(counts.items())[:_MOST]}
    return _figure(charts.bars(name, title, shown), caption + _first(len(counts))) if shown else Markup()


def _short(text: str) -> str:
    return text if len(text) <= 42 else text[:20].rstrip() + " … " + text[-19:].lstrip()


def _topics(card: Card) -> Markup:
    return _bars("topics", "Facts by topic", card["topics"], "Facts by topic, which is a heading and its document")


def _shape(card: Card) -> Markup:
    made = [
        _histogram("questions", "Words in a question", card["questions"]),
        _histogram("answers", "Words in an answer", card["answers"]),
        _bars("difficulty", "Facts by difficulty", card["difficulty"], "Facts by what it takes to answer"),
        _bars("rules", "Facts by rule", card["rules"], "Facts by the rule that found them"),
    ]
    return tag("div", *made, class_="charts")


def _histogram(name: str, title: str, sizes: list[int]) -> Markup:
    if not sizes:
        return Markup()
    ordered = sorted(sizes)
    middle, most = ordered[len(ordered) // 2], ordered[-1]
    return _figure(charts.histogram(name, title, sizes), f"{title}: the middle one has {middle}, the longest {most}.")


def _quality(card: Card) -> Markup:
    quality, near = card["quality"], card["quality"]["near_duplicates"]
    rows: list[tuple[str, object]] = [
        (name.replace("_of_facts", "").replace("_", " ").capitalize(), f"{quality[name]:.1%} {told}")
        for name, told in _HELP.items()
        if quality.get(name) is not None
    ]
    told = (
        f"{near['share_of_facts']:.1%} of the facts say nearly what another one does, and {near['share_of_pairs']:.2%} "
        f"of all pairs of rows are alike (Jaccard {near['threshold']:g} or more; a fact's wordings are so on purpose)"
    )
    rows.append(("Near copies", told))
    rows.append(("Rude words", _counted(card["rude"]) or "none of a short list"))
    rows.append(("Personal data", _counted(card["personal"]) or "none found by its form"))
    return facts(rows)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _splits(card: Card) -> Markup:
    rows: list[list[object]] = [
        [name, f"{row['facts']:,}", f"{row['examples']:,}", f"{card['reading'].get(name, 0):,}", _SPLITS.get(name, "")]
        for name, row in card["splits"].items()
    ]
    return join(
        table(["Split", "Facts", "Questions", "With passages", "What it is for"], rows),
        tag(
            "p",
            "Facts that share evidence, an answer or eight words of one are on the same side. No 13 words of an answer "
            "in a row are in both train and documents; this is checked before the files are written.",
        ),
    )


def _refused(card: Card) -> Markup:
    if not card["rejected"]:
        return Markup()
    told = "Candidates that a gate refused. `tinyforge data rejected RUN` lists each with its reason."
    return join(tag("p", told), _bars("rejected", "Refused, by gate", card["rejected"], "Refused candidates by gate"))


def _samples(card: Card) -> Markup:
    made = [
        tag(
            "article",
            facts([("Question", row["question"]), ("Answer", row["answer"])]),
            tag("footer", tag("span", row["source"]), tag("span", row["section"])),
            class_="card",
        )
        for row in card["samples"]
    ]
    return join(*made)

"""The report of a run: report.json in, one self-contained HTML file out. No script, no request to anywhere.

The report is plain JSON data:

    verdict      str, "Label: sentence. Chat will use ..."; from verdict.verdict
    choice       the variant that chat uses
    reasons      [str]
    scores       {set: {variant: {metric: score}}}, score = {"value", "low", "high", "n"}; a 95% interval over facts
    differences  {set or "both": {a: {b: score}}}: token F1 of a minus b, paired
    recall       {"recall@1": score, "recall@3": score}; may be empty where nothing is retrieved
    questions    [{"set", "id", "question", "reference", "source", "section", "rule",
                   "answers": {variant: {"text", "declined", "token_f1"}}}]; from answers.question_rows
    dataset      {"read": [{"source", "characters", "sections", "facts"}],
                  "skipped": [{"source", "reason"}],
                  "sections": int, "sections_with_facts": int,
                  "facts": int, "rules": {rule: facts},
                  "splits": {split: {"facts": int, "examples": int}},
                  "dropped": [{"stage", "reason", "count"}]}
    training     {"steps", "seconds", "best_step" (None: the last), "method", "parameters", "trained",
                  "curve": [{"step", "loss", "dev_loss", "learning_rate", "tokens_per_second"}]}; a curve value may
                 be None where it was not measured; losses are nats per token. "method", "parameters" (all weights of
                 the model), "trained" (those that training changed) and "general" (bits per byte of general
                 text {"before", "after", "change"}) may be missing
    config       the resolved configuration, nested as config.Config.model_dump() gives it
    machine      {name: value}, shown as it is
    versions     {package: version}
    seed         int
    command      str, what to type to make this run again
    seconds      {stage: seconds}, in the order in which they ran
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.evaluate import sections
from tinyforge.evaluate.markup import Markup, tag
from tinyforge.run import write_text

Report = Mapping[str, Any]

KEYS = (
    *("verdict", "choice", "reasons", "scores", "differences", "recall", "questions", "dataset", "training"),
    *("config", "machine", "versions", "seed", "command", "seconds"),
)
# Nothing may be loaded and nothing may run, whatever text found its way in.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_SECTIONS: dict[str, Callable[[Report], Markup]] = {
    "Scores": sections.scores,
    "Training": sections.training,
    "Answers": sections.answers,
    "Data": sections.data,
    "Reproduce": sections.reproduce,
}


def write_report(report: Report, path: Path) -> None:
    """Render to ``path``, atomically."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The whole page. The same report gives the same bytes. Raises InputError naming the keys that are missing."""
    missing = [key for key in KEYS if key not in report]
    if missing:
        raise InputError(
            f"report: {', '.join(missing)} missing.", "Build the run again with this version of TinyForge."
        )
    style = Markup(files("tinyforge.evaluate").joinpath("report.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", "TinyForge report"),
        tag("style", style),
    )
    parts = [tag("section", tag("h2", title), make(report), id=title.lower()) for title, make in _SECTIONS.items()]
    body = tag("body", _masthead(report), tag("main", *parts))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _masthead(report: Report) -> Markup:
    label, _, rest = str(report["verdict"]).partition(": ")
    lead, chat, choice = rest.partition("Chat will use ")
    links = [tag("a", title, href=f"#{title.lower()}") for title in _SECTIONS]
    reasons = tag("ul", *(tag("li", reason) for reason in report["reasons"]), class_="reasons")
    return tag(
        "header",
        tag("p", "TinyForge report", class_="kicker"),
        tag("h1", label),
        tag("p", lead[:1].upper() + lead[1:], class_="lead") if lead else "",
        tag("p", chat + choice) if choice else "",
        reasons if report["reasons"] else "",
        tag("nav", *links, aria_label="Parts of this report"),
    )

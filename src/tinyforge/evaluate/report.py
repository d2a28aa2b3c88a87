"""The report of a run: report.json in, one self-contained HTML file out. No script, no request to anywhere.

The report is plain JSON data:

    verdict      str, "Label: sentence. Chat will use ..."; from verdict.verdict
    choice       the variant that chat uses
    reasons      [str]
    scores       {set: {variant: {metric: score}}}, score = {"value", "low", "high", "n"}; a 95% interval over facts
    differences  {set or "both": {a: {b: score}}}: token F1 of a minus b, paired
    recall       {"recall@1": score, "recall@3": score}; may be empty where nothing is retrieved
    questions    [{"set", "id", "question", "reference", "source", "section", "rule", "fact", "topic", "difficulty",
                   "evidence": [{"before", "text", "after"}],
                   "answers": {variant: {"text", "declined", "token_f1"}}}]; from answers.question_rows
    breakdown    {"source" | "difficulty" | "topic": [group]}; from topics.breakdown. May be missing
    forgetting   from forgetting.forgetting. May be missing
    leaks        {set: LeakReport.to_json() with "line", its one sentence}. May be missing
    exports      from exports.find_exports, when there are some; the page alone has them, report.json does not
    left_out     [str], what was not measured, or only in part, and why. May be missing
    dataset      {"read": [{"source", "characters", "sections", "facts"}],
                  "skipped": [{"source", "reason"}],
                  "sections": int, "sections_with_facts": int,
                  "facts": int, "rules": {rule: facts},
                  "splits": {split: {"facts": int, "examples": int}},
                  "dropped": [{"stage", "reason", "count"}]}
    training     {"steps", "seconds", "best_step" (None: the last), "method", "parameters", "trained",
                  "curve": [{"step", "loss", "dev_loss", "learning_rate", "gradient_norm", "memory_mb",
                             "tokens_per_second"}]}; a curve value may be missing or None where it was not measured;
                 losses are nats per token. "method", "parameters" (all weights of the model) and "trained" (those
                 that training changed) may be missing
    config       the resolved configuration, nested as config.Config.model_dump() gives it
    machine      {name: value}, shown as it is
    versions     {package: version}
    seed         int
    command      str, what to type to make this run again
    seconds      {stage: seconds}, in the order in which they ran
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.evaluate import accounts, exports, findings, sections
from tinyforge.evaluate.markup import Markup, tag
from tinyforge.evaluate.page import page
from tinyforge.run import write_text

Report = Mapping[str, Any]

KEYS = (
    *("verdict", "choice", "reasons", "scores", "differences", "recall", "questions", "dataset", "training"),
    *("config", "machine", "versions", "seed", "command", "seconds"),
)
_SECTIONS: dict[str, Callable[[Report], Markup]] = {
    "Scores": sections.scores,
    "Topics": findings.topics,
    "Forgetting": findings.forgetting,
    "Training": sections.training,
    "Answers": sections.answers,
    "Exports": exports.exports,
    "Data": accounts.data,
    "Reproduce": accounts.reproduce,
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
    made = {title: content for title, make in _SECTIONS.items() if (content := make(report))}
    return page("TinyForge report", _masthead(report, list(made)), made)


def _masthead(report: Report, titles: Sequence[str]) -> Markup:
    label, _, rest = str(report["verdict"]).partition(": ")
    lead, chat, choice = rest.partition("Chat will use ")
    links = [tag("a", title, href=f"#{title.lower()}") for title in titles]
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

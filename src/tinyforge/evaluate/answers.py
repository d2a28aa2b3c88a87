"""The questions of a report: rows of data first, then cards with every variant's answer, worst regression first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from tinyforge.evaluate.compare import Answer
from tinyforge.evaluate.evidence import evidence_pieces
from tinyforge.evaluate.legend import READING_ORDER, SETS, ordered
from tinyforge.evaluate.markup import Markup, details, join, tag
from tinyforge.evaluate.metrics import normalise, token_f1
from tinyforge.records import Document, Example

Row = Mapping[str, Any]

REGRESSIONS_SHOWN = 5
GAINS_SHOWN = 3
_PAIRS = (("tuned", "base", "tuning"), ("tuned+retrieval", "base+retrieval", "tuning, with retrieval"))
_SET_CHIPS = {"wordings": "new wording", "documents": "untaught fact"}


def question_rows(
    name: str,
    examples: Sequence[Example],
    answers: Mapping[str, Sequence[Answer]],
    documents: Mapping[str, Document],
) -> list[dict[str, Any]]:
    """One row for each question of the set ``name``, as report.json keeps it; ``documents`` is keyed by id."""
    rows = []
    for number, example in enumerate(examples):
        source, section = _place(example, documents)
        given = {variant: answers[variant][number] for variant in answers}
        rows.append(
            {
                "set": name,
                "id": example.id,
                "question": example.question,
                "reference": example.answer,
                "source": source,
                "section": section,
                "rule": example.rule,
                "fact": example.fact,
                "topic": example.topic,
                "difficulty": example.difficulty,
                "evidence": evidence_pieces(example.evidence, documents),
                "answers": {variant: _answer_row(answer, example) for variant, answer in given.items()},
            }
        )
    return rows


def _answer_row(answer: Answer, example: Example) -> dict[str, Any]:
    score = 0.0 if answer.declined else token_f1(answer.text, example)
    row = {"text": answer.text, "declined": answer.declined, "token_f1": score}
    return row if answer.as_written in (None, answer.text) else {**row, "as_written": answer.as_written}


def _place(example: Example, documents: Mapping[str, Document]) -> tuple[str, str]:
    """The file and the heading path that the first span of evidence lies in; empty without evidence."""
    if not example.evidence:
        return "", ""
    span = example.evidence[0]
    document = documents[span.document]
    section = next((s for s in document.sections() if s.span.overlaps(span)), None)
    return document.source, " › ".join(section.path) if section else ""


def changes(row: Row) -> dict[str, float]:
    """By how much training changed token F1 on this question, without and with retrieval."""
    f1 = {variant: answer["token_f1"] for variant, answer in row["answers"].items()}
    return {label: f1[tuned] - f1[base] for tuned, base, label in _PAIRS if tuned in f1 and base in f1}


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Largest loss through training first; ties by the other comparison, then as asked."""
    return sorted(rows, key=lambda row: sorted(changes(row).values()) or [0.0])


def side_by_side(rows: Sequence[Row]) -> Markup:
    """Every question once: the worst regressions and the largest gains in full, the rest folded away by set."""
    order = worst_first(rows)
    regressions = [row for row in order if min(changes(row).values(), default=0.0) < 0]
    shown = regressions[:REGRESSIONS_SHOWN]
    rest = [row for row in order if not any(row is other for other in shown)]
    gains = [row for row in reversed(rest) if min(changes(row).values(), default=0.0) > 0][:GAINS_SHOWN]
    rest = [row for row in rest if not any(row is other for other in gains)]
    lost = f"{len(regressions)} of {len(rows)} questions lost token F1 through training."
    return join(
        tag("h3", "Where training made the answer worse"),
        tag("p", lost + (" The worst come first." if regressions else "")),
        *map(_card, shown),
        tag("h3", "Where it helped most") if gains else "",
        *map(_card, gains),
        *_folded(rest, "other" if shown or gains else ""),
    )


def _folded(rows: Sequence[Row], word: str) -> list[Markup]:
    result = []
    for name in ordered(dict.fromkeys(row["set"] for row in rows), SETS):
        members = [row for row in rows if row["set"] == name]
        count = " ".join(filter(None, ["All" if not word else "The", str(len(members)), word, "questions"]))
        result.append(details(f"{count} on {SETS.get(name, name)}, worst first", *map(_card, members)))
    return result


def _card(row: Row) -> Markup:
    answers = row["answers"]
    lines = [_answer_line(variant, answers[variant], row["reference"]) for variant in ordered(answers, READING_ORDER)]
    place = tag("span", " › ".join(filter(None, (row["source"], row["section"]))))
    rule = tag("span", f"rule: {row['rule']}", class_="rule") if row["rule"] else ""
    return tag(
        "article",
        tag(
            "p", tag("span", _SET_CHIPS.get(row["set"], row["set"]), class_="chip"), *map(_change, changes(row).items())
        ),
        tag("h4", row["question"]),
        tag("p", tag("span", "reference", class_="name"), tag("span", row["reference"]), class_="reference"),
        tag("dl", *lines, class_="answers"),
        _evidence(row.get("evidence", [])),
        tag("footer", place, rule),
        class_="card",
    )


def _change(change: tuple[str, float]) -> Markup:
    label, value = change
    direction = "worse" if value < -0.005 else "better" if value > 0.005 else "same"
    arrow = {"worse": "▼", "better": "▲", "same": "="}[direction]
    shown = f"{value:+.2f}".replace("-", "−")
    return tag("span", f"{arrow} {shown} by {label}", class_=f"change {direction}")


def _answer_line(variant: str, answer: Mapping[str, Any], reference: str) -> Markup:
    text = tag("em", answer["text"] or "declined") if answer["declined"] else mark(reference, answer["text"])
    score = tag("span", f"{answer['token_f1']:.2f}", class_="f1")
    return tag("div", tag("dt", variant, score), tag("dd", text or tag("em", "nothing")))


def _evidence(pieces: Sequence[Mapping[str, str]]) -> Markup:
    """The passage with the words that the answer stands on highlighted."""
    shown = [
        tag("q", _tight(piece["before"]), tag("mark", piece["text"], class_="evidence"), _tight(piece["after"]))
        for piece in pieces
    ]
    return tag("p", tag("span", "evidence", class_="name"), *shown, class_="passage") if shown else Markup()


def _tight(text: str) -> str:
    return re.sub(r"\n{2,}", "\n", text)


def mark(reference: str, answer: str) -> Markup:
    """The answer with the words that the reference does not have in that place marked; case and punctuation aside."""
    words = re.findall(r"\S+\s*", answer)
    wanted, found = ([_key(word.strip()) for word in text] for text in (reference.split(), words))
    parts: list[object] = []
    for kind, _, _, start, end in SequenceMatcher(None, wanted, found, autojunk=False).get_opcodes():
        text = "".join(words[start:end])
        if not text:
            continue
        parts.append(text if kind == "equal" else tag("mark", text.rstrip()))
        if kind != "equal":
            parts.append(text[len(text.rstrip()) :])
    return join(*parts)


def _key(word: str) -> str:
    return normalise(word) or word.lower()

"""What happens if: "If CONDITION, MAIN" asks about the condition and answers with the whole sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import AUXILIARIES, PRONOUNS, lower_first, straight, words

_OPENS = re.compile(r"(?:If|When|Once|Unless|Whenever) ")
_ACTS = re.compile(
    r"(?:please|you should|you must|you need to|you have to|you'll need to|you may need to|be sure|make sure|do not|"
    r"don't|never|always)\b",
    re.I,
)
_IMPERATIVE = re.compile(
    r"(?:use|add|run|set|check|contact|ask|choose|click|create|call|consult|consider|send|open|select|follow|try|tell|"
    r"give|read|see|write|avoid|ensure|report|notify|inform|reach|talk|ping|get|take|keep|let|remember|start|stop)\s"
)
_COMMA = re.compile(r", (?:then )?")
_JOINS = re.compile(r"(?:and|or|but|nor)\b")
_AWAY = frozenset("this these those following above below such here so that".split())


def find(place: Place, limit: int) -> Iterator[Fact]:
    for sentence in place.all_sentences:
        found = _split(sentence) if _OPENS.match(sentence.text) else None
        if found is not None:
            yield _fact(place, sentence, *found)


def _split(sentence: Sentence) -> tuple[str, str] | None:
    """``(condition, main clause)``, cut at the first comma that a main clause follows."""
    text = sentence.text
    if text.endswith(("?", ":")):
        return None
    for comma in _COMMA.finditer(text[:150]):
        condition, main = text[: comma.start()], text[comma.end() :]
        if _JOINS.match(main):
            continue
        if _ACTS.match(straight(main)) or _IMPERATIVE.match(main) or split_clause(main) is not None:
            clear = _understood(condition) and "this" not in words(main)
            return (condition, main) if clear else None
    return None


def _understood(condition: str) -> bool:
    """A clause of its own with a subject that is named, and nothing that points elsewhere."""
    plain = straight(condition)
    clause = split_clause(plain.split(" ", 1)[1])
    found = words(plain)
    if clause is None or found[-1] in AUXILIARIES or found[-1] in ("not", "so", "to"):
        return False
    if "," in condition or not 4 <= len(found) <= 20 or any(w in _AWAY for w in found):
        return False
    subject = words(clause.subject)
    if (
        not subject
        or subject[0] in PRONOUNS
        or subject[0] in ("one", "there", "both", "all", "some", "any", "either", "each")
    ):
        return False
    # "it" may stand for something that the clause has named; without a noun before it, it cannot.
    pronoun = next((i for i, w in enumerate(found) if w in PRONOUNS), None)
    return pronoun is None or (pronoun > 4 and subject[0] not in ("you", "we", "i"))


def _fact(place: Place, sentence: Sentence, condition: str, main: str) -> Fact:
    asked = condition[0].lower() + condition[1:]
    act = _ACTS.match(straight(main)) or _IMPERATIVE.match(main)
    about_you = re.search(r"\byou\b", straight(asked)) is not None
    clause = split_clause(straight(condition).split(" ", 1)[1])
    happens = "happened" if clause is not None and clause.past and asked.startswith(("when ", "once ")) else "happens"
    direct = f"what should you do {asked}" if act and about_you else f"what {happens} {asked}"
    inside = f"what you should do {asked}" if act and about_you else direct
    name = lower_first(clause.subject, place.known) if clause else ""
    return fact(
        "condition", "condition", f"{name} {asked}", [sentence], "why", slots={"c": asked, "d": direct, "i": inside}
    )

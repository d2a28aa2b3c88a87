"""What happens if: "If CONDITION, MAIN" asks about the condition and answers with the whole sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tinyforge.synthesize.clauses import named, split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import (
    AUXILIARIES,
    PRONOUNS,
    bare_definite,
    is_plural,
    lower_first,
    one_of,
    straight,
    vague_subject,
    words,
)

_OPENS = re.compile(r"(?:If|When|Once|Whenever) ")
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
_AWAY = frozenset("this these those following above below such here so that either another same other others".split())
_CONNECTS = re.compile(
    r"\b(?:instead|also|still|therefore|otherwise|then|too|however|now|later|further|likewise)\b|"
    r"\b(?:old|previous|existing|original|resulting|corresponding|no equivalent)\b|"
    r"\bthe (?:first|second|third|last|two|three|other) |^\w+ \("
)
_SAYS_LITTLE = re.compile(
    r"\b(?:one of (?:two|three|several)|something (?:must|should|has)|this|these|those|such|still|too|instead|again|"
    r"also|nevertheless|otherwise the|says|said)\b"
)
# What a document tells "you" to do, or that you may expect; a textbook's "you" only stands for anybody.
_ADVICE = re.compile(
    r"\b(?:please|you (?:can|may|might|will|must|should|need|have|are|could)|you'(?:ll|re|d)|will|should|must|can|"
    r"be sure|make sure)\b|"
    r"^(?:don't|do not|" + _IMPERATIVE.pattern[len("(?:") : -len(r")\s")] + r")\b"
)
# An example's figures, a comparison with what was said before, a purpose, a time that has not come.
_OF_AN_EXAMPLE = re.compile(
    r"[$€£%]|^\w+ an? new |\b(?-i:(?:point|firm|country|good|currency|case|option) [A-Z])\b|"
    r"\b(?-i:[a-z]\d|[BDE-HJ-QS-Z])\b(?![+#-])|"
    r"\b(?:longer|more|less|fewer|sooner|later|better|worse|further|higher|lower)$|\b(?:is|are) to \w|"
    r"^(?:once|when)\b.*\b(?:will|'ll)\b",
    re.I,
)
_PRONOUN_MAIN = re.compile(r"(?P<which>it|they|he|she|its|their)\b")


_NAMELESS = re.compile(
    r"\$|\b(?:point|firm|country|good|currency|case|option) [A-Z]\b|\b(?:[a-z]\d|[BDE-HJ-QS-Z])\b(?![+#-])"
)  # "the base class X are leaked to Y"


def find(place: Place, limit: int) -> Iterator[Fact]:
    opening = [sentence for sentence in place.all_sentences if _OPENS.match(sentence.text)]
    often = Counter(sentence.text.split(",", 1)[0].lower() for sentence in opening)
    for sentence in opening:
        found = _split(sentence)
        if found is not None and often[sentence.text.split(",", 1)[0].lower()] == 1 and _told(place, *found):
            yield _fact(place, sentence, *found)


_CALLED = re.compile(r"(?<![\w.])([a-z]\w*)\(\)")


def _introduced(subject: str, headings: Iterable[str]) -> bool:
    """Whether "the node" or "the key value" is told of in a heading; else only the text before knows which."""
    if not subject.lower().startswith("the "):
        return True
    told = {word.rstrip("s") for word in headings}
    return (named(subject) and not told.isdisjoint(word.rstrip("s") for word in words(subject)[1:])) or one_of(subject)


def _told(place: Place, condition: str, main: str) -> bool:
    """Whether what happens speaks of things that the condition or the headings have named, and not of an example's."""
    headings = (*words(place.heading), *words(place.title))
    clause = split_clause(straight(condition).split(" ", 1)[1])
    if clause is not None and clause.subject.lower() == "you" and not _ADVICE.search(straight(main)):
        return False
    if clause is not None and not _introduced(clause.subject, headings):
        return False
    if any(f"def {name}(" in place.document.slice(place.section.span) for name in _CALLED.findall(condition)):
        return False  # a function that only an example defines
    if clause is not None and bare_definite(clause.rest, (*words(clause.subject), *headings)):
        return False
    return not (
        _OF_AN_EXAMPLE.search(condition)
        or _NAMELESS.search(main)
        or (
            not _ACTS.match(straight(main))
            and (not _ACTS.match(straight(main)) and bare_definite(main, (*words(condition), *headings)))
        )
    )


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
            clear = _understood(condition) and not _SAYS_LITTLE.search(main) and _agrees(condition, main)
            return (condition, main) if clear else None
    return None


def _understood(condition: str) -> bool:
    """A clause of its own with a subject that is named, and nothing that points elsewhere."""
    plain = straight(condition)
    clause = split_clause(plain.split(" ", 1)[1])
    found = words(plain)
    if _CONNECTS.search(plain):
        return False
    if clause is None or found[-1] in AUXILIARIES or found[-1] in ("not", "so", "to"):
        return False
    if re.search("[,:;]", condition) or not 4 <= len(found) <= 20 or any(w in _AWAY for w in found):
        return False
    if clause.verb in ("is", "are") and re.match(r"(?:an?|the) .*\b(?:where|of|that)\b", clause.rest):
        return False  # "If X is the cost of ..., Y is ...": a comparison
    subject = words(clause.subject)
    if (
        not subject
        or len(clause.subject) < 2
        or clause.subject[0].isdigit()
        or subject[0] in PRONOUNS
        or subject[0] in ("one", "there", "both", "all", "some", "any", "either", "each")
    ):
        return False
    if re.match(r"(?:the|an?) \w+$", clause.subject) and not _particular(clause.subject):
        return False
    # "it" may stand for something that the clause has named; without a noun before it, it cannot.
    pronoun = next((i for i, w in enumerate(found) if w in PRONOUNS), None)
    return pronoun is None or (pronoun > 4 and subject[0] not in ("you", "we", "i"))


def _particular(subject: str) -> bool:
    """Not "the value" or "the object", of which a section has many."""
    return named(subject) or not vague_subject(subject)


def _agrees(condition: str, main: str) -> bool:
    """Whether a pronoun that opens the main clause can stand for the condition's subject, by number."""
    pronoun = _PRONOUN_MAIN.match(straight(main))
    clause = split_clause(straight(condition).split(" ", 1)[1])
    if pronoun is None or clause is None:
        return True
    if pronoun["which"] in ("its", "their"):
        return False
    subject = clause.subject.lower()
    if subject in ("you", "we", "i"):
        return False
    return is_plural(subject) == (pronoun["which"] == "they")


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

"""What may not become an example. Each gate looks at one fact; `GATES` gives their order, the first refusal counts.

``refusal`` returns the name of that gate, or "" when all of them let the fact through.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise, product

from tinyforge.config import SynthesizeConfig
from tinyforge.synthesize.facts import Candidate
from tinyforge.synthesize.language import holds, leans, points_away, straight, vague_subject, words

# Their answers are values, questions' answers or lists; they need not be sentences that stand alone.
_SHORT_ANSWERS = frozenset(("acronym", "value", "table", "faq", "heading", "entry", "glossary", "code"))
_URL = re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|edu|gov|dev)\b\S*|\S+@\S+\.\w+")
_ADDRESS = ("://", "www.", "@", ".com", ".org", ".net", ".io", ".edu", ".gov", ".dev")  # every match has one of them
_PLACEHOLDERS = (
    "{{", "}}", "{%", "%}", "<%", "%>", "${", "lorem ipsum", "[your ", "[insert", "<insert", "coming soon",
    "intentionally left blank", "click here", "[citation needed]",
)  # fmt: skip
_TO_DO = re.compile(r"%\(\w+\)s|\b(?:TODO|TBD|FIXME|XXX)\b")
_AWAY = re.compile(
    r"\b(?:(?:as|are|is|be|was|were|list(?:ed)?|shown|given|described|the|see|\w+ed|in) (?:below|above)|"
    r"(?:the|as) follow(?:s|ing)\b(?! (?:year|day|month|week|morning))|(?:figure|table|exhibit|listing|equation) "
    r"(?:\d[\d.]*|\(|above|below|shows)|(?:this|that|our|the (?:previous|next|preceding|last|present|current)) "
    r"(?:section|chapter|module|page|example|exercise|lesson|figure|table|graph|diagram)|(?:previous|next|earlier|"
    r"later) (?:sections?|chapters?|modules?)|(?:described|mentioned|discussed|noted|defined|given|introduced|shown) "
    r"(?:earlier|before|previously)|you (?:will|'ll) (?:learn|see|read))\b",
)
# A quick look: every match has one of these.
_AWAY_SIGNS = (
    "below", "above", "follow", "figure", "table", "exhibit", "listing", "equation", "section", "chapter", "module",
    "page", "earlier", "before", "previously", "example", "exercise", "lesson", "graph", "diagram", "you will",
    "you 'll",
)  # fmt: skip
# Where a reference was cut out ("as the data in show", "see and"), a word is missing.
_HOLE_WORDS = (
    ("in see from by", "has have had"),
    ("in see from by of with to at", "show shows illustrate illustrates present presents display displays list lists "
     "summarizes provides and or are is was"),
    ("the a an", "is are show shows of in and"),
    ("section chapter figure table exhibit", "and or show shows is are in"),
)  # fmt: skip
_HOLE_PAIRS = frozenset(pair for first, then in _HOLE_WORDS for pair in product(first.split(), then.split()))
_HOLE_PAIR = re.compile(
    "|".join(rf"\b(?:{'|'.join(a.split())}) (?:{'|'.join(b.split())})\b" for a, b in _HOLE_WORDS), re.I
)
# "codified in 13", "had rejected 310's": the number of something whose name was a link.
_HOLE_NUMBER = re.compile(
    r"\b(?:codified|described|specified|defined|proposed|introduced|accepted|discussed|outlined|explained|rejected|see|"
    r"per|unlike)(?: in| by| for| of)? (?!1[5-9]\d\d|20\d\d)\d{2,4}(?:'s\b|[.,;)]|$| (?:and|or|as|is|was)\b)"
)
_HOLE_MARK = re.compile(
    r"[a-z]\. (?:\(\w\) )?(?:shows|lists|illustrates|presents|summarizes|provides|displays|compares|contains)\b|"
    r"[.,;](?:(?<=\s,)| [.,;]|(?<=\.)\.\s)"
)
_HOLE_BRACKET = re.compile(
    r"(?<=\s)\(\s*\)|(?<![\w\])`])\(\s*(?:see|and|or)?\s*[),]|^\(\w\) |\b(?:of|in|see) [(]\w[)]|\bas \(\w\)", re.I
)
# What is left of reStructuredText: a reference (name_, name__), a role (:func:).
_REFERENCE = re.compile(
    r"(?<![\w_])\w[\w-]*[a-zA-Z0-9]__?(?![\w(\[=]|\.\w)|<https?:|(?<!\w):[a-z]{2,}[+:`~A-Z]|\]_|\\\s|\[#\w*\]"
)
_CODE_LINE = re.compile(r"(?:def|if|for|while|try|class|with|else|elif)\b.*:\s.*[=()]")
_RETURNS = re.compile(r"\breturn\b[^.]*\breturn\b")
_LABEL = re.compile(r"(?:^|[\s(])(?:\w|\d+)\)")  # "1)" and "a)"
_POINTING = frozenset("this these those that it they them he she here".split())
_SYMBOLS = re.compile(r"[{}<>=|\\#^~@_;*+\[\]]")
_SENTENCE_END = (".", "!", "?", ")", "”", '"', "’", "'", "…", "]")


def dangling_subject(c: Candidate) -> bool:
    """The question opens with, or leans on, something said elsewhere."""
    subject = c.fact.subject
    if c.fact.form in ("condition", "why", "steps", "list") or c.fact.rule in (
        "howto",
        "faq",
        "heading",
        "section",
        "questions",
    ):
        return _points(subject) if c.fact.rule in ("faq", "heading") else False
    return points_away(subject)


def _points(question: str) -> bool:
    return not _POINTING.isdisjoint(words(straight(question)))


def text_points_elsewhere(text: str) -> bool:
    """Whether a text points at another place of its document."""
    lower = straight(text).lower()
    return holds(lower, _AWAY_SIGNS) and _AWAY.search(lower) is not None


def _hole(text: str) -> bool:
    """Whether a word is missing."""
    if _HOLE_MARK.search(text) or ("(" in text and _HOLE_BRACKET.search(text)):
        return True
    return not _HOLE_PAIRS.isdisjoint(pairwise(words(text))) and _HOLE_PAIR.search(text) is not None


def vague(c: Candidate) -> bool:
    return c.fact.form in ("define", "attribute") and c.fact.rule != "glossary" and vague_subject(c.fact.subject)


def subject_too_long(c: Candidate) -> bool:
    longest = 8 if c.fact.form == "define" else 24
    return len(words(c.fact.subject)) > longest or len(c.question) > 200


def subject_broken(c: Candidate) -> bool:
    return not words(c.fact.subject) or _unbalanced(c.question) or _symbols(c.fact.subject) > 0.12


def question_not_self_contained(c: Candidate) -> bool:
    asked = " ".join((c.fact.slot("d"), c.fact.slot("c"), c.fact.subject))
    return text_points_elsewhere(asked) or _hole(asked)


def dangling_answer(c: Candidate) -> bool:
    """A whole-sentence answer that opens with a pronoun; after a FAQ's question one may."""
    if c.fact.rule in _SHORT_ANSWERS or c.fact.form == "steps":
        return False
    return any(leans(line) for line in c.fact.answer.split("\n")) if c.fact.form != "list" else False


def answer_points_elsewhere(c: Candidate) -> bool:
    """What a section says may begin with "This section"."""
    answer = c.fact.answer
    return text_points_elsewhere(answer.removeprefix("This section") if c.fact.rule == "section" else answer)


def answer_too_short(c: Candidate) -> bool:
    if c.fact.rule in _SHORT_ANSWERS:
        return not re.search(r"\w", c.fact.answer)
    return len(words(c.fact.answer)) < 4


def link_only(c: Candidate) -> bool:
    """Nothing, or next to nothing, is left when addresses are taken away."""
    if not holds(c.fact.answer, _ADDRESS):
        return False
    rest = _URL.sub("", c.fact.answer)
    return rest != c.fact.answer and len(words(rest)) < 4


def heading_like(c: Candidate) -> bool:
    """An answer that should be a sentence and is a title, a caption or a fragment."""
    if c.fact.rule in _SHORT_ANSWERS or c.fact.form in ("list", "steps"):
        return False
    return len(words(c.fact.answer)) < 12 and not c.fact.answer.rstrip("*_ ").endswith(_SENTENCE_END)


def broken_fragment(c: Candidate) -> bool:
    answer = c.fact.answer
    if c.fact.rule == "code":
        return False
    if not c.fact.coverage and _HOLE_NUMBER.search(answer):
        return True
    if answer.endswith((":", ",", ";", "(", "—")) or _unbalanced(answer):
        return True
    return c.fact.rule not in ("value", "table") and _hole(answer)


def markup_left(c: Candidate) -> bool:
    """Signs of reStructuredText that no reader of it took away; a section's opening may have them."""
    return not c.fact.coverage and (_markup(c.fact.answer) or _markup(c.question))


def _markup(text: str) -> bool:
    return holds(text, ("_", ":", "\\", "[#")) and _REFERENCE.search(text) is not None


def _unbalanced(text: str) -> bool:
    count = text.count
    if count("(") != count(")") or count("[") != count("]") or count("“") != count("”"):
        return not _LABEL.search(text)
    return text.count('"') % 2 == 1


def template_junk(c: Candidate) -> bool:
    return template_junk_in(c.fact.answer)


def template_junk_in(text: str) -> bool:
    """Whether a text holds what was to be filled in."""
    return holds(text.lower(), _PLACEHOLDERS) or _TO_DO.search(text) is not None


def code_in_sentence(c: Candidate) -> bool:
    answer = c.fact.answer
    if c.fact.rule == "code":
        return False
    if _symbols(answer) > 0.06 or "== " in answer or "!= " in answer or _CODE_LINE.match(answer):
        return True
    return "return" in answer and _RETURNS.search(answer) is not None


def _symbols(text: str) -> float:
    return len(_SYMBOLS.findall(text)) / max(1, len(text))


def repeats_question(c: Candidate) -> bool:
    """An answer that says no word which the question has not said already."""
    return set(words(c.question)).issuperset(words(c.fact.answer))


GATES: dict[str, Callable[[Candidate], bool]] = {
    gate.__name__: gate
    for gate in (
        dangling_subject,
        vague,
        subject_too_long,
        subject_broken,
        question_not_self_contained,
        dangling_answer,
        answer_points_elsewhere,
        answer_too_short,
        link_only,
        heading_like,
        broken_fragment,
        markup_left,
        template_junk,
        code_in_sentence,
        repeats_question,
    )
}


def refusal(candidate: Candidate, config: SynthesizeConfig) -> str:
    """The name of the first gate that refuses the candidate, or ""."""
    if not candidate.fact.answer or not candidate.question:
        return "empty"
    if len(candidate.fact.answer) > config.max_answer_characters:
        return "answer_too_long"
    return next((name for name, refuses in GATES.items() if refuses(candidate)), "")

""" "Term: text" and "Term — text" in lists and paragraphs: a glossary, a value, or a named point."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.records import Span
from tinyforge.synthesize.facts import Fact, Place
from tinyforge.synthesize.language import leans, lower_first, normal, noun_like, tidy, words
from tinyforge.synthesize.places import first_sentences

_COLON = re.compile(r"(?P<term>[^\W_][^:.?!;]{1,60}?)\s*:\s+(?P<text>\S.*)", re.S)
_DASH = re.compile(r"(?P<term>[^\W_][^:.?!–—;]{1,60}?)\s+[–—-]\s+(?P<text>\S.*)", re.S)
# "Area, total" is the total area; "Capital, name" the capital's name.
_FLIPPED = frozenset(
    "total male female land water urban rural public private other average annual median combined".split()
)
_GLOSSARY = re.compile(r"(?:[\w-]+ ){0,2}(?:glossary|terms|terminology|definitions|vocabulary)$", re.I)
_FEWEST_WORDS = 6  # of a sentence about a term
# What a short text without a number can be stated for.
_STATED = frozenset(
    """author editor manager contact capital language currency license licence owner founder type name title address
    format version religion nationality president provider colour color""".split()
)
_COUNTED = _STATED | frozenset(
    """price cost fee size length width height area population rate age weight limit number count total duration
    deadline date time hours phone telephone salary budget speed capacity distance depth temperature year
    coverage""".split()
)
_OPEN_ENDED = frozenset("at on in for to of by with from is are the a an and or".split())
_LABELS = frozenset(
    """note example examples tip warning important remember caution update todo fix source figure table see step hint
    question answer q a pros cons e g i e key takeaway summary result input output before after default usage
    pro con response reply comment description purpose scope overview status
    returns return raises parameters arguments args yields raise
    image photo credit caption author date title link edit optional required bonus yes no first second third""".split()
)


def find(place: Place, limit: int) -> Iterator[Fact]:
    """Entries of lists in which at least half of the items, and two, have a term; paragraphs likewise."""
    for group in place.lists:
        yield from _entries(place, [item.span for item in group.items], limit)
    paragraphs = [Span(p[0].span.document, p[0].span.start, p[-1].span.end) for p in place.paragraphs]
    yield from _entries(place, paragraphs, limit)


def _entries(place: Place, spans: list[Span], limit: int) -> Iterator[Fact]:
    found = []
    for span in spans:
        text = place.document.slice(span)
        match = (_COLON.match(text) if ":" in text else None) or _DASH.match(text)
        if match and _term(match["term"]) and not match["text"].lower().startswith("note:"):
            found.append((span, match))
    fewest = 1 if _GLOSSARY.match(place.heading) else 2
    if len(found) < fewest or len(found) * 2 < len(spans):
        return
    for span, match in found:
        value = first_sentences(place.document, Span(span.document, span.start + match.start("text"), span.end), limit)
        if value is not None:
            entry = _entry(place, tidy(match["term"]), value)
            if entry is not None:
                yield entry


def _term(term: str) -> bool:
    found = words(term)
    if not 1 <= len(found) <= 7 or found[0] in _LABELS or leans(term):
        return False
    if re.match(r"\d{1,2}-\w{3}-\d{4}|def ", term) or term.endswith(("()", "(x)")):
        return False
    if (
        not re.search(r"[A-Za-z]{2}", term)
        or found[-1] == "note"
        or re.search(r"[\\\"=<>{}|*]|_\w|\w_|\(\w*\)$|\w\(", term)
    ):
        return False
    if {"we", "you", "or", "and"} & set(found) or found[0] in ("be", "add", "use", "make", "do") or not noun_like(term):
        return False
    return term.count("(") == term.count(")") and not re.search(r"\b(?:is|are|was|were|that|which|if|when)\b", term)


def _entry(place: Place, term: str, value: Span) -> Fact | None:
    text = tidy(place.document.slice(value))
    inside = lower_first(term, place.known)
    if _GLOSSARY.match(place.heading):
        if re.match(r"see(?: also)? ", text, re.I) and len(words(text)) < 6:
            return None
        # An entry has no article: 'What is "normative statement"?'
        return Fact("glossary", "define", f'"{inside}"', (value,), text, (("n", place.title),))
    if len(words(text)) <= 8 and not text.endswith("."):
        return _attribute(place, inside, value, text) if _is_value(place, inside, text) else None
    if not text[:1].isupper() or leans(text) or not text.endswith((".", "!")) or len(words(text)) < _FEWEST_WORDS:
        return None
    if term[:1].islower():
        return None  # a parameter's or a field's name
    return Fact("entry", "about", inside, (value,), text, (("n", f"{inside} ({place.name})"),), coverage=True)


def _is_value(place: Place, term: str, text: str) -> bool:
    """Whether a short text is what a label asks for: a common noun is stated, and no command or code is typed."""
    found = words(term)
    if found[-1] in _OPEN_ENDED or re.search(r"[$`=<>{}|\\]|\s--?\w|^[a-z]+ (?:-\w|install|add|run)\b", text):
        return re.match(r"[$€£]\s?\d", text) is not None
    if re.match(r"[$€£]\s?\d", text):
        return True
    if re.match(r"(?:the|an?) ", text):
        return False
    if found[-1] not in (_COUNTED if re.search(r"\d", text) else _STATED):
        return False
    return term[:1].islower() and not re.search(r"\d", term) and not re.search(r":(?!\d)", text)


def _label(term: str) -> str:
    """The term as it reads after "the"; in quotation marks where it is a form's label and no phrase."""
    parts = re.fullmatch(r"([^,]+), ([a-z][^,]*)", term)
    if parts and len(parts[2].split()) <= 2:
        name, detail = parts[1], parts[2].strip()
        return f"{detail} {name}" if detail in _FLIPPED else f"{name} {detail}"
    return f'"{term}"' if "," in term or " - " in term or len(term.split()) > 5 else term


def _attribute(place: Place, term: str, value: Span, text: str) -> Fact:
    owner = place.name if place.own else place.title
    label = _label(term)
    label = re.sub(r"^(?:the|an?) ", "", label)
    if re.match(r"[$€£]\s?\d", text):
        asked = {"d": f"how much is the {label}", "i": f"how much the {label} is"}
        return Fact("value", "ask", label, (value,), text, tuple(asked.items()))
    if normal(owner) == normal(label):
        owner = place.title
    return Fact("value", "attribute", label, (value,), text, (("t", label), ("e", owner)))

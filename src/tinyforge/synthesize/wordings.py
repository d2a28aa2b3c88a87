"""Put a fact into words: many questions that differ in more than their letters' case."""

from __future__ import annotations

import random
import re
from functools import lru_cache

from tinyforge.synthesize import forms
from tinyforge.synthesize.facts import Fact, Place
from tinyforge.synthesize.language import (
    FUNCTION_WORDS,
    bare_definite,
    generic_heading,
    is_plural,
    normal,
    upper_first,
    words,
)
from tinyforge.synthesize.person import first_person

FEWEST = 12
_SLOT = re.compile(r"\{(\w+)\}")
_CODE = re.compile(r"\w_\w|\w\(|['`]\w|\b[A-Z]{2,}_?[A-Z]* (?:is|are)\b")  # a name of a program, not of the world
_ARTICLE = re.compile(r"^(?:an?|the|our|your|their)\s+", re.I)
_HANDBOOK = re.compile(
    r"\b(?:handbook|guide|manual|glossary|policy|dictionary|encyclopedia|textbook|playbook|faq)$", re.I
)
_NAME_INSIDE = re.compile(r"(?<=[a-z,] )[A-Z][\w-]+")


def questions(fact: Fact, place: Place) -> dict[str, str]:
    """Every question that the fact's family can make, the plainest first, each under its :func:`normal` form.

    No two are alike but for case and punctuation.
    """
    slots = _slots(fact, place)
    # Someone who reads "you" in a document asks about themselves: half of the wordings do.
    mine = _as_first_person(slots)
    told = slots, {name: _spaced(value) for name, value in slots.items()}
    asked = (mine, {name: _spaced(value) for name, value in mine.items()}) if mine else told
    found: dict[str, str] = {}
    for in_person, template, key in _usable(_templates(fact, place), frozenset(slots)):
        values, keys = asked if in_person else told
        found.setdefault(key.format_map(keys)[1:], template.format_map(values))
    return found


def plainest(fact: Fact, place: Place) -> str:
    """The first of :func:`questions`, without making the others."""
    slots = _slots(fact, place)
    return next((t.format_map(slots) for _, t, _ in _usable(_templates(fact, place), frozenset(slots))), "")


def _slots(fact: Fact, place: Place) -> dict[str, str]:
    slots = {"doc": document_name(place.title), "n": place.name, "x": fact.subject, **dict(fact.slots)}
    if not place.own and slots["n"] == place.name:
        slots["doc"] = "the text"  # the section's name has the document's in it already
    if place.title in slots["n"] and fact.form not in ("intro", "part"):
        slots["doc"] = "the text"
    slots["b"] = _ARTICLE.sub("", slots["x"]).strip("\"'“”‘’")
    slots.setdefault("is", "are" if is_plural(slots.get("t", slots["b"])) else "is")
    return _with_capitals(slots)


def _with_capitals(slots: dict[str, str]) -> dict[str, str]:
    return slots | {key.upper(): upper_first(value) for key, value in slots.items() if len(key) == 1}


def _as_first_person(slots: dict[str, str]) -> dict[str, str]:
    """The slots with "you" as "I"; empty where there is no "you" or it cannot be told."""
    changed = {key: first_person(slots[key]) for key in "dicg" if key in slots}
    if not changed or not all(changed.values()):
        return {}
    return _with_capitals({**slots, **changed})


@lru_cache(maxsize=512)
def _usable(templates: tuple[str, ...], names: frozenset[str]) -> tuple[tuple[bool, str, str], ...]:
    """The templates that these slots can fill: each with whether it is the first person's turn, and its normal form.

    Where no slot touches a word, filling the normal form with normal slots gives the normal form of the question,
    for a small part of the work.
    """
    return tuple(
        (number % 2 == 1, template, _normal_template(template))
        for number, template in enumerate(templates)
        if names.issuperset(_SLOT.findall(template))
    )


def _normal_template(template: str) -> str:
    pieces = _SLOT.split(template)  # text and slot names in turn
    return "".join(f"{{{piece}}}" if odd % 2 else _spaced(piece) for odd, piece in enumerate(pieces))


def _spaced(text: str) -> str:
    """The normal form with a space in front, or nothing: what can be joined to others."""
    plain = normal(text)
    return f" {plain}" if plain else ""


def _templates(fact: Fact, place: Place) -> tuple[str, ...]:
    if fact.form == "define" and not _known_by_name(fact, place):
        return forms.DEFINE_PLACED
    if fact.form in forms.FAMILIES:
        return forms.FAMILIES[fact.form]
    if fact.form in ("steps", "list"):  # these name their section themselves
        ask, extras = forms.ASK, forms.EXTRAS[fact.form]
        return (ask[0] if speaks_for_itself(fact, place) else forms.ASK_PLACED[0], *extras, *ask[1:])
    if speaks_for_itself(fact, place):
        return (forms.ASK[0], *forms.EXTRAS.get(fact.form, ()), *forms.ASK[1:])
    return (forms.ASK_PLACED[0], *forms.EXTRAS_PLACED.get(fact.form, ()), *forms.ASK_PLACED[1:])


def _known_by_name(fact: Fact, place: Place) -> bool:
    """Whether what is to be defined is a name or a term, and no word that its section uses in its own way."""
    found = words(_ARTICLE.sub("", fact.subject))
    if fact.rule == "glossary":
        return len(found) > 1  # "peak" is the peak of many things
    bare = {word.rstrip("s") for word in found}
    if any(bare == {w.rstrip("s") for w in words(title)} for title in (place.heading, place.title, place.name)):
        return True
    named = any(word[:1].isupper() for word in fact.subject.split()[-len(found) :])
    return named and not (len(found) == 1 and re.match(r"an? ", fact.subject, re.I))  # "a Context" is one of many


def _opening(fact: Fact) -> str:
    """A claim, or a condition behind its "if"."""
    return re.sub(r"^(?:if|when|once|whenever) ", "", fact.slot("c"))


def speaks_for_itself(fact: Fact, place: Place) -> bool:
    """Whether a question says enough to be understood without its section's name."""
    if re.match(r"(?:the|we|our)\b", fact.slot("c") and _opening(fact)):
        return False  # which one, or who, only the section says
    asked = fact.slot("d") or fact.slot("i")
    if bare_definite(asked, words(place.heading)) or _CODE.search(asked):
        return False
    said = {word for word in words(asked) if word not in FUNCTION_WORDS}
    heading = {word for word in words(place.heading) if word not in FUNCTION_WORDS}
    if heading and heading <= said and not place.shared and not generic_heading(place.heading):
        return True
    if not place.own:
        return False  # a section that needs its document's name to be known
    return len(said) >= 5 or (len(said) >= 3 and _NAME_INSIDE.search(asked) is not None)


@lru_cache(maxsize=256)
def document_name(title: str) -> str:
    """How a question refers to a document: "the Employee Handbook", or its title in quotation marks."""
    if (
        _HANDBOOK.search(title)
        and len(words(title)) <= 5
        and not re.match(r"(?:how|why|what|when|who|where)\b", title, re.I)
    ):
        return title if _ARTICLE.match(title) else f"the {title}"
    return title if '"' in title else f'"{title}"'


def choose(found: list[str], count: int, rng: random.Random) -> list[str]:
    """``count`` wordings in random order: the plainest always, the others drawn; fewer where there are not enough."""
    rest = found[1:]
    rng.shuffle(rest)
    if len(found) < count:
        rest += _wrapped(found, count - len(found))
    chosen = found[:1] + rest[: count - 1]
    rng.shuffle(chosen)
    return [_styled(text, rng) for text in chosen]


def _wrapped(found: list[str], count: int) -> list[str]:
    """More wordings where many are asked for: the same questions with a few words around them."""
    around = (
        "Hello! {}",
        "One more thing: {}",
        "Please help. {}",
        "{} Thanks!",
        "Sorry to ask: {}",
        "{} Just curious.",
    )
    return [shape.format(text) for shape in around for text in found][:count]


def _styled(text: str, rng: random.Random) -> str:
    """The text as typed: neatly, in lower case, without its last mark."""
    roll = rng.random()
    if roll < 0.55:
        return text
    if roll < 0.7:
        return text.lower().replace('"', "")
    bare = text[:-1] if text[-1:] in "?." else text
    return bare if roll < 0.8 else bare.lower().replace('"', "")

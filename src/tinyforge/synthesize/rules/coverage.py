"""Coverage forms: what a section says, lists, or states about a subject. Weaker than the precise rules, and said so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice

from tinyforge.synthesize.clauses import split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import leans, lower_first, normal, points_away, vague_subject, words
from tinyforge.synthesize.rules.faq import opening
from tinyforge.synthesize.rules.howto import lines

_ATTEMPTS = 12  # the gates may refuse the first
_ADDRESSEES = frozenset(("you", "we", "i", "they", "he", "she", "it", "everyone", "someone", "anyone", "nobody"))


def find(place: Place, limit: int) -> Iterator[Fact]:
    """The section's opening, its lists, then one statement for each subject that it names once."""
    yield from section(place, limit)
    yield from _lists(place, limit)
    if place.is_apparatus or all(s.text.endswith("?") for s in place.all_sentences):
        yield from _questions(place, limit)
    else:
        yield from _statements(place)


def section(place: Place, limit: int) -> Iterator[Fact]:
    """One or two sentences that stand on their own, from the first places where they do; prose before list items."""
    prose = [paragraph for paragraph in place.paragraphs if paragraph]
    items = [item.sentences for group in place.lists for item in group.items if item.sentences]
    starts = (p[first:] for p in prose + items for first in range(len(p)) if _stands(p[first]))
    form = "intro" if place.is_intro else "about" if place.own or not place.name.startswith('the "') else "part"
    name = lower_first(place.name, place.known) if form == "about" else place.name
    for sentences in islice(starts, _ATTEMPTS):
        taken = opening(sentences, limit, most=2) or sentences[:1]  # a gate says that it is too long
        yield fact("section", form, name, taken, "explain", True, {"n": name})


def _stands(sentence: Sentence) -> bool:
    text = sentence.text
    if leans(text) or text.endswith((":", "?", ",", ";")):
        return False
    return (len(words(text)) >= (4 if text[0].isupper() else 7) and text[-1] in ".!)”\"'’") or (
        len(words(text)) >= 4 and split_clause(text) is not None
    )


def _questions(place: Place, limit: int) -> Iterator[Fact]:
    """What an exercise or a list of open questions asks, where a section holds nothing else."""
    asked = [s for s in place.all_sentences if s.text.endswith("?") and len(s.text) <= limit and len(words(s.text)) > 3]
    if asked:
        slots = {"d": f"what does {place.name} ask first", "i": f"what {place.name} asks first"}
        yield fact("questions", "ask", place.name, asked[:1], "explain", True, slots)


def _lists(place: Place, limit: int) -> Iterator[Fact]:
    """The section's list, where it has only one and that fits."""
    if len(place.lists) != 1:
        return
    found = place.lists[0].items
    items = [list(item.sentences) for item in found if item.level == found[0].level and item.sentences]
    taken = lines(items, limit) if items else None
    if taken:
        asked = {"n": place.name, "d": f"what is listed under {place.name}", "i": f"what is listed under {place.name}"}
        spans = tuple(s.span for s in taken)
        answer = "\n".join(s.text for s in taken)
        yield Fact("list", "list", place.name, spans, answer, tuple(asked.items()), "explain", True)


def _statements(place: Place) -> Iterator[Fact]:
    found: list[tuple[str, Sentence]] = []
    for sentence in place.all_sentences:
        if sentence.text.endswith(("?", ":")) or leans(sentence.text):
            continue
        clause = split_clause(sentence.text, longest=6)
        if clause is not None and clause.subject.lower() not in _ADDRESSEES and len(words(clause.rest)) >= 3:
            found.append((clause.subject, sentence))
    counts = Counter(_bare(subject) for subject, _ in found)
    for subject, sentence in found:
        bare = _bare(subject)
        if counts[bare] == 1 and bare != normal(place.heading) and _names(subject):
            inside = lower_first(subject, place.known)
            yield fact("statement", "about", inside, [sentence], "explain", True, {"n": inside})


def _bare(subject: str) -> str:
    return " ".join(w for w in words(subject) if w not in ("a", "an", "the", "all", "our", "your"))


def _names(subject: str) -> bool:
    """At least two words that name something, known without what was said before."""
    found = _bare(subject).split()
    if re.match(r"(?:the|its|their|his|her)\b", subject, re.I) and not re.search(r"(?<=.)[A-Z]| of ", subject):
        return False
    if len(found) > 1 and subject.split(maxsplit=1)[0].endswith("ing") and subject[0].isupper():
        return False
    if points_away(subject) or vague_subject(subject) or not found:
        return False
    if found[0] in ("some", "many", "most", "few", "every", "each", "any", "no", "several", "one", "two", "three",
                    "both", "more", "much", "other", "another", "only", "even", "not", "everyone",
                    "everything", "anyone", "anything", "someone", "something", "nothing", "nobody"):  # fmt: skip
        return False
    return len(found) >= 2 and len(normal(subject)) >= 8

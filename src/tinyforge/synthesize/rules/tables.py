"""Table cells: a row's name and a column's header ask, the cell answers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.records import Block
from tinyforge.synthesize.clauses import opens_with_verb, split_clause
from tinyforge.synthesize.facts import Fact, Place
from tinyforge.synthesize.language import PREDICATE, lower_first, noun_like, tidy, words
from tinyforge.synthesize.places import cells, first_sentences

_ROLE = re.compile(
    r"\([A-Z]+\d\)$|\b(?:\w+(?:eer|ner|yst|ator|ician|grammer|ager|veloper|tester|ector|ssistant)|lead|manager|intern|rep|"
    r"representative|director|officer|assistant|associate|employee|member)$",
    re.I,
)
_ADJECTIVE = re.compile(r"\w+(?:ical|ful|ous)", re.I)  # "judged on technical" needs its quotation marks
# "Ships to Canada", "Good for", "Available": no noun, though none of its words is a verb for sure.
_NO_NOUN = re.compile(
    rf"[\w-]+ (?:to|with|from|by|on|at|as|into) |.* (?:to|with|from|by|on|at|as|into|of|for|in)$|{PREDICATE}$", re.I
)
_VOWEL = re.compile(r"[aeiouAEIO]|(?:S[A-Z]{2}|[FHLMNRX][A-Z]+)\b")


def find(place: Place, limit: int) -> Iterator[Fact]:
    """One fact for each filled cell under a header, row by row."""
    for cell in cells(place.section):
        span = first_sentences(place.document, cell.span, limit)
        if span is None:
            continue
        answer = tidy(place.document.slice(span))
        if not answer or not _usable(cell):
            continue
        if _ROLE.search(cell.label) and len(words(answer)) >= 4:
            row = lower_first(tidy(cell.row), place.known)
            slots = (("r", f'"{row}"' if _ADJECTIVE.fullmatch(row) else row),)
            yield Fact("table", "role", _a(tidy(cell.label)), (span,), answer, slots, "table")
        else:
            row, column = tidy(cell.row), tidy(cell.label)
            noun = _is_noun(column)
            asked = lower_first(column, place.known) if noun else _quoted(column)
            shown = row if row[0].isdigit() or _is_noun(row) else _quoted(row)
            form = "cell" if noun else "cell_under"
            yield Fact("table", form, row, (span,), answer, (("r", shown), ("t", asked)), "table")


def _usable(cell: Block) -> bool:
    return all(1 <= len(words(name)) <= 10 and len(name) <= 70 for name in (cell.row, cell.label))


def _is_noun(label: str) -> bool:
    """Whether "the {label}" reads as English; a label with quotation marks is left as it is."""
    if '"' in label:
        return True
    clause = split_clause(label.lower()) is not None or opens_with_verb(label)
    return noun_like(label) and not clause and not _NO_NOUN.match(label) and not _ADJECTIVE.fullmatch(label)


def _quoted(label: str) -> str:
    return f'"{label.rstrip("?:. ")}"'


def _a(name: str) -> str:
    return f"{'an' if _VOWEL.match(name) else 'a'} {name}"

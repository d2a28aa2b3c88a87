"""Names of the people in a chat, found in what they write: whole words, in any case, with the separators people use."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

_WORD = re.compile(r"[^\W_]+")
_BETWEEN = re.compile(r"[\s._\-'’]{0,2}")  # what may stand between the words of a name

# Never a name by themselves, whoever goes by them; only with an @ before.
_FUNCTION = frozenset(
    "a about after again all also am an and any are as at back be because been but by can come could day de del der "
    "did do does dr el even first for from get give go good group has have he her here him his how i if in into is it "
    "its just know la le like look make man me mine miss more most mr mrs ms my new no not now of off ok on one only "
    "or other our out over people prof say see she sir so some team than that the their them then there these they "
    "think this time to too two up us use van very von want was way we well what when which who why with work would "
    "yeah year yes you your zu und ich du ist das die der".split()
)
# Words that are names too: only where they are written with a capital.
_ORDINARY = frozenset(
    "abbey ace admin amber angel april archer art ash august autumn bailey baker bear bee bell best beth bill bird "
    "black blue bob bond boss brook brown buck bush butter candy carol carpenter carter cash cat champ chance charity "
    "chase chef chip christian chuck clay cliff cloud coach colt cook cooper coral cosmo crystal daisy dale dan dawn "
    "dean destiny dick dog dolly don dot dragon drew duke dusty earl eve faith fay fern fire fish fisher flora flower "
    "fox francis frank friend gene ghost ginger glen gold grace grant gray green grey guy happy hardy harmony harper "
    "hazel heath heather holly honey hope hunter iris ivy jack jade jasmine jay jean jenny jewel jimmy john joy juan "
    "june junior justice king kit lady lance lane lark laurel leaf lee leo lily linden little long lord love luck "
    "lucky luna mario mark marsh mason master may melody mercy merry miles miller misty mom moon moss mum nan nick "
    "night ninja nova oak ocean olive page pat patience pearl penny piper pop poppy prince princess queen rain rainbow "
    "randy raven ray red reed rex rich river rob robin rocky rod rose rowan ruby rusty sage sam sandy sasha scout sea "
    "shadow shell shepherd silver sky smith snow sonny spencer star stark stella stone storm sue summer sun sunny "
    "taylor terry tiger timber tony tower trip tucker tyler user viola violet wade walker ward watson wave west white "
    "wild will willow winter wolf wood woods wren young zen".split()
)


class Roster:
    """Who is in a chat, by key with every name, ready to be found in texts.

    Of a name of several words, the first and the last count alone too ("Anna" of "Anna Okafor"); a name that an
    ordinary English word spells counts where it has a capital or an @ before it.
    """

    def __init__(self, people: Mapping[str, Sequence[str]] | None = None) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        self._signs: dict[str, str] = {}
        owners: dict[tuple[str, ...], str] = {}
        for whole in (True, False):  # a whole name goes before a part of somebody else's
            for key, names in (people or {}).items():
                for name in names:
                    self._add(owners, key, name, whole)
        for words, key in owners.items():
            self._by_first[words[0]].append((words, key))
        for found in self._by_first.values():
            found.sort(key=lambda one: -len(one[0]))

    def _add(self, owners: dict[tuple[str, ...], str], key: str, name: str, whole: bool) -> None:
        words = tuple(_WORD.findall(name.casefold()))
        if not words:
            self._signs.setdefault(name.strip(), key)
        elif whole:
            owners.setdefault(words, key)
        elif len(words) > 1:
            for word in (words[0], words[-1]):
                if len(word) > 2 and not word.isdigit() and word not in _FUNCTION:
                    owners.setdefault((word,), key)

    def find(self, text: str) -> Iterator[tuple[int, int, str]]:
        """``(start, end, key)`` of every name, from left to right, the longest where several begin."""
        spoken = list(_WORD.finditer(text))
        place = 0
        while place < len(spoken):
            found = self._match(text, spoken, place)
            if found is not None:
                yield spoken[place].start(), spoken[place + found[0] - 1].end(), found[1]
            place += found[0] if found else 1
        for sign, key in self._signs.items():
            yield from ((m.start(), m.end(), key) for m in re.finditer(re.escape(sign), text) if sign)

    def _match(self, text: str, spoken: list[re.Match[str]], place: int) -> tuple[int, str] | None:
        for words, key in self._by_first.get(spoken[place][0].casefold(), ()):
            run = spoken[place : place + len(words)]
            if tuple(m[0].casefold() for m in run) != words:
                continue
            joined = all(_BETWEEN.fullmatch(text, a.end(), b.start()) is not None for a, b in pairwise(run))
            if joined and _meant(text, run, words):
                return len(words), key
        return None


def _meant(text: str, run: list[re.Match[str]], words: tuple[str, ...]) -> bool:
    """Whether these words are the name here, and not the ordinary words."""
    start = run[0].start()
    if start and text[start - 1] == "@":
        return True
    if len(words) > 1 or words[0].isdigit():
        return len(words) > 1 or len(words[0]) > 4
    word = words[0]
    if word in _FUNCTION or len(word) < 2:
        return False
    return text[start].isupper() or (word not in _ORDINARY and len(word) > 2) or not word.isascii()

"""Which words of a text carry its content, in a form in which "cycles" and "cycle" are one."""

from __future__ import annotations

import re

STOP_WORDS = frozenset(
    "a an the of to in on at for and or but nor is are was were be been being am do does did doing done i me my mine "
    "we us our ours you your yours it its they them their theirs he him his she her hers this that these those what "
    "who whom whose when where which how why can could may might should would will shall must with by from as if so "
    "than then have has had having there here about into also any some such other each every much many more most very "
    "just s t re ve ll d m tell please".split()
)
_WORD = re.compile(r"\w+(?:[.,]\d+)*", re.UNICODE)
_CONTRACTIONS = ((r"\bcan(?:'t|not)\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"))


def words(text: str) -> list[str]:
    """Every word and number in lower case, in order; ``3,000`` is ``3000``, and ``can't`` is ``can not``."""
    text = text.casefold().replace("’", "'")
    for pattern, spelled in _CONTRACTIONS:
        text = re.sub(pattern, spelled, text)
    return [match.replace(",", "") for match in _WORD.findall(text)]


def content_words(text: str) -> list[str]:
    """The stems of the words that are not function words. Negations stay: they change what is said."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


def stem(word: str) -> str:
    """A light stem, so that inflected forms compare as equal; numbers and short words stay as they are."""
    if not word.isalpha() or len(word) < 4:
        return word
    for ending in ("ies", "ing", "ed", "es", "s"):
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lsz":  # stopped -> stopp -> stop
        return word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word

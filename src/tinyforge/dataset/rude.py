"""Words that a person may not want a model to say. They are flagged, never removed: a text may well be about them."""

from __future__ import annotations

import re
from collections import Counter

_STEMS = (
    r"fuck\w*|motherfuck\w*|shit(?:ty|head|s)?|bullshit|bitch(?:es|y)?|bastards?|assholes?|arseholes?|dickheads?|"
    r"cunts?|twats?|wank(?:er|ers|ing)?|slut(?:s|ty)?|whor(?:e|es|ing)|dumbass(?:es)?|jackass(?:es)?|retard(?:s|ed)?|"
    r"fag(?:s|got|gots)?|nigg(?:er|ers|a|as)|kikes?|trann(?:y|ies)|scum(?:bag|bags)?|"
    r"moron(?:s|ic)?|imbeciles?|kill yourself|go die|piss(?:ed)? off|scheiße|arschloch|wichser|hurensohn|merde|putain|"
    r"connard|puta|cabr[oó]n|gilipollas|cazzo|stronzo|vaffanculo|kurwa"
)
_RUDE = re.compile(rf"(?<!\w)(?:{_STEMS})(?!\w)", re.I)


def rude_words(text: str) -> Counter[str]:
    """The listed words that stand in ``text``, in lower case, with how often they do."""
    return Counter(found[0].lower() for found in _RUDE.finditer(text))

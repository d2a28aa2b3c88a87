"""Which language a text is in: by its script, and among Latin scripts by the small words that it uses.

Function words are a tenth to a half of any running text (Zipf 1949), so a score of 8% that is well above the second
best decides; anything less certain, or shorter than five words, is ``unknown``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter

from tinyforge.dataset.similar import words

UNKNOWN = "unknown"
_FEWEST_WORDS = 5
_LEAST = 0.08
_AHEAD = 1.2
_READ = 2000  # characters: more change nothing
_SCRIPTS = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CJK": "zh", "ARABIC": "ar", "HEBREW": "he", "DEVANAGARI": "hi",
    "THAI": "th", "GREEK": "el", "BENGALI": "bn", "TAMIL": "ta", "GEORGIAN": "ka", "ARMENIAN": "hy",
}  # fmt: skip
_SMALL_WORDS = {
    "en": "the of and to a in is that it for was on are as with be this by from or have an they which you not we",
    "de": "der die das und in zu den ist nicht von mit dem ein eine auf für sich des im auch als es werden wird oder",
    "fr": "le la les de des et un une est que en dans du pour qui sur pas au ce il elle avec par sont plus ou nous",
    "es": "el la los las de que y en un una por con para se no es del su al lo como más este está son o pero",
    "it": "il la di che e un una in per è del della con non si da le dei alla sono gli al come più anche ma questo",
    "pt": "o a os as de que e do da em um uma para com não por é no na se dos das mais como ao ou são foi",
    "nl": "de het een van en in is dat op te zijn met voor niet die aan er om als ook bij wordt of naar maar dit",
    "sv": "och att det i en som är på för av med den till inte ett om har de så kan men eller från vi jag",
    "da": "og at det i en er på for af med den til ikke et der som har de kan men eller fra vi jeg blev",
    "nb": "og at det i en er på for av med den til ikke et som har de kan men eller fra vi jeg ble også",
    "fi": "ja on ei se että hän oli en ole mutta joka kun niin myös tai ovat sen kuin voi tämä jos mitä",
    "pl": "i w na z do się nie że jest to o jak od przez po dla są za oraz był co lub jego może tym",
    "cs": "a v na se je že to z s do o ve jako pro by ale po jsou za k nebo byl od který také i",
    "ro": "și de în la a cu pe că este o un nu din pentru mai sau care se al sunt prin ca fi lui",
    "tr": "ve bir bu da de için ile çok olarak daha en ne gibi var olan kadar sonra ama değil ya",
    "id": "yang dan di dari untuk dengan ini itu pada adalah dalam tidak ke oleh atau akan sebagai juga karena",
    "vi": "và của là có trong được cho các một không với những người này đã để từ khi đến về như",
    "et": "ja on ei see et oli ta ka kui mis aga või oma ning seda kes ma nii siis",
}
_WORDS = {name: frozenset(listed.split()) for name, listed in _SMALL_WORDS.items()}
_CYRILLIC = {"uk": "іїєґ", "bg": "ъ", "ru": "ыэё"}


def language(text: str) -> str:
    """An ISO 639-1 code, or ``unknown``."""
    text = text[:_READ]
    script = _script(text)
    if script == "CYRILLIC":
        counts = {name: sum(text.lower().count(char) for char in chars) for name, chars in _CYRILLIC.items()}
        return max(counts, key=lambda name: counts[name]) if any(counts.values()) else "ru"
    if script != "LATIN":
        return _SCRIPTS.get(script, UNKNOWN)
    return _latin(words(text))


def _script(text: str) -> str:
    counts = Counter(unicodedata.name(char, "").split(" ")[0].split("-")[0] for char in text if char.isalpha())
    if counts["HIRAGANA"] + counts["KATAKANA"] > 0.1 * counts.total():  # Japanese writes in three scripts at once
        return "HIRAGANA"
    return counts.most_common(1)[0][0] if counts else ""


def _latin(found: list[str]) -> str:
    if len(found) < _FEWEST_WORDS:
        return UNKNOWN
    scores = sorted(((sum(word in small for word in found), name) for name, small in _WORDS.items()), reverse=True)
    (best, name), (second, _) = scores[0], scores[1]
    return name if best >= _LEAST * len(found) and best >= _AHEAD * second else UNKNOWN

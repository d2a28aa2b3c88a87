"""Questions made of a sentence's own words, for learning to find it among others (inverse cloze, Lee et al. 2019).

They are plainer than those of the rules and there is one for nearly every sentence, so that a model which learns to
read sees many more of them for the same passages. They are no part of a person's dataset.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tinyforge.retrieve.words import STOP_WORDS, content_words

SHORTEST, LONGEST = 5, 50  # words of a sentence that is asked for
_WORDS = re.compile(r"[\w'’-]+")
# None is a phrase of the rules: of a table those are answered by a value, these by the whole line.
_PHRASED = (
    "What is said about {}?",
    "Where is {} mentioned?",
    "Which sentence is about {}?",
    "Quote what it says about {}.",
    "Find {}.",
)


def ask_by_words(sentence: str, others: Sequence[str], rng: random.Random) -> str | None:
    """A question that names words of the sentence, one of which at least stands in none of the others.

    Half of the time they are a piece of the sentence, else single words. None when nothing tells the sentence apart,
    or it is too short, too long, or a question itself.
    """
    found = [match.group() for match in _WORDS.finditer(sentence)]
    if not SHORTEST <= len(found) <= LONGEST or sentence.rstrip()[-1] in ":?":
        return None
    elsewhere = {word for other in others for word in content_words(other)}
    telling = [i for i, word in enumerate(found) if _tells(word, elsewhere)]
    if not telling:
        return None
    chosen = rng.choice(telling)
    asked = _piece(sentence, chosen, rng) if rng.random() < 0.5 else _single(found, chosen, telling, rng)
    question = rng.choice(_PHRASED).format(asked)
    return question.lower() if rng.random() < 0.5 else question[0].upper() + question[1:]


def _tells(word: str, elsewhere: set[str]) -> bool:
    stems = content_words(word)
    return len(word) > 3 and bool(stems) and not elsewhere.intersection(stems)


def _piece(sentence: str, chosen: int, rng: random.Random) -> str:
    """Two to five words in a row, the chosen one among them, without function words at either end."""
    matches = list(_WORDS.finditer(sentence))
    first = max(0, chosen - rng.randint(0, 2))
    last = min(len(matches) - 1, max(chosen, first + rng.randint(1, 4)))
    while first < chosen and matches[first].group().lower() in STOP_WORDS:
        first += 1
    while last > chosen and matches[last].group().lower() in STOP_WORDS:
        last -= 1
    return " ".join(sentence[matches[first].start() : matches[last].end()].split())


def _single(found: Sequence[str], chosen: int, telling: Sequence[int], rng: random.Random) -> str:
    """One to three words that tell the sentence apart, in any order."""
    more = [i for i in telling if i != chosen and found[i].lower() != found[chosen].lower()]
    picked = [chosen, *rng.sample(more, min(len(more), rng.randint(0, 2)))]
    rng.shuffle(picked)
    names = [found[i] for i in picked]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

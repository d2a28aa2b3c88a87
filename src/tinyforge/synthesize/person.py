"""Questions to "you" as the person asking would put them. Gives up where the role of a "you" is unclear."""

from __future__ import annotations

import re

from tinyforge.synthesize.language import straight

_YOU_VERB = frozenset(
    "are were have had do did can could may might must should will would shall need want get take use become lose "
    "work know see join start leave feel think make go give live receive reach decide choose prefer like find run "
    "add create install move ask pay contribute resign travel buy purchase encounter notice call set write put "
    "try celebrate spend split share expect forfeit accrue max enroll enrol book plan hear tell meet open close "
    "change send sign log apply upgrade request still also already don't aren't can't won't haven't didn't ever "
    "never only always just currently qualify choose bring build enter specify provide click select pass delete "
    "remove turn keep end hold cancel".split()
)
_BEFORE_OBJECT = frozenset(
    "to for with from by at on about of give gives giving offer offers offered pay pays tell tells let lets help helps "
    "allow allows require requires ask asks send sends notify notifies enable enables make makes want wants expect "
    "expects show shows get gets reimburse between around behind near under than".split()
)


def first_person(text: str) -> str:
    """A question to "you" as the person asking would put it ("can you take" → "can I take").

    Returns "" where it has no "you", or where the role of a "you" is unclear.
    """
    plain = straight(text)
    if not re.search(r"\byou", plain, re.I):
        return ""
    tokens = re.findall(r"\w+(?:'\w+)?|[^\w]+", plain)
    spoken = [i for i, token in enumerate(tokens) if token.strip() and re.match(r"\w", token)]
    result = list(tokens)
    for place, index in enumerate(spoken):
        before = tokens[spoken[place - 1]].lower() if place else ""
        after = tokens[spoken[place + 1]].lower() if place + 1 < len(spoken) else ""
        changed = _person(tokens[index].lower(), before, after)
        if changed is None:
            return ""
        if changed:
            result[index] = changed
        if tokens[index].lower() == "are" and after == "you":
            result[index] = "am"
        elif tokens[index].lower() == "were" and after == "you":
            result[index] = "was"
        elif before == "you" and tokens[index].lower() in ("are", "were"):
            result[index] = "am" if tokens[index].lower() == "are" else "was"
        elif before == "you" and tokens[index].lower() == "aren't":
            result[index] = "am not"
    return "".join(result)


def _person(word: str, before: str, after: str) -> str | None:
    """The first-person form of one word; "" leaves it as it is, None means it cannot be told."""
    fixed = {"you're": "I'm", "you've": "I've", "you'll": "I'll", "you'd": "I'd", "your": "my", "yours": "mine",
             "yourself": "myself"}  # fmt: skip
    if word in fixed:
        return fixed[word]
    if word != "you":
        return ""
    if after in _YOU_VERB or before in ("can", "do", "should", "must", "will", "may", "are", "if", "when", "did",
                                        "would", "could", "once", "unless", "were", "have"):  # fmt: skip
        return "I"
    if before in _BEFORE_OBJECT:
        return "me"
    return None

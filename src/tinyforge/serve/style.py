"""How a person likes to be answered: a few preferences, kept until they are changed or deleted.

They are set by name, or picked up from what the person says, who is told so each time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tinyforge.errors import InputError

BREVITY = {
    "short": "Answer in one or two short sentences.",
    "normal": "",
    "long": "Answer in full, with the details that matter.",
}
LANGUAGES = (
    "Arabic Chinese Czech Danish Dutch English Finnish French German Greek Hebrew Hindi Hungarian Italian Japanese "
    "Korean Norwegian Polish Portuguese Romanian Russian Spanish Swedish Turkish Ukrainian Vietnamese"
).split()
NAMES = ("brevity", "language", "note")
LONGEST_NOTE = 200  # characters

_SAID = r"(?:please |from now on |always )*"
_SHORT = re.compile(
    rf"^{_SAID}(?:be (?:more )?(?:brief|concise|short)|(?:answer|reply|keep it) (?:more )?(?:briefly|shorter|brief)|"
    r"keep it short|shorter(?: answers)?)(?: please| from now on)?[.!]?$",
    re.I,
)
_LONG = re.compile(
    rf"^{_SAID}(?:be more detailed|(?:answer|reply) in (?:more )?detail|longer answers)(?: please| from now on)?[.!]?$",
    re.I,
)
_LANGUAGE = re.compile(
    rf"\b(?:answer|reply|respond|write|speak)(?: to me)? in ({'|'.join(LANGUAGES)})\b(?: please| from now on)?[.!]?$",
    re.I,
)


def checked(name: str, value: str) -> str:
    """The value as it is kept. Raises InputError for a name or a value that means nothing."""
    value = " ".join(value.split())
    if name == "brevity" and value.lower() in BREVITY:
        return value.lower()
    if name == "language" and value.capitalize() in LANGUAGES:
        return value.capitalize()
    if name == "note" and 0 < len(value) <= LONGEST_NOTE:
        return value
    known = {
        "brevity": ", ".join(BREVITY),
        "language": ", ".join(LANGUAGES),
        "note": f"up to {LONGEST_NOTE} characters of your own words",
    }
    if name not in known:
        raise InputError(f"there is no preference {name!r}.", f"There are {', '.join(NAMES)}.")
    raise InputError(f"{name} cannot be {value!r}.", f"It can be: {known[name]}.")


def picked_up(message: str) -> dict[str, str]:
    """The preferences that a message states in so many words."""
    message, found = message.strip(), {}
    if _SHORT.search(message):
        found["brevity"] = "short"
    elif _LONG.search(message):
        found["brevity"] = "long"
    language = _LANGUAGE.search(message)
    if language:
        found["language"] = language[1].capitalize()
    return found


def is_only_a_wish(message: str) -> bool:
    """Whether a message states a preference and asks nothing besides."""
    message = message.strip()
    only_language = _LANGUAGE.match(re.sub(rf"^{_SAID}", "", message, flags=re.I))
    return bool(_SHORT.match(message) or _LONG.match(message) or only_language)


def instructions(preferences: Mapping[str, str]) -> str:
    """What a model is told; "" without preferences."""
    lines = [BREVITY.get(preferences.get("brevity", "normal"), "")]
    if "language" in preferences:
        lines.append(f"Answer in {preferences['language']}.")
    lines.append(preferences.get("note", ""))
    return " ".join(line for line in lines if line)

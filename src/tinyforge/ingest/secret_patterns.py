"""Keys, tokens and passwords: by the form that their issuers gave them, or by the word before them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from math import log2

from tinyforge.ingest.scan import near, places, small

_TOKENS = {  # what a text must hold for it, and the form
    "sk-": r"sk-(?:proj-|ant-|or-|svcacct-)?(?=[\w-]*\d)[\w-]{16,}",  # OpenAI, Anthropic
    "k_": r"[spr]k_(?:live|test)_\w{10,}",  # Stripe
    "gh": r"gh[pousr]_[A-Za-z0-9]{20,}",
    "github_pat_": r"github_pat_\w{20,}",
    "glpat-": r"glpat-[\w-]{16,}",
    "A": r"A[KS]IA[A-Z0-9]{16}",  # Amazon
    "AIza": r"AIza[\w-]{30,}",  # Google
    "ya29.": r"ya29\.[\w-]{20,}",
    "xox": r"xox[abeoprs]-[\w-]{10,}",  # Slack
    "xapp-": r"xapp-[\w-]{10,}",
    "hf_": r"hf_[A-Za-z0-9]{20,}",  # Hugging Face
    "npm_": r"npm_[A-Za-z0-9]{30,}",
    "pypi-AgE": r"pypi-AgE[\w-]{30,}",
    "dop_v1_": r"dop_v1_[0-9a-f]{32,}",  # DigitalOcean
    "SG.": r"SG\.[\w-]{16,}\.[\w-]{16,}",  # SendGrid
    ":AA": r"\d{8,10}:AA[\w-]{32,}",  # Telegram bots
    "eyJ": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*",  # JSON Web Tokens
    "hooks.slack.com": r"hooks\.slack\.com/services/[\w/]{20,}",
    "/api/webhooks/": r"discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}",
    ".": r"[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,}",  # Discord bots
}
# What stands before is looked at afterwards: a look-behind in front would keep re from jumping to the first letters.
_TOKEN = {mark: re.compile(f"{form}(?![A-Za-z0-9])") for mark, form in _TOKENS.items()}
_BORDER = r"(?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
_BLOCK = re.compile(rf"-----BEGIN {_BORDER}.*?(?:-----END {_BORDER}|\Z)", re.S)
_USER_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://([^\s/@:\"'<>]{1,128}:[^\s/@\"'<>]{1,128})@(?=[\w\[])", re.I)
_STEMS = ("pass", "pwd", "pw", "kennwort", "contraseña", "secret", "token", "bearer", "key", "credential")
_AFTER_WORD = re.compile(
    r"(?<![A-Za-z])(?P<word>pass(?:word|wd|phrase|code|wort)?|pwd|pw|kennwort|contraseña|secret|token|bearer|key|"
    r"credential)s?"
    r"(?![A-Za-z])(?P<between>[\"']?[ \t]{0,2}(?:[:=]{1,2}>?|\bis\b:?|\bist\b:?|\bes\b|\bwas\b|[ \t])[ \t]{0,2})[\"'`]?"
    r"(?P<value>[^\s\"'`<>,;]{6,200})",
    re.I,
)
_STRONG = ("pass", "pwd", "pw", "kennwort", "contraseña")


def secrets(text: str) -> Iterator[tuple[int, int]]:
    """Keys and tokens by the form that their issuers gave them, private keys, and what follows a word for a secret."""
    for found in _BLOCK.finditer(text) if "PRIVATE KEY" in text else ():
        yield found.span()
    for mark, pattern in _TOKEN.items():
        for found in pattern.finditer(text) if mark in text else ():
            if not (found.start() and text[found.start() - 1].isalnum()):
                yield found.span()
    for found in _after_words(text):
        value = found["value"].rstrip(".,;:)]}")
        strong = found["word"].lower().startswith(_STRONG)
        if _secret_value(value, strong, found["between"].strip() != ""):
            yield found.start("value"), found.start("value") + len(value)


def _after_words(text: str) -> Iterator[re.Match[str]]:
    """What follows each word for a secret, found by the part that is in every one of its forms."""
    lowered = small(text)
    for place in sorted({place for word in _STEMS for place in places(lowered, word)}):
        found = _AFTER_WORD.match(text, place)
        if found is not None:
            yield found


def _secret_value(value: str, password: bool, assigned: bool) -> bool:
    """Passwords mix letters with digits or signs; keys are long as well, with many different characters."""
    if re.fullmatch(r"[A-Za-z]+|[\d.,:/%-]+", value) or re.search(r"[(\[{}]|^\W*$|://|\.\w+\.", value):
        return False
    mixed = bool(re.search(r"\d", value)) and bool(re.search(r"[A-Za-z]", value))
    signs = bool(re.search(r"[!@#$%^&*?+~]", value))
    if password and assigned:
        return len(value) >= 6 and (mixed or (signs and bool(re.search(r"[a-z]", value))))
    return mixed and len(value) >= 12 and entropy(value) >= 3.0


def entropy(text: str) -> float:
    """Shannon's entropy of the characters, in bits each."""
    return -sum(n / len(text) * log2(n / len(text)) for n in Counter(text).values())


def credentials(text: str) -> Iterator[tuple[int, int]]:
    """``user:password`` in a URL."""
    for found in near(text, ("://",), _USER_IN_URL):
        yield found.span(1)

"""A sentence cut into subject, verb and rest, and turned into a question. Gives up where it cannot be sure.

Only a closed list of verbs is known; a sentence whose verb is not among them yields None, which costs a fact and
never makes a wrong one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from tinyforge.synthesize.language import AUXILIARIES, MODALS, is_plural, points_away, straight, vague_subject

_BASES = """accept achieve acquire add address affect aim allow announce apply appear arise arrive assign assist assume
assess attract avoid become begin belong block bring build buy calculate carry cause charge choose classify collect
combine come compare compete compose comprise compute concern conduct connect consider consist constitute consume
contain contribute convert cover create deal decide declare decrease define deliver depend derive describe detect
determine develop differ disable discuss display distribute divide earn eliminate emphasize employ enable encourage
ensure enter establish evaluate examine exist expand expect explain express extend face facilitate fall follow forbid
force form gather generate get give go govern grow handle happen have help hold identify illustrate implement imply
import include increase indicate influence inform inherit install invest involve keep know lack launch lead learn leave
let lie live look lose maintain make manage match mean measure meet merge monitor move need occur offer operate oppose
organize own pay perform permit play possess prefer prevent produce prohibit promote propose protect prove provide
publish purchase put raise reach receive recognize recommend reduce refer reflect reject release rely remain remove
render replace report represent require reserve resolve respond restrict result retain retrieve return reveal rise run
say seek sell send serve set share show solve specify spend start stay stop store suggest supply support surround
take teach tell tend throw track transform treat turn understand use validate vary want work write yield""".split()

# As likely a plural noun as a verb ("plans", "costs"): a verb only before a word that opens an object.
_NOUNISH = frozenset(
    """address affect aim appear block build charge concern cover deal display divide face fall force form function
    grant import increase influence keep lack launch lead lie live look match measure merge move need offer own pay play
    produce purchase reach release report return rise run sell set share show spend start stay stop store supply support
    track turn use view want work yield monitor match result permit handle estimate plan cost change call approach
    attempt benefit challenge contact control demand design dispute document end escape experience experiment
    exchange""".split()
)
_IRREGULAR_S = {"have": "has", "do": "does", "go": "goes"}
_PAST = {
    "become": "became", "begin": "began", "bring": "brought", "build": "built", "buy": "bought", "choose": "chose",
    "come": "came", "fall": "fell", "forbid": "forbade", "get": "got", "give": "gave", "go": "went", "grow": "grew",
    "have": "had", "hold": "held", "keep": "kept", "know": "knew", "lead": "led", "leave": "left", "lose": "lost",
    "make": "made", "mean": "meant", "meet": "met", "pay": "paid", "rise": "rose", "run": "ran", "say": "said",
    "seek": "sought", "sell": "sold", "send": "sent", "spend": "spent", "take": "took", "teach": "taught",
    "tell": "told", "throw": "threw", "understand": "understood", "win": "won", "write": "wrote",
}  # fmt: skip
_SAME_PAST = frozenset(("let", "put", "set"))


def _with_s(base: str) -> str:
    if base in _IRREGULAR_S:
        return _IRREGULAR_S[base]
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ies"
    return base + ("es" if base.endswith(("ch", "sh", "s", "x", "z")) else "s")


def _with_ed(base: str) -> str:
    if base in _PAST:
        return _PAST[base]
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    if base.endswith("e"):
        return base + "d"
    doubled = {"refer": "referred", "occur": "occurred", "permit": "permitted", "stop": "stopped"}
    return doubled.get(base, base + "ed")


_S_FORMS = {_with_s(base): base for base in _BASES}
_PAST_FORMS = {_with_ed(base): base for base in _BASES if base not in _SAME_PAST}
_BASE_FORMS = frozenset(_BASES)
_VERB_FORMS = _BASE_FORMS.union(_S_FORMS, _PAST_FORMS)

_OPENS_OBJECT = re.compile(
    r"(?:a|an|the|our|your|their|its|all|any|some|each|every|no|only|up|both|many|more|most|several|about|us|you|them|"
    r"that|what|how|when|whether|one|two|three|four|five|six|seven|eight|nine|ten|twelve|itself|\W?\d\S*)$"
)
_NOT_IN_SUBJECT = frozenset(
    "who whom whose which that if when whenever while where because since although though unless until once whether "
    "how what why than then so as but or nor either neither not never there to please via".split()
)
_NEVER_FIRST = frozenset(
    "after before by in on at for from with during under within without despite unlike given according like as between "
    "among throughout through until instead rather below above over across about upon into onto towards toward per "
    "let don't".split()
)
_CONTRACTED = {"'re": "are", "'ll": "will", "'ve": "have"}
_CONTRACTION = re.compile(r"(you|we|they|i)('(?:re|ll|ve))")
_CANNOT = {"cannot": "can", "can't": "can", "don't": "do", "doesn't": "does", "isn't": "is", "aren't": "are",
           "won't": "will", "shouldn't": "should", "mustn't": "must", "wasn't": "was", "weren't": "were",
           "didn't": "did", "hasn't": "has", "haven't": "have", "couldn't": "could", "wouldn't": "would"}  # fmt: skip
PRONOUN_SUBJECTS = frozenset(("you", "we", "they", "i", "he", "she", "it"))


@dataclass(frozen=True, slots=True)
class Clause:
    """``subject verb rest``; ``base`` is the verb's base form where it is no auxiliary."""

    subject: str
    verb: str
    rest: str
    base: str = ""

    @property
    def past(self) -> bool:
        return self.verb in _PAST_FORMS or self.verb in ("was", "were", "did", "had")

    @property
    def plain(self) -> str:
        return f"{self.subject} {self.verb} {self.rest}".rstrip()

    def inverted(self, rest: str | None = None) -> str:
        """The words after a question word: "does the company pay 75%" for "the company pays 75%"."""
        tail = self.rest if rest is None else rest
        if not self.base:
            return f"{self.verb} {self.subject} {tail}".rstrip()
        helper = "did" if self.verb in _PAST_FORMS else "does" if self.verb in _S_FORMS else "do"
        return f"{helper} {self.subject} {self.base} {tail}".rstrip()


@lru_cache(maxsize=4096)
def split_clause(text: str, longest: int = 9) -> Clause | None:
    """The clause that ``text`` opens with, when its subject has at most ``longest`` words and its verb is known."""
    tokens = text.split(None, longest + 2)[: longest + 2]
    for place, token in enumerate(tokens):
        found = _verb(tokens, place, tokens[:place]) if place else None
        if found is not None:
            verb, base, negative = found
            rest = _after(text, place + 1)
            return Clause(" ".join(tokens[:place]), verb, f"not {rest}".strip() if negative else rest, base)
        plain = straight(token).lower()
        contracted = None if place else _CONTRACTION.fullmatch(plain)
        if contracted:
            return Clause(token[: -len(contracted[2])], _CONTRACTED[contracted[2]], _after(text, 1))
        if plain in _NOT_IN_SUBJECT or plain[-1] in ",;:.?!" or place >= longest:
            return None
        if plain.split("'")[0] in PRONOUN_SUBJECTS if place else plain in _NEVER_FIRST:
            return None
    return None


def _after(text: str, count: int) -> str:
    """The text behind its first ``count`` words."""
    return "".join(text.split(None, count)[count:]).strip()


def _verb(tokens: list[str], place: int, subject: list[str]) -> tuple[str, str, bool] | None:
    """``(verb, base form or "", negative)`` when the token is surely the verb of this subject."""
    word = straight(tokens[place])
    if word in _CANNOT:
        return _CANNOT[word], "", True
    if word in AUXILIARIES:
        following = tokens[place + 1] if place + 1 < len(tokens) else ""
        if word in ("has", "have", "had") and (_OPENS_OBJECT.match(following) or following in ("to", "access")):
            return word, "have", False
        return word, "", False
    if word not in _VERB_FORMS:
        return None
    following = straight(tokens[place + 1]).lower() if place + 1 < len(tokens) else ""
    opens = _OPENS_OBJECT.match(following) is not None
    if word in _S_FORMS and not _many(subject):
        base = _S_FORMS[word]
        return (word, base, False) if opens or (base not in _NOUNISH and following) else None
    if word in _BASE_FORMS and subject and _takes_base(subject):
        return (word, word, False) if opens or subject[-1].lower() in ("we", "you", "they") else None
    if word in _PAST_FORMS and opens and following not in ("by", "in"):
        return word, _PAST_FORMS[word], False
    return None


def opens_with_verb(label: str) -> bool:
    """Whether a short label is a verb and what belongs to it ("Requires a card", "Takes"), or may be."""
    first, *following = label.lower().split()
    base = _S_FORMS.get(first)
    if base is None:
        return False
    return following[0] not in ("of", "for", "per", "in") if following else base not in _NOUNISH


def _many(subject: list[str]) -> bool:
    return bool(subject) and straight(subject[-1]).lower() in ("we", "you", "they", "i")


def _takes_base(subject: list[str]) -> bool:
    """Whether the subject takes a verb without -s: we, you, they, or a plural noun."""
    if len(subject) == 1 and subject[0].lower() in ("we", "you", "they", "i"):
        return True
    return subject[-1][-1:].isalpha() and is_plural(" ".join(subject))


_BASE_AFTER_MODAL = re.compile(r"(?:(?:only|also|not|always|never|still)\s+)?([a-z]+)\s+(.*)", re.S)


def modal_object(clause: Clause) -> tuple[str, str] | None:
    """``("take", "ten days of ...")`` for "You can take ten days of ..."; None without a modal verb."""
    if clause.verb not in MODALS:
        return None
    match = _BASE_AFTER_MODAL.match(clause.rest)
    if match is None or re.match(r"(?:not|never)\b", clause.rest) or match[1] in ("be", "have", "not", "only", "also"):
        return None
    return match[1], match[2]


_KNOWN_NOUNS = (
    "company organization organisation policy plan program employer employee agency school university service team "
    "warranty contract"
)
_KNOWN_SUBJECTS = frozenset(("you", "we", "employees", *(f"the {noun}" for noun in _KNOWN_NOUNS.split())))


def named(subject: str) -> bool:
    """Whether a subject is understood by itself: you, we, a named thing. "the bank" alone is the bank of an example."""
    plain = subject.lower()
    if plain in _KNOWN_SUBJECTS:
        return True
    if plain.isdigit() or re.match(r"(?:we|you|they|i|currently|today) \w", plain):
        return False
    if re.match(r"(?:the|an?) [a-z-]+$", subject) or re.search(r"\b(?:still|now|then|also|already|just)\b", plain):
        return False
    return not (points_away(subject) or vague_subject(subject))

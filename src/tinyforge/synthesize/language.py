"""The little English that the rules need: word lists and a few safe transformations. No model, no state.

Every function here would rather give up (return "" or None) than guess: a wrong question costs more than a missing one.
The rules and gates ask the same of the same sentence many times over: what takes long is kept for the last few
thousand texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")
_TO_SPACES = {number: " " for number in range(128) if not chr(number).isalnum()}  # what _WORD leaves out of ASCII
_LOWER_WORD = re.compile(r"(?<![\w.'’/@-])[a-z][a-z]+(?:-[a-z]+)*(?![/.@-]\w)")
_NAME_INSIDE = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+")
_NEXT_CAPITAL = re.compile(r"[\s-]+(?:(?:of|and|&|the|for|a|in|on|to|-) )*[A-Z][a-z]")
_JOINED = re.compile(r"\b(?:and|&)\b")
_AFTER_HEAD = re.compile(r"\s(?:of|for|in|on|with|to|from|at|by|about)\s|\s?\(")
_CAPITALISED = re.compile(r"[A-Z][a-z]*(?:[-'’][a-z]+)*(?![\w])")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"'})

PRONOUNS = frozenset("it they them he she him his her hers its their theirs itself themselves himself herself".split())
POINTING = frozenset(
    "this that these those such another other others former latter same following above below both neither either "
    "here there one ones".split()
)
_AWAY = frozenset("this these those following above below former latter aforementioned here such".split())
# A sentence that opens with one of these leans on the sentence before it.
LEANING = (PRONOUNS - {"his", "her"}) | frozenset(
    "this that these those his her such however but and or nor yet so thus hence therefore also instead otherwise "
    "additionally furthermore moreover likewise similarly consequently meanwhile nevertheless nonetheless then here "
    "there both neither either another others again still conversely accordingly indeed rather".split()
)
# A document that speaks of itself is understood.
_ITSELF = re.compile(
    r"(?:in |with |throughout )?this (?:handbook|guide|document|manual|policy|tutorial|book|pep|rfc|eip|"
    r"proposal|report|glossary|specification|playbook|course|section)\b|"
    r"(?:both|neither|either) [\w -]{2,28} (?:and|n?or) "
)
_SECOND_LEANS = re.compile(
    r"[a-z]+,? (?:it|they|these|this|those|he|she)(?:'[a-z]+)?\b(?! (?:comes|is (?:important|easy|hard|possible)))"
)
_FIRST_LETTERS = re.compile(r"[a-z]+")
_EXISTS = re.compile(r"there(?:'s| is| are| was| were| will| has| have| may| can| must)\b")
LEANING_PHRASES = tuple(
    """for example|for instance|for this reason|for that reason|in addition|in other words|in contrast|
    in this|in that|in these|in those|in such|in fact|in turn|in both|in short|in particular|
    as a result|as such|as shown|as you|as we saw|as mentioned|as noted|as above|at this point|at that|
    because of this|because of that|by contrast|by doing so|by this|due to this|even so|even then|
    even though this|except for|given this|given that|given these|if so|if not|if this|if that|if it|
    if they|like this|more generally|of these|of course|of those|on the other hand|on the contrary|
    on this|once this|once that|once it|once they|other than that|some of these|some of them|
    all of these|all of this|all of them|each of these|most of these|many of these|one of these|
    none of these|that is|the above|the below|the first|the following|the former|the latter|the last|
    the next|the other|the others|the previous|the same|the second|the third|the result|to do so|
    to do this|to that end|to this end|under this|unlike this|when it|when they|when this|when that|
    while it|while this|while they|with this|with that|with these|without this|after this|after that|
    before this|since it|since this|since they|because it|because this|because they|although it|
    although this|again,|besides,|besides this|besides that|first,|second,|third,|finally,|next,|
    lastly,|similarly,|let's|let us|notice|recall|consider|suppose|imagine|note that|see |yes|no,|
    or,""".replace("\n    ", "").split("|")
)
_LEANS = re.compile(
    r"(?:" + "|".join(re.escape(p) if p[-1] in ", '" else re.escape(p) + r"\b" for p in LEANING_PHRASES) + r")"
)
_LEANS_FIRST = frozenset(re.split(r"[^a-z]", phrase)[0] for phrase in LEANING_PHRASES)

_GENERIC = frozenset(
    """about abstract acknowledgements acknowledgments alternatives appendix backend background basics caveats
    changelog changes comparison conclusion conclusions configuration contents context copyright definition
    definitions demo description design detail details discussion documentation drawbacks example examples
    exercises explanation faq features footnotes further general glossary goals guide history home impact
    implementation important index info information install installation introduction intro issues license licence
    limitations links list main menu misc miscellaneous more motivation next no note notes ok okay open options
    other others outline overview parameters plan policy preface prerequisites problem proposal purpose quickstart
    rationale readme recap reference references related requirements resources result results scope security
    semantics setup solution specification status steps summary support syntax terms terminology test tests tips
    title todo troubleshooting tutorial untitled usage version warning welcome what why yes section sections
    chapter part page document tldr types""".split()
)
_GENERIC_PHRASES = frozenset(
    "before you begin|further reading|get started|getting started|how it works|how to|how to use|in general|"
    "key concepts|key points|learn more|main menu|more information|additional information|additional notes|next steps|"
    "not ok|open issues|quick start|rejected ideas|related work|return values|see also|start here|table of contents|"
    "the basics|unresolved questions|use cases|what is it|what it is|wrap up|what s next|key takeaways|"
    "problem it addresses|how it helps|backwards compatibility|backward compatibility|reference implementation|"
    "security implications|how to teach this|key concepts and summary|key terms|chapter summary".split("|")
)

_VAGUE_HEADS = frozenset(
    """answer approach article aspect author bit case cases challenge chapter concept concern consequence country
    company difference document drawback effect example examples fact factor feature function goal idea
    implication information issue key kind list lot main matter method model most name need note notes number
    object one ones option order others paper paragraph part people person place plan point points problem process
    program project proposal purpose question reason reasons result results right rule section sentence set side
    situation solution something sort step steps system table task team text thing things time topic total type
    types use user value version way ways what work world year years figure figures page chart graph graphs
    diagram default output input variable parameter argument method methods class element item items feature
    features choice option options outcome government firm firms change changes alternative alternatives answer
    answers line lines column row rows""".split()
)

_TO_BE = ("is", "are", "was", "were")
MODALS = ("can", "could", "may", "might", "must", "should", "will", "would", "shall")
AUXILIARIES = frozenset((*_TO_BE, *MODALS, "has", "have", "had", "does", "do", "did", "am", "cannot"))

FUNCTION_WORDS = frozenset(
    """a about after all an and any are as at be been before being but by can could did do does for from had has have
    happens he her his how i if in into is it its many may might more most much must my no not of on once or our
    per percentage shall she should so some such than that the their them then there these they this those to
    unless until up was we were what when where which while who whom whose why will with would you your s t re ll
    ve d m often long company everyone someone employee employees people""".split()
)
# What a thing is, behind "is" or "are", without being a thing: a pattern for one word.
PREDICATE = (
    r"(?:\w+ed|born|held|built|written|made|set|sold|paid|sent|begun|found|given|taken|known|kept|chosen|won|lost|put|cut|"
    r"run|due|open|closed|available|eligible|entitled)"
)
_SMALL = frozenset(
    "a an the our your their my its all any some each every no in on at of to for with from by and or if when while "
    "as most many few several both because since although after before during under over between without within "
    "we you they i he she it this that these those there what how why who which not".split()
)


def tidy(text: str) -> str:
    """The text on one line, single-spaced."""
    return " ".join(text.split())


def normal(text: str) -> str:
    """What two wordings have in common when only case and punctuation differ."""
    return " ".join(words(text))


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[str, ...]:
    lower = text.lower()
    return tuple(lower.translate(_TO_SPACES).split() if lower.isascii() else _WORD.findall(lower))


def holds(text: str, signs: Iterable[str]) -> bool:
    """Whether one of the signs stands in the text: a quick look before a slow pattern that cannot match without."""
    for sign in signs:  # noqa: SIM110 - any() with a generator takes three times as long
        if sign in text:
            return True
    return False


def straight(text: str) -> str:
    """Curly quotes and apostrophes as typed on a keyboard; the length stays the same."""
    return text if text.isascii() else text.translate(_APOSTROPHES)


def leans(text: str) -> bool:
    """Whether a sentence opens by pointing at something said before it."""
    return _leans(text[:40])


@lru_cache(maxsize=4096)
def _leans(opening: str) -> bool:
    lower = straight(opening).lower().lstrip("\"'(*_ ")
    first = _FIRST_LETTERS.match(lower)
    if first is None or _EXISTS.match(lower) or _ITSELF.match(lower):
        return False
    if _SECOND_LEANS.match(lower):
        return True
    if first.group() in LEANING:
        return True
    return first.group() in _LEANS_FIRST and _LEANS.match(lower) is not None


def points_away(text: str) -> bool:
    """Whether a phrase holds a word whose meaning lies outside it (this, those, the following, above...).

    A pronoun within the first three words has nothing before it to stand for.
    """
    found = words(text)
    return not found or not _AWAY.isdisjoint(found) or not PRONOUNS.isdisjoint(found[:3])


_BARE_DEFINITE = re.compile(
    r"\b[Tt]he ([a-z]{3,})(?= (?:is|are|was|were|has|have|had|will|would|can|could|may|might|must|should|does|do|did|"
    r"and|or|but|to|by|at|from|with|as|if|when|because|than|then|it|they|he|she|a|an|the|not|also|only)\b|[.,;:)?!]|$)"
)
# Of these there is one.
_ONE_OF = frozenset(
    """world government economy macroeconomy federal market public future past present law user users text rest
    reader other others same following first last latter former end beginning internet web country nation
    company employer employee year""".split()
)


def one_of(phrase: str) -> bool:
    """Whether there is one of it ("the economy"), or the phrase holds a name ("the Dental plan")."""
    return words(phrase)[-1] in _ONE_OF or re.search(r"(?<=.)[A-Z]", phrase) is not None


def bare_definite(text: str, known: Iterable[str]) -> str:
    """The noun of a "the equation" that neither ``known`` nor the text before it has told of, or ""."""
    told = {word.rstrip("s") for word in known}
    for match in _BARE_DEFINITE.finditer(text):
        noun = match[1].rstrip("s")
        before = {word.rstrip("s") for word in words(text[: match.start()])}
        if match[1] not in _ONE_OF and noun not in told and noun not in before:
            return match[1]
    return ""


@lru_cache(maxsize=1024)
def generic_heading(heading: str) -> bool:
    """Whether a heading says nothing without its document's name."""
    plain = re.sub(r"^(?:the|an?|our|my|your|its|this) (?=\w)", "", normal(heading))
    return not plain or plain in _GENERIC or plain in _GENERIC_PHRASES or plain.isdigit() or len(plain) < 2


@lru_cache(maxsize=1024)
def vague_subject(subject: str) -> bool:
    """Whether a subject names nothing in particular ("the result", "one way", "a common mistake")."""
    found = [w for w in words(subject) if w not in ("a", "an", "the", "our", "your", "their", "my", "its")]
    if not found or found[0] in PRONOUNS or found[0] in POINTING:
        return True
    head = words(subject.split(" of ", maxsplit=1)[0].split(" for ", maxsplit=1)[0].split(" in ", maxsplit=1)[0])
    last = head[-1] if head else found[-1]
    return last in _VAGUE_HEADS and (len(found) < 3 or " of " not in subject)


_COMMANDS = frozenset(
    """add allow avoid bring build call change choose clarify copy create define delete deprecate disable do don't drop
    enable enforce ensure expose extend find fix follow force forbid get give go handle have hide ignore implement
    import improve include inherit introduce join keep leave load look make mark merge move name open pass prevent
    propose provide put raise read reduce refer reject relax remove rename replace require restrict return reuse run set
    show
    simplify skip split start stop store support switch take treat try turn use wait write""".split()
)
_OPENS_COMMAND = frozenset(
    """a an the to all any some each every no not only more new existing another your our its their it them this that
    these those with from for by in on as into using multiple single separate""".split()
)


def noun_like(heading: str) -> bool:
    """Whether "about {heading}" reads as English; adverbs, clauses and lone adjectives do not."""
    found = words(heading)
    if not found or heading.endswith(("?", "!", ".", ":")) or len(found) > 9:
        return False
    first = found[0]
    if len(found) > 1 and first in _COMMANDS and found[1] in _OPENS_COMMAND:
        return False
    if first in ("in", "on", "at", "with", "without", "from", "to", "for", "by", "if", "when", "while", "how", "what",
                 "why", "who", "where", "which", "not", "no", "it", "this", "that", "these", "there", "is", "are",
                 "can", "do", "does", "don", "let", "before", "after", "as", "be", "you", "we", "they",
                 "step", "part", "chapter", "section", "and", "or", "should", "must"):  # fmt: skip
        return False
    if len(found) == 1:
        return not first.endswith(("ly", "ed")) and not first.isdigit()
    return not any(word in AUXILIARIES or word in ("you", "we", "it", "they") for word in found)


@lru_cache(maxsize=1024)
def is_plural(phrase: str) -> bool:
    """Whether a noun phrase takes "are"."""
    if _JOINED.search(phrase) or " & " in phrase:
        return True
    head = _AFTER_HEAD.split(phrase, maxsplit=1)[0]
    found = words(head)
    if not found:
        return False
    last = found[-1]
    if last in ("people", "children", "men", "women", "data", "criteria", "phenomena", "media", "staff", "police"):
        return True
    return len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is", "ics", "ness", "news", "ous"))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that a document writes in lower case, and those it writes with a capital inside a sentence."""

    lower: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Vocabulary:
        return cls(frozenset(_LOWER_WORD.findall(text)), frozenset(_NAME_INSIDE.findall(text)))

    def ordinary(self, word: str) -> bool:
        """Whether the document knows a word (given in lower case) as one that is no name."""
        single = word[:-1] if word.endswith("s") else word + "s"
        if word in self.lower or (len(word) > 3 and single in self.lower):
            return True
        return "-" in word and all(part in self.lower for part in word.split("-"))


def lower_first(text: str, known: Vocabulary) -> str:
    """The text as it reads inside a sentence: its first word in lower case unless that word is a name.

    A phrase with further capitals ("Family Leave Insurance") keeps them all, or, when every one of its words is
    ordinary, loses them all.
    """
    match = _CAPITALISED.match(text)
    if match is None:
        return text
    base = straight(match.group()).lower().split("'")[0]
    if base == "i":
        return text
    following = text[match.end() :]
    if base in _SMALL or (known.ordinary(base) and not _NEXT_CAPITAL.match(following)):
        return text[0].lower() + text[1:]
    if _NEXT_CAPITAL.match(following):
        return text.lower() if _all_ordinary(text, known) else text
    # The first word of a sentence, never seen inside one: a name stands alone more often than it goes before a noun.
    common = re.match(r" [a-z]", following) is not None and match.group() not in known.names
    return text[0].lower() + text[1:] if common else text


def sentence_case(heading: str, known: Vocabulary) -> str:
    """A heading in Title Case as a sentence would have it, but for its first letter: ordinary words lose capitals."""
    kept = [w.lower() if _plain_capital(w, known) else w for w in heading.split(" ")]
    return " ".join([heading.split(" ", maxsplit=1)[0], *kept[1:]])


def _plain_capital(word: str, known: Vocabulary) -> bool:
    bare = straight(word).strip("\"'(),.?!:;").lower().split("'")[0]
    if not re.match(r"[\"'(“]?[A-Z][a-z]*(?:[-'’][A-Za-z]+)*\W*$", word) or bare == "i":
        return False
    return bare in _SMALL or bare in FUNCTION_WORDS or known.ordinary(bare)


def _all_ordinary(phrase: str, known: Vocabulary) -> bool:
    found = re.findall(r"[\w-]+", phrase)
    return len(found) <= 6 and all(w.islower() or (w[1:].islower() and known.ordinary(w.lower())) for w in found)


def upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]

""" "X is a ...", "X means ...", "X is called Y": sentences that say what something is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import (
    AUXILIARIES,
    holds,
    is_plural,
    leans,
    lower_first,
    normal,
    points_away,
    straight,
    vague_subject,
    words,
)

_COPULA = re.compile(
    r"(?P<x>[^,;:]{2,70}?) (?P<verb>is|are|was|were) (?P<what>(?:an?|the|our|one of (?:the|our)|any|those|things)\b.*)",
    re.S,
)
_NO_PREPOSITION = r"(?:(?!(?:from|to|in|of|for|with|by|on|at|not|welcome) )[a-z-]+ )"
_PLURAL = re.compile(
    r"(?P<x>[^,;:]{2,70}?) (?P<verb>are) "
    rf"(?P<what>(?!\w+ed ){_NO_PREPOSITION}{{0,3}}[a-z-]+s (?:that|which|who|where|whose|used|of) .*)",
    re.S,
)
_MEANS = re.compile(
    r"(?P<x>(?!The \w+ means\b)[^,;:]{2,60}?) (?P<verb>means|refers to|is defined as|are defined as) "
    r"(?P<what>(?!of |to |[\"“])\S+ .*)",
    re.S,
)
_CALLED = re.compile(
    r"\b(?:is|are) (?:(?:also|often|sometimes|usually|generally|commonly|typically) )?"
    r"(?:called|known as|referred to as|termed) (?P<y>[^,;:.()—–]{2,60}(?: \([^)]{2,20}\))?)"
)
# What follows where a function is called, and not a thing: "is called with config", "are called using ...".
_NOT_CALLED = re.compile(
    r"(?:to|with|by|on|in|at|for|from|when|if|after|before|as|without|during|once|only|first|again|automatically|via|"
    r"through|directly|twice|whenever|like|into|upon|per|until|while|\w+ly|\w+ing)(?: |$)|.*(?:[_{}=<>]|\w\()",
    re.I | re.S,
)
_QUOTE = re.compile(r"(?<!\w)['\"“”‘’]|['\"“”‘’](?!\w)")
_OF_A_PROGRAM = re.compile(
    r"\b(?:function|method|class|attribute|variable|argument|parameter|module|callback|hook) $", re.I
)
_WE_CALL = re.compile(r"\b[Ww]e call (?:this|it|that|them|these|those) (?P<y>[^,;:.—–]{2,60})")
_TITLED = re.compile(r"[A-Z][\w-]*(?: (?:(?:on|of|in|for|the|and) )*[A-Z][\w-]*)+(?: \([A-Z]+\))?")
_STOPS = re.compile(
    r"\s(?:and|but|because|if|when|while|since|as|which|that|who|where|in|or|by|for|to|with|on|at|after|so|unless|"
    r"rather|here|today|instead)\s",
    re.I,
)

# What is said of something, and not what it is.
_OPINION = re.compile(
    r"(?:an?|the|our|one of (?:the|our)|any)\s+(?:(?:very|really|much|more|most|pretty|rather|quite|also|particularly|"
    r"extremely|fairly|bit|little|truly|perfectly|potentially|relatively)\s+)*"
    r"(?:good|great|bad|big|huge|major|key|important|critical|crucial|common|popular|useful|powerful|better|best|worse|"
    r"worst|different|difficult|hard|easy|nice|significant|serious|real|true|possible|clear|obvious|only|first|second|"
    r"third|last|next|same|case|challenge|problem|mistake|question|fact|must|concern|matter|reminder|step|start|result|"
    r"consequence|reason|cause|sign|example|exception|choice|decision|thing|lot|bit|few|number|majority|part|kind of|"
    r"shame|pity|chance|possibility|risk|need|rule|goal|aim|answer|opposite|way to|way of|point of|idea|job|"
    r"responsibility|default|norm|essential|long|short|large|larger|largest|small|smaller|smallest|high|higher|highest|"
    r"low|lower|lowest|new|old|similar|necessary|interesting|surprising|perfect|ideal|excellent|terrible|"
    r"correct|wrong|right|valid|maximum|minimum|total|amount|percentage|ones?|primary|main|principal|leading|"
    r"positive|negative|desirable|option|little|starting|reasonable|sole|mature|nightmare|final|category|improvement|useless|consistent|close|direct|widely|commonly|natural|simple|typical|classic|famous|strong|weak|tough|free|full|complete|far|long-standing|growing|fine|\d\S*)\b",
    re.I,
)


# "a relatively cheap solution to": what it does for someone, and not what it is.
_WEAK_HEAD = re.compile(
    r"(?:an?|the|our)\s+(?:[\w-]+\s+){0,3}?(?:solution|response|substitute|complement|way|tool ?kit|breed|threat|"
    r"benefit|advantage|disadvantage|drawback|requirement|success|failure|fan|priority|trend|topic|theme|symbol|"
    r"strength|weakness|target|luxury|necessity|sub-class|subclass|concept|notion|subtype|supertype|alternative|project|compromise|focus|part|idea|approach|place|time|ingredient|sign|issue|role|effect|"
    r"impact|level|metaphor|analogy|subject|term|product|commodity|form|deck|category|footnote|examples?|prerequisite|counterpart)\b",
    re.I,
)
# What tells a thing from others of its kind: "a platform, available on Windows" does not, "a marker that ..." does.
_DIFFERS = re.compile(
    r"\b(?:that|which|who|whose|where|used|for|with|between|containing|consisting|designed|intended|based|built|made|"
    r"derived|owned|imposed|paid|produced|given|to (?!the|a|an|this|that)[a-z]+|process|act|practice|using|allowing|"
    r"enabling|providing|describing|indicating|holding|representing|(?:for|of|by) [a-z]+ing)\b|"
    r"^(?:the|our) .*\b(?:of|to|by|system)\b|^those "
)
_VERY = re.compile(
    r"(?:an? (?:relatively|fairly|rather)|very|quite|so|more|most|less|often|just|simply|merely|mostly|usually|"
    r"always|never|all|\w+ly)\b"
)
_FEWEST_WORDS = 5  # behind "is": "a global product" says little of what a thing is
_FEWEST_BEFORE = 6  # in the sentence that a "We call this ..." takes along
_EXAMPLES = re.compile(r" (?:is|are) [^.]{0,30}\bexamples? of\b")
_UNCLEAR = re.compile(
    r"\b(?:these|this|such|here|following|above|below|the same|and so|that (?:question|problem|issue|kind))\b|"
    r"\bthose (?!who|that|which)|\b(?:at|of|in|for|to|by|on|with|from) that\b",
    re.I,
)
_NOT_A_NAME = re.compile(
    r"^\d|^(?:included|using|used|based|given|shown|related)\b| [–—-] |"
    r"^the (?:term|word|words|phrase|concept|idea|notion|expression)\b|\bexamples?\b|"
    r"['’]s |^['‘]|"
    r"^(?:the )?(?:\w+ ){0,3}(?:definition|category|meaning|nature|purpose|goal|aim|point|rationale|motivation|effect|"
    r"impact|consequence|outcome|size|use|name|names|role|presence|absence|lack|existence|introduction|addition|removal|"
    r"implementation|behaviou?r|semantics|syntax|type|types|value|values|result|results|rest|cost|costs|benefit|"
    r"advantage|disadvantage|difficulty|complexity|version|number|amount|end|beginning|choice|problem) of\b|"
    r"^(?:an? (?:number|lot|variety|series|couple|range|set|group)|some|many|several|all|every|each|any|certain|both|"
    r"one of|examples?|(?:reference|figure|table|step|example|case|option|note|part|phase) \S+$)\b|"
    r"\b(?:is|are|was|were|it|that|which|who|whether|what|how|when|if|there|because|to|not|also|you|we|they|i|and|"
    r"sometimes|often|usually|typically|generally|now|then|thus|always|never|only|first|second|third|best|main|final|"
    r"last|next|most|biggest|largest|higher|lower|larger|smaller|greater|more|less|fewer|increase|decrease|typical|"
    r"primary|common|current|both|new|existing|proposed|previous|original|resulting|herein|however|therefore|like|such|as|by|our|your|their|while|"
    r"\w+ly)\b",
    re.I,
)


def find(place: Place, limit: int) -> Iterator[Fact]:
    """Definitions in the section's sentences; a "this is called" takes the sentence before it along."""
    before: Sentence | None = None
    for paragraph in place.paragraphs:
        before = None
        for sentence in paragraph:
            yield from _in_sentence(place, sentence)
            yield from _called(place, sentence, before)
            before = sentence
    for group in place.lists:
        for item in group.items:
            for sentence in item.sentences[:1]:
                yield from _in_sentence(place, sentence)
    yield from _fragment(place)


_SAYS_WHAT = (" is ", " are ", " was ", " were ", " means ", " refers to ")  # every one of the patterns has one


def _in_sentence(place: Place, sentence: Sentence) -> Iterator[Fact]:
    text = sentence.text
    if leans(text) or text.endswith(("?", ":")) or text[:1].islower():  # "init is an optional parameter": of what?
        return
    if not holds(text, _SAYS_WHAT):
        return
    match = _MEANS.match(text)
    if match is not None and re.match(
        r"(?:that )?(?:what|you|we|it|they|there|he|she|one|more|less|fewer|higher|lower)\b", match["what"]
    ):
        return
    if match is not None and match["what"].startswith("that ") and not _bare_term(place, match["x"]):
        return
    if match is None:
        match = _COPULA.match(text) or _PLURAL.match(text)
        if match is None or match["verb"] in ("was", "were") or _VERY.match(match["what"]):
            return
        if len(words(match["what"])) < _FEWEST_WORDS or re.search(r" (?:than|if) ", match["what"]):
            return
        if not _DIFFERS.search(match["what"]) or not _agrees(place, match):
            return
        if _OPINION.match(match["what"]) or _WEAK_HEAD.match(match["what"]) or _EXAMPLES.search(text):
            return
        if not _naming(place, match):
            return
    if _UNCLEAR.search(straight(match["what"])) or not _subject_is(match["x"], match["verb"], text):
        return
    subject = lower_first(match["x"], place.known)
    verb = "are" if match["verb"].startswith(("are", "were", "refer ")) else "is"
    yield fact("definition", "define", subject, [sentence], slots={"is": verb})


def _agrees(place: Place, match: re.Match[str]) -> bool:
    """A kind is told of one thing as of many ("frame pointers are a property" is said of them, and not what they are);
    of a name only with "a" or "our", or where its section is about it: "Ann Lee is the chair" is no definition."""
    subject, what = match["x"], match["what"]
    if f"class {subject}" in place.document.slice(place.section.span):
        return False  # an example's class
    if match["verb"] == "are":
        return re.match(r"an? ", what) is None
    name = lower_first(subject, place.known)[:1].isupper() and not subject.startswith(("The ", "A ", "An "))
    return not (
        name and what.startswith("the ") and normal(subject) not in (normal(place.heading), normal(place.title))
    )


def _bare_term(place: Place, subject: str) -> bool:
    """A hyphenated word, or what the section is about; "The delay means that ..." only infers something."""
    return re.fullmatch(r"\w+-\w+", subject) is not None or normal(subject) == normal(place.heading)


def _subject_is(subject: str, verb: str, text: str) -> bool:
    """A noun phrase that names something: no clause in it, at most seven words, nothing vague."""
    stems = [word.rstrip("s") for word in words(subject)]
    if len(set(stems)) < len(stems):  # "Owner Owners": a list's term, and then the sentence
        return False
    if len(words(subject)) > 7 or points_away(subject) or vague_subject(subject):
        return False
    if _NOT_A_NAME.search(subject):
        return False
    if re.search(r"[\"“”]", subject) and not re.fullmatch(r"(?:an? |the )?[\"“][^\"“”]+[\"”]", subject, re.I):
        return False
    if re.match(r"\w+ing \w+", subject) and len(words(subject)) > 3:  # "Falling back on pickle for unsupported types"
        return False
    clause = split_clause(text)
    return (clause is not None and len(clause.subject) >= len(subject)) or verb.endswith("defined as")


def _naming(place: Place, match: re.Match[str]) -> bool:
    """ "The X is the ..." tells what X is only where X is a name, or what the section is about."""
    subject, what = match["x"], match["what"]
    plain = subject.lower()
    definite = plain.startswith(("the ", "our ", "your "))
    about = {w.rstrip("s") for w in (*words(place.heading), *words(place.title))}
    own = [w.rstrip("s") for w in words(subject) if w not in ("the", "our", "your", "a", "an", "of")]
    known = about.issuperset(own)
    if definite and len(own) < 2:  # "the cache" under "Method cache": which one?
        known = own in ([w.rstrip("s") for w in words(title)] for title in (place.heading, place.title))
    named = re.search(r"(?<=.)[A-Z]", subject) is not None or " of " in plain
    if definite and not (known or named):
        return False
    if what.startswith(("an ", "a ", "those ", "things ", "any ")) or match["verb"] == "are":
        return True
    return known or named or lower_first(subject, place.known)[:1].isupper()


def _called(place: Place, sentence: Sentence, before: Sentence | None) -> Iterator[Fact]:
    text = sentence.text
    if " call" not in text and "known as" not in text and "referred to as" not in text and "termed" not in text:
        return
    match = _WE_CALL.search(text) or _CALLED.search(text)
    if match is None or text.endswith(("?", ":")) or re.match(r"[\"”]?,? (?:and |or )?[\"“]", text[match.end() :]):
        return
    if re.match(r"\S+ (?:or|and) ", match["y"]):
        return  # "called high-yield or junk bonds"
    if text[match.end() :].startswith("(") or _OF_A_PROGRAM.search(text[: match.start()]):
        return
    titled = _TITLED.match(match["y"])
    name = titled.group() if titled else _STOPS.split(match["y"] + " ")[0].strip().strip("*")
    if " " not in name and name.isalpha() and name.islower() and not is_plural(name):
        return  # an adjective, for all that is known
    name = _QUOTE.sub("", name)
    if (
        not name
        or _NOT_CALLED.match(name)
        or len(words(name)) > 5
        or vague_subject(name)
        or points_away(name)
        or straight(name).lower().startswith("so")
    ):
        return
    if _UNCLEAR.search(straight(text)) and match.re is not _WE_CALL and not leans(text):
        return
    evidence = [sentence]
    opening = text[: match.start()]
    if leans(text) or match.re is _WE_CALL:
        # The sentence before says what is meant.
        if (
            before is None
            or len(words(before.text)) < _FEWEST_BEFORE
            or leans(before.text)
            or before.text.endswith((":", "?"))
        ):
            return
        evidence = [before, sentence]
    elif (
        re.match(r"The (?:current|new|latter|former|resulting|whole|entire|other|first|second|last)\b", opening)
        or re.search(r"\b(?:thus|examples?|here)\b", opening)
        or (" it" in opening and "," not in opening)
        or _two_verbs(opening)
        or len(words(opening)) < 4
    ):
        return
    yield fact("called", "define", name, evidence)


def _two_verbs(opening: str) -> bool:
    """Whether what is called something has a main verb already ("A final approach is for a nation to ...")."""
    return bool({"is", "are"} & set(words(re.split(r"\b(?:that|which|who|when|if|where)\b", opening)[0])))


def _fragment(place: Place) -> Iterator[Fact]:
    """A dictionary's way: the heading is the term, and the text begins "A set of practices that ..."."""
    if not (place.is_intro or place.own) or not place.paragraphs or place.name == place.title != place.heading:
        return
    sentence = place.paragraphs[0][0]
    if not re.match(r"An? [a-z]", sentence.text) or not sentence.text.endswith("."):
        return
    if split_clause(sentence.text, longest=14) is not None or _OPINION.match(sentence.text):
        return
    if fragment(sentence.text):
        yield fact("definition", "define", place.name, [sentence])


def fragment(text: str) -> bool:
    """A noun phrase with a relative clause ("A set of practices that ...") and no verb of its own."""
    before = re.split(r"\b(?:that|which|who|where)\b", text, maxsplit=1)[0]
    relative = (
        before != text or re.match(r"an? (?:[\w-]+ ){1,5}?(?:for|used|of|containing|in)\b", text, re.I) is not None
    )
    noun = re.match(r"an? [a-z]", text, re.I) is not None and len(words(before)) <= 12
    behind = words(text)[len(words(before)) + 2 :]  # "that provides X may accept ..." is a sentence after all
    if re.search(r"\b(?:is|are) (?:an?|the)\b", text):
        return False
    if AUXILIARIES & set(behind) and not {"that", "which", "who", "where", "and", "or"} & set(behind):
        return False
    return noun and relative and not AUXILIARIES & set(words(before)) and not _WEAK_HEAD.match(text)

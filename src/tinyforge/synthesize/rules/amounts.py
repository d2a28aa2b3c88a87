"""How much, how many, what percentage, how long, how often: statements with a number or a frequency."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.clauses import Clause, modal_object, named, split_clause
from tinyforge.synthesize.facts import Fact, Place, Sentence, fact
from tinyforge.synthesize.language import (
    PRONOUNS,
    bare_definite,
    holds,
    leans,
    lower_first,
    points_away,
    straight,
    words,
)

_NUMBER = r"(?:\d[\d,.]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|fifty)"
_ABOUT = (
    r"(?:(?:up to|at least|at most|about|around|approximately|roughly|nearly|almost|over|more than|less than|"
    r"fewer than|a maximum of|a minimum of|a total of|only|exactly|just) )?"
)
_UNIT = r"(?:day|week|month|quarter|year|cycle)"
_MONEY = re.compile(
    _ABOUT + r"(?:US)?[$€£]\s?\d[\d,.]*(?: (?:million|billion|trillion))?(?:\s?/\s?\w+)?(?= |$)(?P<rest>.*)", re.S
)
_PERCENT = re.compile(
    _ABOUT + r"\d[\d.,]*\s?(?:%|percent\b)(?: of (?P<whole>[^,;:.]+?))?"
    r"(?P<rest>(?:[,;:.]| (?:and|(?:up |down )?to|in|for|with|as|on|by|at|if|when|towards?) ).*|$)",
    re.S,
)
_COUNT = re.compile(
    _ABOUT
    + _NUMBER
    + r"(?:\+)? (?P<unit>(?!of |to )(?:[a-z][a-z-]* ){0,2}?[a-z][a-z-]*(?:s|people|children|staff)(?<!ss)"
    r"(?: of [a-z-]+(?: (?:leave|time|pay|stock|data|experience|work)| [a-z-]+s)?)?)(?P<rest>(?:[ ,;:.].*)?$)",
    re.S,
)
# What may follow a counted thing; anything else is still a part of its name.
_AFTER_COUNT = re.compile(
    r"$|[,;:.(]| (?:for|on|to|in|at|per|with|from|by|that|which|who|when|where|if|during|each|every|and|or|as|plus|"
    r"towards?|against|through|under|into|about|before|after|between|while|until|within|a|leave|pay|notice)\b"
)
_OF_WHAT = re.compile(r" (leave|pay|notice)\b")
_EVERY = re.compile(
    r"(?P<what>.+?),? (?P<often>(?:once|twice|(?:" + _NUMBER + r") times|at least once|at least twice) "
    r"(?:a|per|every|each) " + _UNIT + r"|every (?:other )?" + _UNIT + r"|annually|monthly|weekly|quarterly)[.!]$",
    re.S,
)
_LONG = re.compile(
    _ABOUT + _NUMBER + r"[ -](?:minute|hour|day|week|month|year|meter|metre|kilometer|mile|feet|foot|inch|page|"
    r"character)s? (?P<how>long|old|tall|wide|deep|away)\b"
)
_THERE = re.compile(r"There (?P<verb>is|are) (?:an? |currently )?(?P<object>.+)", re.S)
_PERIOD = re.compile(
    _NUMBER + r"[ -](?:\w+[ -])?(?:minute|hour|day|week|month|year)s? (?P<what>(?:\w+ )?"
    r"(?:period|window|term|limit|deadline|break|delay|leave|trial|sabbatical|notice)\b)(?P<rest>.*)",
    re.S,
)
_LEAD = re.compile(r"(?P<lead>(?:If|When|During|After|Before|Once|For|On|At|In) [^,]{3,90}), (?P<main>.+)", re.S)
_CUT = re.compile(
    r"[,;:(—–]|(?<![A-Z])\.(?=\s)| -+ | (?:and|but|which|who|where|so|because|as|plus|while|or|unless|since|although) "
)
_OPEN_ENDED = re.compile(r"\b(?:up|down|out|in|off)$")  # a part of what follows, or of a verb
_OVER_IS_OF = ("carry", "roll", "take", "hand", "turn")  # "carry over five days" is not to carry more than five
_ALTERNATIVE = re.compile(r"\bor (?:about )?\d")  # "100 barrels of oil or 25 bushels of corn"
_KNOWN_NOUNS = ("premium", "policy", "plan", "company", "employer", "warranty", "contract")
_EXAMPLE = re.compile(r"(?:(?:point|case|option|figure|step) \w+|using\b.*)$", re.I)
_ELSEWHERE = re.compile(
    r"`|\b(?:resulting|this(?! (?:year|month|week))|these|those|doing (?:that|this|so)|do (?:that|this|so)|following)\b"
)
_BAD_UNIT = re.compile(
    r"\b(?:or|and|to|one|more|most|other|others|those|these|ways?|things?|reasons?|examples?|is|was|has|types?|kinds?|this|its|as|"
    r"thus|times|plus|possibilit(?:y|ies)|points?|things?|choices?|options?|cases?|approaches|alternatives?|issues?|"
    r"problems?|questions?|parts?|steps?|levels?|components?|categories|groups?|main|new|different|additional|such|"
    r"situations?|sides?|reasons?)\b"
)


# A quick look: without one of these there is no number, or no frequency.
_NUMERALS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "fifteen",
    "twenty", "thirty", "fifty",
)  # fmt: skip
_FREQUENCIES = ("once ", "twice ", " times ", "every ", "annually", "monthly", "weekly", "quarterly")
_DIGIT = re.compile(r"\d")


def find(place: Place, limit: int) -> Iterator[Fact]:
    for sentence in place.all_sentences:
        text = sentence.text
        if len(text) > limit or text.endswith(("?", ":")) or (leans(text) and not text.startswith("There ")):
            continue
        often = text.endswith((".", "!")) and holds(text, _FREQUENCIES)
        number = holds(text.lower(), _NUMERALS) or _DIGIT.search(text) is not None
        if not (often or number) or _ELSEWHERE.search(text):
            continue
        found = _often(place, sentence) if often else None
        found = found or (_numbers(place, sentence) if number else None)
        known = (*words(place.heading), *words(place.title), *_KNOWN_NOUNS)
        if found is not None and "()" in found.subject and "def " in place.document.slice(place.section.span):
            continue  # a function that an example defines
        if found is not None and not _ALTERNATIVE.search(text) and not bare_definite(found.slot("d"), known):
            yield found


def _numbers(place: Place, sentence: Sentence) -> Fact | None:
    there = _THERE.match(sentence.text)
    if there:
        return _there(place, sentence, there["object"])
    lead, main = "", sentence.text
    match = _LEAD.match(main)
    if match:
        lead, main = match["lead"], match["main"]
        if points_away(lead) or leans(lead) or _has_pronoun(lead) or re.search("[$€£%]", lead):
            return None
    clause = split_clause(lower_first(main, place.known))
    if clause is None or not named(clause.subject) or _EXAMPLE.match(clause.subject):
        return None
    return _statement(sentence, clause, f" {lead[0].lower()}{lead[1:]}" if lead else "")


def _has_pronoun(text: str) -> bool:
    return any(w in PRONOUNS or w in ("this", "these", "those", "such", "that") for w in words(straight(text)))


def _statement(sentence: Sentence, clause: Clause, lead: str) -> Fact | None:
    """Subject, verb, number: the number's place in the question is taken by a question word."""
    modal = modal_object(clause)
    done, target = modal or (clause.base, clause.rest)
    if clause.verb in ("is", "are") and not modal:
        return _how_long(sentence, clause, lead)
    if not done or (done in _OVER_IS_OF and target.startswith("over ")):
        return None
    found = _question_word(target)
    if found is None:
        return None
    asked, rest = found
    tail = f"{rest}{lead}"
    if modal:
        direct = f"{asked} {clause.verb} {clause.subject} {done}{tail}"
        inside = f"{asked} {clause.subject} {clause.verb} {done}{tail}"
    else:
        helper = clause.inverted("")
        direct, inside = f"{asked} {helper}{tail}", f"{asked} {clause.subject} {clause.verb}{tail}"
    return fact("amount", "ask", clause.subject, [sentence], slots={"d": direct, "i": inside})


def _question_word(target: str) -> tuple[str, str] | None:
    """``(question words, what follows the verb)`` for an object that opens with a number."""
    match = _MONEY.match(target)
    if match:
        return None if re.match(r" (?:which|that|worth|[-–−+=])", match["rest"]) else ("how much", _tail(match["rest"]))
    match = _PERCENT.match(target)
    if match:
        whole = (match["whole"] or "").strip()
        if len(words(whole)) > 7 or _has_pronoun(whole) or _OPEN_ENDED.search(whole):
            return None
        return f"what percentage of {whole}" if whole else "what percentage", _tail(match["rest"])
    match = _COUNT.match(target)
    if match and match["rest"].startswith((" to be ", " or ")):
        return None
    if match and not _BAD_UNIT.search(match["unit"]) and _AFTER_COUNT.match(match["rest"]):
        unit, rest = match["unit"], match["rest"]
        of_what = _OF_WHAT.match(rest)
        if of_what:  # "16 weeks leave" is 16 weeks of leave
            unit, rest = f"{unit} of {of_what[1]}", rest[of_what.end() :]
        return f"how many {unit}", _tail(rest)
    return None


def _tail(rest: str) -> str:
    """What may follow the verb of the question: up to the next break, and nothing that points away."""
    cut = _CUT.search(rest + " ")
    kept = rest[: cut.start()] if cut else rest
    kept = kept.rstrip()
    if (
        not kept
        or len(kept) > 80
        or re.search(
            r"\b(?:in|of|to|for|with|on|by|at|from|as|per|a|an|the)$|-(?:fifths?|thirds?|halves|quarters?)\b", kept
        )
        or _has_pronoun(kept)
        or re.search(r"\d", kept)
    ):
        return ""
    return kept.rstrip(".")


def _how_long(sentence: Sentence, clause: Clause, lead: str) -> Fact | None:
    match = _LONG.match(clause.rest)
    if match is None:
        return None
    direct = f"how {match['how']} {clause.verb} {clause.subject}{lead}"
    inside = f"how {match['how']} {clause.subject} {clause.verb}{lead}"
    return fact("amount", "ask", clause.subject, [sentence], slots={"d": direct, "i": inside})


def _there(place: Place, sentence: Sentence, target: str) -> Fact | None:
    period = _PERIOD.match(target)
    if period:
        what = period["what"].strip() + _tail(period["rest"])
        return fact(
            "amount", "ask", what, [sentence], slots={"d": f"how long is the {what}", "i": f"how long the {what} is"}
        )
    match = _COUNT.match(target)
    if match is None or _BAD_UNIT.search(match["unit"]) or not _AFTER_COUNT.match(match["rest"]):
        return None
    if re.match(r" (?:where|that|which|who)\b", match["rest"]):
        return None  # how many of those, not how many there are
    tail = _tail(match["rest"])
    if not tail and re.match(r" [a-z]", match["rest"]):
        return None  # "two precedences for the := operator" are not all that there are
    asked = f"how many {match['unit']}"
    return fact(
        "amount",
        "ask",
        match["unit"],
        [sentence],
        slots={"d": f"{asked} are there{tail}", "i": f"{asked} there are{tail}"},
    )


def _often(place: Place, sentence: Sentence) -> Fact | None:
    match = _EVERY.match(sentence.text)
    if (
        match is None
        or re.search(r"[,;:(]|\b(?:of|in|at|for|to|by|on|with|almost|nearly|about|roughly|only)$", match["what"])
        or re.search(_NUMBER + r"\b", match["what"])
    ):
        return None
    clause = split_clause(lower_first(match["what"], place.known))
    if clause is None or not named(clause.subject) or not clause.rest or _has_pronoun(clause.rest):
        return None
    slots = {"d": f"how often {clause.inverted()}", "i": f"how often {clause.plain}"}
    return fact("amount", "ask", clause.subject, [sentence], slots=slots)

"""How to: "To DO X, do Y", "You can DO X by DOING Y", and numbered steps under a heading."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.facts import Fact, ListGroup, Place, Sentence, fact
from tinyforge.synthesize.language import PRONOUNS, bare_definite, leans, lower_first, straight, tidy, words

_PURPOSE = re.compile(
    r"To (?P<goal>[a-z]+ [^,;:()]{4,90}), (?P<main>(?:you|we (?:can|must|should|use)|use|run|add|set|call|"
    r"create|click|open|go|select|choose|enter|"
    r"type (?=[\"'`]|(?:a|an|the|your|in|py|pip)\b)|write|make|follow|install|start|pass|specify|send|contact|"
    r"ask|please|first|simply|just|download|edit|change|"
    r"define|enable|press|visit|fill|submit|check|update|import|put|place)\b.*)",
    re.S,
)
_BY = re.compile(
    r"(?:You|Users|Developers|Customers|Employees|People|Students) can (?P<goal>[a-z]+ [^,;:()]{4,90}?) "
    r"by (?P<way>\w+ing [^;]+)",
    re.S,
)
_NOT_A_GOAL = re.compile(
    r"(?:also|still|then|just|only|simply|"
    r"be|do so|do this|do that|learn more|find out|see|understand|recap|summarize|sum up|begin|date|some|"
    r"make matters|put it|say|know|illustrate|take an?|give an?|compensate|help|start|further|answer|read more|many|"
    r"most|us|me)\b"
)
_PROCEDURE = re.compile(
    r"\b(?:how to|steps?|procedure|process|instructions|install|setup|set up|getting started|tutorial|walkthrough|"
    r"checklist|recipe|method|algorithm)\b",
    re.I,
)
_LEAD = re.compile(r"\b(?:steps?|follow|process|as follows|procedure|in order|do the following|proceed)\b", re.I)
_IMPERATIVE = re.compile(
    r"(?:Add|Ask|Attach|Boil|Build|Call|Change|Check|Choose|Click|Close|Commit|Configure|Connect|Copy|Create|Cut|Decide|"
    r"Define|Deploy|Determine|Download|Draw|Edit|Enable|Enter|Fill|Find|Follow|Fork|Get|Give|Go|Identify|Import|"
    r"Install|Invite|Log|Make|Measure|Move|Name|Navigate|Open|Paste|Pick|Plug|Press|Prepare|Pull|Push|Put|Read|Remove|"
    r"Repeat|Replace|Restart|Review|Run|Save|Scroll|Select|Send|Set|Sign|Start|Stop|Submit|Switch|Take|Tell|Test|Turn|"
    r"Type|Update|Upload|Use|Verify|Visit|Wait|Write)\b"
)


def find(place: Place, limit: int) -> Iterator[Fact]:
    for sentence in place.all_sentences:
        match = _PURPOSE.match(sentence.text) or _BY.match(sentence.text)
        known = (*words(place.heading), *words(place.title))
        if match is not None and not place.own and bare_definite(match["goal"], known):
            continue
        if match is not None and _goal(match["goal"]) and not sentence.text.endswith((":", "?")):
            goal = match["goal"].strip()
            yield fact(
                "howto", "ask", goal, [sentence], "steps", slots={"d": f"how do you {goal}", "i": f"how to {goal}"}
            )
    ordered = [group for group in place.lists if group.items and group.items[0].ordered]
    for group in ordered[:1] if len(ordered) == 1 else ():  # where there are several, each is a part
        found = _steps(place, group, limit)
        if found is not None:
            yield found


def _goal(goal: str) -> bool:
    found = words(straight(goal))
    away = (
        "this",
        "these",
        "those",
        "that",
        "such",
        "so",
        "following",
        "above",
        "what",
        "our",
        "my",
        "us",
        "another",
        "again",
        "instead",
        "too",
    )
    if re.search(r"(?<![-.])\b[A-Z]\b(?![-.+#])", goal):
        return False
    if found and found[-1] in ("or", "and", "with", "by", "in", "to", "of"):
        return False
    return not _NOT_A_GOAL.match(goal) and not any(w in PRONOUNS or w in away for w in found) and len(found) <= 14


def _steps(place: Place, group: ListGroup, limit: int) -> Fact | None:
    """The items of a numbered list that reads as a procedure: its heading or lead says so, or its items command."""
    items = [item for item in group.items if item.level == group.items[0].level]
    if len(items) < 2 or not items[0].ordered or not all(item.sentences for item in items):
        return None
    commands = sum(_IMPERATIVE.match(item.text) is not None for item in items)
    lead = group.lead.text if group.lead else ""
    said = _PROCEDURE.search(place.heading) and (not lead or _LEAD.search(lead))
    if place.heading.endswith("?") and not re.match(r"how\b", place.heading, re.I):
        return None  # the steps of an argument
    doing = re.match(r"(?:how to|how do|[A-Z]?[a-z]+ing) ", place.heading, re.I)
    if not (said or doing) or commands * 3 < len(items) * (1 if said else 2):
        return None
    evidence = lines([list(item.sentences) for item in items], limit)
    if evidence is None:
        return None
    return _procedure(place, evidence)


def lines(items: list[list[Sentence]], limit: int) -> list[Sentence] | None:
    """The items in full where they fit, else their first sentences, else None."""
    whole, openings = [s for item in items for s in item], [item[0] for item in items]
    if sum(len(s.text) + 1 for s in whole) - 1 <= limit:
        return whole
    fits = sum(len(s.text) + 1 for s in openings) - 1 <= limit
    return openings if fits and all(len(words(s.text)) >= 3 for s in openings) else None


def _procedure(place: Place, evidence: list[Sentence]) -> Fact:
    how = re.match(r"how (?:to|do i|do you|can i) (?P<goal>.+)", place.heading, re.I)
    if how:
        goal = tidy(how["goal"]).rstrip("?")
        slots = {"d": f"how do you {goal}", "i": f"how to {goal}", "g": f"how to {goal}"}
        goal_name = f"how to {goal}"
    else:
        goal_name = lower_first(place.name, place.known)
        slots = {"d": f"what are the steps for {goal_name}", "i": f"what the steps for {goal_name} are", "g": goal_name}
    if leans(place.heading):
        slots["g"] = place.name
    spans = tuple(s.span for s in evidence)
    answer = "\n".join(s.text for s in evidence)
    return Fact("steps", "steps" if not how else "ask", goal_name, spans, answer, tuple(slots.items()), "steps")

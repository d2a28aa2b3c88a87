"""Questions that need the one before: which they are, and what to search for instead. Rules only, no model.

Measured on 28 handwritten pairs of questions (bench/retrieval.py): searching with the earlier question between two
copies of the later one, where the words of the later one ask for it, finds the right section for 20 first and for 25
within five; the later one alone for 7 and 15.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tinyforge.records import Message
from tinyforge.retrieve.words import content_words

_START = re.compile(
    r"(?:and|or|but|so|then|its?|they|them|their|he|she|his|her|this|that|these|those|what about|how about|what if|"
    r"why not)\b",
    re.I,
)
_END = re.compile(r"\b(?:for|with|of|about|in|into|to|after|before|by|on|at|from|than) (?:it|them|that|this)\W*$", re.I)
_PRONOUN = re.compile(r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|those|these)\b", re.I)
_EXPLETIVE = re.compile(r"\b(?:is|was|isn't) it\b.*\b(?:to|that|if|for|when)\b|\bit takes?\b", re.I)
NEAR = 2  # content words before a pronoun; with more, what it stands for is likely among them
SHORT = 2  # content words of a question that may lean although no word of it says so


@dataclass(frozen=True, slots=True)
class FollowUp:
    """``question`` as it was asked; ``context`` is the earlier question that it leans on, or ""."""

    question: str
    context: str = ""


def leans_on_previous(question: str) -> bool:
    """Whether a question says by its words that it needs the one before it."""
    question = question.strip()
    if not content_words(question) or _START.match(question) or _END.search(question):
        return True
    pronoun = _PRONOUN.search(question)
    if pronoun is None or _EXPLETIVE.search(question):
        return False
    before = question[: pronoun.start()]
    return len(content_words(before)) <= NEAR and " and " not in before


def may_lean(question: str) -> bool:
    """Whether it is so short that it may need the one before it, if it finds nothing by itself."""
    return len(content_words(question)) <= SHORT


def follow_up(question: str, earlier: Sequence[str]) -> FollowUp:
    """The question with the latest of the ``earlier`` ones, oldest first, that stands alone, if it needs it."""
    if not leans_on_previous(question):
        return FollowUp(question)
    return FollowUp(question, topic(earlier))


def topic(earlier: Sequence[str]) -> str:
    """The latest question that stands alone; "" without one."""
    return next((text for text in reversed(earlier) if not leans_on_previous(text)), "")


def of_messages(messages: Sequence[Message]) -> FollowUp:
    """The same for a conversation whose last message is the question."""
    *before, last = [message.content for message in messages if message.role == "user"]
    return follow_up(last, before)

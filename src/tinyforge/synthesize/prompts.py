"""What a teacher is asked to write: one prompt per kind of example. A change of its text changes its version."""

from __future__ import annotations

from dataclasses import dataclass

from tinyforge.records import content_id

PERSONAS = (
    "a new employee in the first week",
    "someone in a hurry who writes short messages",
    "a customer who has never heard of the subject",
    "an expert who wants the exact rule",
    "someone who is annoyed and wants a clear answer",
    "a student preparing for an exam",
    "someone who writes in plain, simple English",
    "a manager who has to decide today",
)

SYSTEM = (
    "You write questions and answers about excerpts of documents. Use only what the excerpts say. "
    "Every question must be understandable without seeing the excerpts: name what it is about, and never say "
    '"the text", "this section" or "the excerpt". Reply with JSON only.'
)
_ITEMS = (
    'Reply with {"items": [{"question": "...", "answer": "...", "quotes": ["..."]}]}. Each quote is copied word for '
    "word from an excerpt, and the quotes of an item hold everything that its answer says."
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """``task`` says what is wanted; ``{count}``, ``{persona}``, ``{question}`` and ``{answer}`` are filled in."""

    name: str
    task: str
    shape: str
    difficulty: str
    items: int = 4

    @property
    def version(self) -> str:
        return content_id("prompt", SYSTEM, self.task, self.shape, *PERSONAS)[:8]

    @property
    def rule(self) -> str:
        """The name under which its examples go."""
        return f"teacher_{self.name}"


_ALL = (
    Prompt(
        "paraphrase",
        "Question: {question}\nAnswer: {answer}\n\nWrite {count} other ways in which people would ask this question. "
        "Vary words and sentence structure; the answer must stay exactly the same.",
        'Reply with {"items": [{"question": "..."}]}.',
        "lookup",
    ),
    Prompt(
        "implication",
        "Write {count} questions whose answers follow from what the excerpt says, though it does not say them in so "
        "many words. Answer each in one or two sentences.",
        _ITEMS,
        "why",
    ),
    Prompt(
        "multi_span",
        "Write {count} questions that can only be answered by putting together two or more separate sentences of the "
        "excerpts. Give at least two quotes for each.",
        _ITEMS,
        "multi-span",
    ),
    Prompt(
        "multi_turn",
        "Write {count} short conversations of two or three turns: a person asks, gets an answer, and asks on about "
        "what was said.",
        'Reply with {"items": [{"turns": [{"question": "...", "answer": "...", "quotes": ["..."]}]}]}. Each quote is '
        "copied word for word from an excerpt, and the quotes of a turn hold everything that its answer says.",
        "multi-turn",
        2,
    ),
    Prompt(
        "persona",
        "You are {persona}. Write {count} questions that you would ask, and answer them from the excerpt.",
        _ITEMS,
        "lookup",
    ),
    Prompt(
        "hard",
        "Write {count} demanding questions about conditions, exceptions, limits or differences, of the kind that a "
        "quick reader gets wrong. Answer each completely.",
        _ITEMS,
        "multi-span",
    ),
    Prompt(
        "unanswerable",
        "Write {count} questions that sound as if the excerpt answered them, about the same subject, but that it does "
        "not answer.",
        'Reply with {"items": [{"question": "..."}]}.',
        "unanswerable",
    ),
    Prompt(
        "distractors",
        "Only one of the excerpts answers this question: {question}\n\nWrite the answer in full sentences, from that "
        "excerpt alone.",
        _ITEMS,
        "lookup",
        1,
    ),
    Prompt(
        "reasoning",
        "Write {count} questions that need a step of reasoning. In each answer, first quote the sentence that it rests "
        "on, in quotation marks, then say what follows from it.",
        _ITEMS,
        "why",
    ),
)
PROMPTS = {prompt.name: prompt for prompt in _ALL}

REPAIR = "That was not the JSON that was asked for. Reply with the JSON only, nothing before or after it."

READ = (
    "Answer the question from the excerpts alone, as briefly as possible. "
    'Reply with {"answer": "..."}; if they do not hold the answer, with {"answer": ""}.'
)
READ_VERSION = content_id("prompt", READ)[:8]

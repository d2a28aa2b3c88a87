"""What a fine-tuning may cost: questions on general text, and instructions whose following can be checked.

Both are TinyForge's own writing and have nothing to do with anybody's documents. The questions ask about the texts of
dataset/general.md, which stand in the prompt: they measure reading, not knowledge, so that a model of any size has
something to lose. An instruction is followed or not by a rule on the answer's form; whether the answer is true does
not count, except where the instruction gives it away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tinyforge.dataset.general import general_texts
from tinyforge.dataset.prompts import closed_book, with_passages
from tinyforge.records import Example, Message, content_id

# The number of the text in general.md, the question, the answer in the text's words.
_QUESTIONS: tuple[tuple[int, str, str], ...] = (
    (0, "Who watches from the bench by the ice house?", "His grandmother"),
    (0, "How many crabs are there by four o'clock?", "eleven crabs"),
    (1, "What does the yeast give off as it feeds?", "carbon dioxide and a small amount of alcohol"),
    (1, "Above what temperature does yeast die?", "Above fifty degrees"),
    (2, "What are effects on people outside the bargain called?", "externalities"),
    (3, "Who offered to look at the pump?", "Mr Okafor"),
    (3, "How many names are on the waiting list?", "twelve names"),
    (4, "What does a contour line join?", "points of the same height"),
    (4, "In a valley, where does the point of the V look?", "uphill"),
    (5, "What only sets the pace of the heart?", "Nerves and hormones"),
    (6, "For how long is the code valid?", "twenty minutes"),
    (6, "For how long are files kept?", "thirty days"),
    (7, "What did the council forbid the bakers?", "to raise their prices"),
    (8, "When does a test that is worth having fail?", "when the code is wrong"),
    (10, "What becomes shorter each time paper is pulped?", "its fibres"),
    (10, "What has set more than one lorry on fire?", "a battery among the cardboard"),
    (11, "What does the jay hide?", "a nut"),
    (12, "How often do trains to the coast run?", "every forty minutes"),
    (12, "From where does a front come in on Sunday?", "from the Atlantic"),
    (13, "Why do islands have mild winters?", "takes a great deal of heat to warm, and gives it back slowly"),
    (14, "How long has the driver been driving this route?", "Nineteen years in September"),
    (15, "How large is the gap at the top and at both sides?", "three millimetres"),
    (16, "How many stones is it good to leave to the other?", "four stones"),
    (17, "To whom does the deposit belong?", "to the tenant"),
)


def general_questions() -> list[tuple[list[Message], Example]]:
    """Each prompt, text and question together, with the example that its answer is measured against."""
    texts = general_texts()
    made = []
    for number, question, answer in _QUESTIONS:
        prompt = with_passages(question, [("", texts[number])])
        made.append(
            (
                prompt,
                Example(
                    content_id("general", question),
                    (*prompt, Message("assistant", answer)),
                    fact=str(number),
                    metadata={"references": [_sentence(texts[number], answer)]},
                ),
            )
        )
    return made


def _sentence(text: str, answer: str) -> str:
    """The sentence that holds the answer: a model that quotes it has read just as well."""
    place = text.index(answer)
    start = max(text.rfind(mark, 0, place) for mark in (". ", "? ", "\n", ": ")) + 1
    ends = [found + 1 for mark in (". ", ".\n", "? ", "!") if (found := text.find(mark, place)) >= 0]
    return text[start : min(ends, default=len(text))].strip()


@dataclass(frozen=True, slots=True)
class Instruction:
    """``wanted`` says in words what ``check`` decides of an answer."""

    prompt: str
    wanted: str
    check: Callable[[str], bool]

    @property
    def messages(self) -> list[Message]:
        return closed_book(self.prompt)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)


def _count(low: int, high: int, text: str) -> bool:
    return low <= len(_words(text)) <= high


def _exactly(wanted: str, text: str) -> bool:
    return text.strip().strip("\"'“”.").strip().lower() == wanted.lower()


def _contains(wanted: str, text: str) -> bool:
    return wanted.lower() in map(str.lower, _words(text))


def _without(letter: str, text: str) -> bool:
    return bool(_words(text)) and letter not in text.lower()


def _upper(text: str) -> bool:
    return bool(_words(text)) and text == text.upper()


def _lower(text: str) -> bool:
    return bool(_words(text)) and text == text.lower()


def _starts(wanted: str, text: str) -> bool:
    return text.strip().startswith(wanted) and len(text.strip()) > len(wanted)


def _ends(wanted: str, text: str) -> bool:
    return text.strip().endswith(wanted) and len(text.strip()) > len(wanted)


def _lines(count: int, mark: str, text: str) -> bool:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return len(lines) == count and all(re.match(mark, line) for line in lines)


def _sentences(count: int, text: str) -> bool:
    return len(re.findall(r"[^.!?\s][^.!?]*[.!?]+(?=\s|$)", text.strip())) == count


def _one_of(choices: tuple[str, ...], text: str) -> bool:
    return any(_exactly(choice, text) for choice in choices)


def _json_keys(keys: frozenset[str], text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and set(found) == keys


def _commas(count: int, text: str) -> bool:
    parts = [part.strip() for part in text.strip().rstrip(".").split(",")]
    return len(parts) == count and all(parts) and "\n" not in text.strip()


INSTRUCTIONS: tuple[Instruction, ...] = (
    Instruction("Answer with one word: what colour is fresh snow?", "one word", partial(_count, 1, 1)),
    Instruction("Answer with yes or no: is a stone softer than bread?", "yes or no", partial(_one_of, ("yes", "no"))),
    Instruction("Write the word lantern and nothing else.", "“lantern”", partial(_exactly, "lantern")),
    Instruction("Repeat this exactly: The boat is blue.", "“The boat is blue.”", partial(_exactly, "The boat is blue")),
    Instruction(
        "Write the word echo three times, with spaces.", "“echo echo echo”", partial(_exactly, "echo echo echo")
    ),
    Instruction("Describe the sea in exactly five words.", "five words", partial(_count, 5, 5)),
    Instruction("Say something about trees in at most ten words.", "one to ten words", partial(_count, 1, 10)),
    Instruction("Write one sentence that has the word copper in it.", "“copper” in it", partial(_contains, "copper")),
    Instruction("Write one sentence about winter.", "one sentence", partial(_sentences, 1)),
    Instruction("Write two sentences about a market.", "two sentences", partial(_sentences, 2)),
    Instruction("Write a short greeting in capital letters only.", "capitals only", _upper),
    Instruction("Write a short greeting in small letters only.", "small letters only", _lower),
    Instruction("Say good night without using the letter e.", "no letter e", partial(_without, "e")),
    Instruction("Begin your answer with the word Perhaps. Will it rain?", "begins so", partial(_starts, "Perhaps")),
    Instruction("What is a bridge? End your answer with the word Done.", "ends so", partial(_ends, "Done.")),
    Instruction("Ask a question about bees.", "ends in a question mark", partial(_ends, "?")),
    Instruction("List three fruits, one on each line.", "three lines", partial(_lines, 3, r".")),
    Instruction("List two rivers as bullet points, each after a dash.", "two dashes", partial(_lines, 2, r"- \S")),
    Instruction(
        "Number four steps for making tea from 1. to 4., one on each line.",
        "four lines",
        partial(_lines, 4, r"[1-4]\."),
    ),
    Instruction("Name three colours, separated by commas, on one line.", "three parts", partial(_commas, 3)),
    Instruction("Which is larger, 4 or 9? Answer with the number alone.", "“9”", partial(_exactly, "9")),
    Instruction("Count from one to five in digits, with spaces.", "“1 2 3 4 5”", partial(_exactly, "1 2 3 4 5")),
    Instruction(
        'Answer in JSON with the keys "name" and "age" for a person that you invent.',
        "JSON with the two keys",
        partial(_json_keys, frozenset(("name", "age"))),
    ),
    Instruction("Choose one of: apple, pear. Answer with that word.", "one", partial(_one_of, ("apple", "pear"))),
)

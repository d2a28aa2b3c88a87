"""The ways in which people ask for a cell of a table. Templates only, as in `forms.py`.

Slots beside those there: ``r`` the row, ``t`` the column's header, ``x`` the role that a column is about.
"""

from __future__ import annotations

# A trait of a role in a table: row "Mastery", column "Senior QA Tester (L3)".
ROLE = (
    "What does {r} mean for {x}?",
    "What is expected of {x} when it comes to {r}?",
    "How is {r} described for {x}?",
    "{R} for {x}?",
    "What should {x} show in terms of {r}?",
    "In terms of {r}, what is {x} expected to do?",
    "Describe {r} at the level of {x}.",
    "As {x}, what is expected of me on {r}?",
    "What does the table say about {r} for {x}?",
    "I'm {x}. What does {r} look like for me?",
    "How would {x} be judged on {r}?",
    "Tell me about {r} for {x}.",
    "What is said about {r} for {x}?",
    "Under {r}, what is listed for {x}?",
    "{X}: what about {r}?",
    "What does {doc} list under {r} for {x}?",
    "What is the bar on {r} for {x}?",
    "Explain {r} for {x}, please.",
    "What do you look for in {x} under {r}?",
    "I want to become {x}. What about {r}?",
)

# A cell of any other table.
CELL = (
    "In {n}, what {is} the {t} for {r}?",
    "{T} for {r} in {n}?",
    "For {r}, what {is} the {t} in {n}?",
    "What does the table in {n} give as {t} for {r}?",
    "In the table of {n}, what stands under {t} for {r}?",
    "{N}, {r}: {t}?",
    "Look up {t} for {r} in {n}.",
    "Tell me the {t} for {r}, from {n}.",
    "Which {t} goes with {r} in {n}?",
    "What is listed under {t} for {r} in {n}?",
    "I need the {t} for {r} in {n}.",
    "What entry does {r} have under {t} in {n}?",
    "Can you find the {t} for {r} in {n}?",
    "In the row {r} of {n}, what is the {t}?",
    "Do you know the {t} for {r}? It's in {n}.",
    "According to {n}, what {is} the {t} for {r}?",
    "Looking at {n}: {t} for {r}?",
    "I'm checking {n}. What does it give for {r} under {t}?",
    "The {t} column in {n}: what does it say for {r}?",
    "Give me the {t} that {n} shows for {r}.",
)

# The same where the column's header, in quotation marks, is no noun.
CELL_UNDER = (
    "In {n}, what stands under {t} for {r}?",
    "What does {n} have under {t} for {r}?",
    "Look up what stands under {t} for {r} in {n}.",
    "What is listed under {t} for {r} in {n}?",
    "What entry does {r} have under {t} in {n}?",
    "I'm checking {n}. What does it give for {r} under {t}?",
    "The column {t} in {n}: what does it say for {r}?",
    "Under {t}, what do I find for {r} in {n}?",
    "{N}, {r}: what stands under {t}?",
    "I need the entry for {r} under {t} in {n}.",
    "In the row {r} of {n}, what is written under {t}?",
    "Do you know what stands under {t} for {r}? It's in {n}.",
    "According to {n}, what goes under {t} for {r}?",
    "Can you find what {n} lists for {r} under {t}?",
    "Tell me what is given for {r} under {t}, from {n}.",
    "Give me the entry that {n} shows for {r} under {t}.",
    "Looking at {n}: what is there under {t} for {r}?",
    "For {r}, what does the table in {n} say under {t}?",
)

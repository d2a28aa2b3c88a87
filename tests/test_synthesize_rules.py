"""Each rule on text worked by hand: what it must find, and the near miss beside it that it must not."""

from __future__ import annotations

import pytest

from synthesize_pages import build
from tinyforge.plugins import load
from tinyforge.synthesize import RULES
from tinyforge.synthesize.facts import Fact
from tinyforge.synthesize.language import lower_first, noun_like
from tinyforge.synthesize.person import first_person
from tinyforge.synthesize.places import places
from tinyforge.synthesize.rules.faq import indirect
from tinyforge.synthesize.wordings import plainest


def found(rule: str, *parts: tuple[str, ...], heading: str = "Pay") -> list[tuple[str, str]]:
    """``(plainest question, answer)`` of a rule on one section of a document called Staff Guide."""
    document = build(("heading1", "Staff Guide"), ("heading2", heading), *parts)
    finder = load("synthesize", rule, RULES)
    result = []
    for place in places([document]):
        for fact in finder(place, 320):
            assert isinstance(fact, Fact)
            copied = "".join("".join(document.slice(span) for span in fact.spans).split())
            assert copied == "".join(fact.answer.split())
            result.append((plainest(fact, place), fact.answer))
    return result


def paragraph(rule: str, text: str, heading: str = "Pay") -> list[str]:
    return [question for question, _ in found(rule, ("paragraph", text), heading=heading)]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Queenbee is our invoice and identity system.", "What is Queenbee?"),
        ("An externality is a cost that falls on others.", "In Queenbee, what is an externality?"),
        ("Moonlighting means working other paid jobs.", "What is Moonlighting?"),
        ("Externalities are costs that fall on others.", "What are externalities?"),
        ("When one firm buys another, it is called an acquisition.", "In Queenbee, what is an acquisition?"),
    ],
)
def test_definitions(text: str, question: str) -> None:
    assert [q.lower() for q in paragraph("definitions", text, "Queenbee")] == [question.lower()]


@pytest.mark.parametrize(
    "text",
    [
        "It is a system for invoices.",
        "This is a cost that falls on others.",
        "The result is a shift of the curve.",
        "Trust is an important part of work.",
        "People who work here is a common phrase.",
        "Recycling is a relatively cheap solution to waste.",
        "Such firms are called monopolies.",
        "Is a tariff a tax that hurts?",
        "Pay is a universal subject, found in every firm.",  # nothing that tells it from others
        "Python means of payment are a means of paying.",
        "init is an optional parameter that is left out.",
        "Ann Lee is the chair of the board that meets here.",
        "Bonds are a property that only works for all.",
        "Falling back on older tools is an option that works.",
        "Owner Owners are people who own things.",
        "The hook is called with config.",
        "Bonds that fail are called high-yield or junk bonds.",
    ],
)
def test_what_only_looks_like_a_definition(text: str) -> None:
    assert paragraph("definitions", text) == []


def test_this_is_called_takes_the_sentence_before_along() -> None:
    text = "Everyone answers customers now and then. We call it Everyone on Support (EOS)."
    assert found("definitions", ("paragraph", text)) == [("What is Everyone on Support (EOS)?", text)]
    assert paragraph("definitions", "They answer customers. We call it Everyone on Support (EOS).") == []


def test_acronyms_need_matching_initials() -> None:
    text = "Coverage runs through the Flexible Spending Account (FSA) or after that (COBRA)."
    assert found("acronyms", ("paragraph", text)) == [("What does FSA stand for?", "Flexible Spending Account")]
    assert found("acronyms", ("paragraph", "Tickets go to staff and builders (AB).")) == []


def test_an_acronym_in_the_heading() -> None:
    answers = found("acronyms", ("paragraph", "You set money aside."), heading="Flexible Spending Account (FSA)")
    assert answers == [("What does FSA stand for?", "Flexible Spending Account")]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("You can take ten days of leave for a funeral.", "How many days of leave can you take for a funeral?"),
        ("The company pays 75% of the premium.", "For Pay, what percentage of the premium does the company pay?"),
        ("Meet-ups are 1 week long.", "For Pay, how long are Meet-ups?"),
        (
            "If you become a parent, you can take up to 16 weeks leave.",
            "How many weeks of leave can you take if you become a parent?",
        ),
        (
            "The company matches 50% of your contributions up to 6% of salary.",
            "What percentage of your contributions does the company match?",
        ),
        ("There is a 7-day waiting period for claims.", "How long is the waiting period for claims?"),
        ("The entire staff gathers in person twice a year.", "How often does the entire staff gather in person?"),
    ],
)
def test_amounts(text: str, question: str) -> None:
    [asked] = paragraph("amounts", text)
    assert asked.removeprefix("For Pay, ").lower() == question.removeprefix("For Pay, ").lower()


@pytest.mark.parametrize(
    "text",
    [
        "They can take ten days of leave.",
        "We have 4 mechanisms for doing that.",
        "The bank has 10 customers.",
        "You can choose one of the plans.",
        "You can carry over five days of unused leave.",
        "The company carries over five days of unused leave.",
        "The company pays 10% of the cost opted out, as agreed.",
    ],
)
def test_amounts_without_a_clear_subject_or_count(text: str) -> None:
    assert paragraph("amounts", text) == []


def test_dates() -> None:
    assert paragraph("dates", "Open enrollment is in November every year.") == ["For Pay, when is open enrollment?"]
    assert paragraph("dates", "The Radford data is reviewed once per year at the end of November.") == [
        "When is the Radford data reviewed?"
    ]
    assert paragraph("dates", "It was founded in 1999.") == []
    assert paragraph("dates", "We do not hold reviews in December.") == []
    assert paragraph("dates", "The Lisbon headquarters were built from 1950 to 1960.") != []


@pytest.mark.parametrize(
    "text",
    [
        "The annual membership fee was raised from 1500 to 2000.",
        "The office headcount was reduced by 1600.",
        "Annual capacity was increased from 1600 to 1900.",
        "The annual headcount of staff fell by about 1600.",
    ],
)
def test_an_amount_is_no_year(text: str) -> None:
    assert paragraph("dates", text) == []


def test_reasons_invert_only_what_they_understand() -> None:
    assert paragraph("reasons", "Government bonds are safe because the state repays them.") == [
        "For Pay, why are government bonds safe?"
    ]
    assert paragraph("reasons", "This is important because prices rise.") == []
    assert paragraph("reasons", "Bonds are safe not because of luck.") == []
    assert paragraph("reasons", "Bonds are faster because of this change.") == []
    assert paragraph("reasons", "A slump is a state where, because of fear, nobody buys.") == []
    assert paragraph("reasons", "Low-income lands have typically lower costs because they save.") == []


def test_conditions() -> None:
    asked = paragraph("conditions", "If you lose your card, you must call the bank.")
    assert asked == ["For Pay, what should you do if you lose your card?"]
    assert paragraph("conditions", "If it happens, you must call the bank.") == []
    assert paragraph("conditions", "If you do not, someone else does.") == []
    assert paragraph("conditions", "If you work in one of the following states, you may qualify.") == []
    assert paragraph("conditions", "If taxes and spending are equal, it has a balanced budget.") == []
    assert paragraph("conditions", "If the node is the root, a parent is made.") == []  # what node?
    assert paragraph("conditions", "If prices rise by 10%, buyers leave the shop.") == []
    assert paragraph("conditions", "If prices rise, sellers still earn more.") == []


def test_howto_and_steps() -> None:
    assert paragraph("howto", "To install the tool, run the installer.") == ["For Pay, how do you install the tool?"]
    assert paragraph("howto", "To do this, run the installer.") == []
    steps = [("step", "Open the app."), ("step", "Choose a plan."), ("step", "Press Save.")]
    assert found("howto", *steps, heading="How to enroll") == [
        ("How do you enroll?", "Open the app.\nChoose a plan.\nPress Save.")
    ]
    assert found("howto", ("step", "A side gig for a friend."), ("step", "A talk now and then."), heading="Fine") == []


def test_faq_headings_and_pairs() -> None:
    text = "Refunds take five days. Ask support for help."
    assert found("faq", ("paragraph", text), heading="How long do refunds take?") == [
        ("How long do refunds take?", text)
    ]
    pair = [("paragraph", "Q: Can I return it unused?"), ("paragraph", "A: Yes, within a month.")]
    assert found("faq", *pair) == [("Can I return it unused?", "Yes, within a month.")]


def test_a_heading_over_a_list_is_answered_with_all_of_it() -> None:
    browsers = [("item", name) for name in ("Firefox", "Chrome", "Safari")]
    heading = "Which browsers are supported?"
    assert found("faq", *browsers, heading=heading) == [(heading, "Firefox\nChrome\nSafari")]
    assert found("faq", *[("item", "x" * 200)] * 2, heading=heading) == []
    apart = [*browsers, ("code", "x = 1"), *browsers]
    assert found("faq", *apart, heading=heading) == []


@pytest.mark.parametrize(
    ("question", "inside"),
    [
        ("what is the plan", "what the plan is"),
        ("what are the benefits for new employees", "what the benefits for new employees are"),
        ("where is New York", "where New York is"),
        ("who are you", ""),
        ("who is eligible for parental leave", ""),
        ("what is included in the dental plan", ""),
        ("where is customer data stored", ""),
        ("where is the customer data stored", ""),
        ("where is the plan valid", ""),
        ("what is Queenbee used for", ""),
        ("what is the office like", ""),
        ("what is open source", ""),
    ],
)
def test_an_indirect_question_is_made_of_a_name_or_a_definite_phrase(question: str, inside: str) -> None:
    assert indirect(question) == inside


def test_items_glossary_value_and_entry() -> None:
    glossary = [("item", "asset: a thing that a firm owns"), ("item", "debt: a sum that a firm owes")]
    assert found("items", *glossary, heading="Glossary")[0] == (
        'In Staff Guide, what is "asset"?',
        "a thing that a firm owns",
    )
    prices = [("item", "Employee-only coverage: $96.05"), ("item", "Family coverage: $287.65")]
    assert found("items", *prices)[0] == ("For Pay, how much is the employee-only coverage?", "$96.05")
    notes = [("item", "Note: be quick"), ("item", "Example: a bird")]
    assert found("items", *notes) == []


def test_a_table_asks_by_row_and_column() -> None:
    cells = [
        ("cell", "Mastery", "Category", ""),
        ("cell", "Knows all of the products. Skilled in tools.", "Senior Tester (L3)", "Mastery"),
        ("cell", "Paris", "Capital", "France"),
    ]
    assert found("tables", *cells) == [
        ("What does Mastery mean for a Senior Tester (L3)?", "Knows all of the products. Skilled in tools."),
        ("In Pay, what is the Capital for France?", "Paris"),
    ]


@pytest.mark.parametrize("label", ["Ships to Canada", "Included?", "How many users", "Requires a card", "Good for"])
def test_a_header_that_is_no_noun_is_quoted(label: str) -> None:
    shown = label.rstrip("?")
    assert found("tables", ("cell", "5", label, "Basic"), ("cell", "5", "Price", label)) == [
        (f'In Pay, what stands under "{shown}" for Basic?', "5"),
        (f'In Pay, what is the Price for "{shown}"?', "5"),
    ]


def test_coverage_starts_where_a_sentence_stands_alone() -> None:
    text = "However, this may change. Staff members meet in a different city every time."
    answers = found("coverage", ("paragraph", text), heading="Meet-ups")
    assert answers[0] == (
        "What does the Staff Guide say about Meet-ups?",
        "Staff members meet in a different city every time.",
    )


def test_first_person_gives_up_when_unsure() -> None:
    assert first_person("what happens if you're sick and lose your card") == "what happens if I'm sick and lose my card"
    assert first_person("how many days are you given") == "how many days am I given"
    assert first_person("how long the period is") == ""
    assert first_person("what the thing you") == ""


def test_names_keep_their_capitals() -> None:
    document = build(("heading1", "Staff Guide"), ("paragraph", "The paid time off is short. Queenbee pays."))
    known = next(iter(places([document]))).known
    assert lower_first("Paid Time Off", known) == "paid time off"
    assert lower_first("Queenbee", known) == "Queenbee"
    assert lower_first("Family Leave Insurance", known) == "Family Leave Insurance"
    assert noun_like("Paid Time Off")
    assert not noun_like("Remotely")
    assert not noun_like("With managers of one")


def test_code_is_shown_where_it_fits() -> None:
    asked = "What code is shown under pay?"
    assert found("code", ("code", "pay run --month 5")) == [(asked, "pay run --month 5")]
    assert found("code", ("paragraph", "import pay from the_firm")) == [(asked, "import pay from the_firm")]
    assert found("code", ("paragraph", "Imports of pay are rare.")) == []
    assert found("code", ("code", "x = 1\n" * 100)) == []
    assert found("code", ("code", "----")) == []


def test_a_list_of_open_questions_is_asked_about() -> None:
    asked = [("item", "Should the app copy itself?"), ("item", "Should it stop on its own?")]
    questions = [question for question, _ in found("coverage", *asked, heading="Open points")]
    assert "What does Open points ask first?" in questions or any("ask first" in q for q in questions)


BODY = ("paragraph", "Pay is monthly for all staff.")


def test_among_many_documents_a_heading_alone_names_nothing() -> None:
    few, many = (
        [
            build(("heading1", f"Guide {n}"), ("heading2", f"Wages of team {n}"), BODY, source=f"{n}.md")
            for n in range(count)
        ]
        for count in (49, 50)
    )
    assert next(iter(places(few))).name == "Wages of team 0"
    assert next(iter(places(many))).name == "Wages of team 0 in Guide 0"


def test_a_question_names_its_section_unless_it_says_enough() -> None:
    plain = "Government bonds are rated low-risk by brokers because the state repays them in any case."
    assert paragraph("reasons", plain) == ["Why are government bonds rated low-risk by brokers?"]

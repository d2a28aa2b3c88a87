"""The split by fact: what may share a side, how much goes where, and that planted leaks are caught."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from tinyforge.config import DatasetConfig
from tinyforge.dataset.split import check_leaks, split, without_answers_of
from tinyforge.errors import InputError
from tinyforge.records import Example, Message, Span

CONFIG = DatasetConfig()  # type: ignore[call-arg]


def example(fact: int, wording: int, answer: str = "", span: tuple[int, int] | None = None) -> Example:
    text = answer or f"answer{fact} alpha{fact} beta{fact}"
    where = span or (fact * 100, fact * 100 + 50)
    return Example(
        id=f"{fact}-{wording}",
        messages=(Message("user", f"{'abcdefghijklmnopqrstuvwxyz'[wording] * 12} {fact}?"), Message("assistant", text)),
        evidence=(Span("doc", *where),),
        fact=f"fact{fact}",
        rule="definition" if fact % 2 else "table",
        metadata={"wording": wording},
    )


def rows(facts: int, wordings: int = 16) -> list[Example]:
    return [example(fact, wording) for fact in range(facts) for wording in range(wordings)]


def parts(examples: list[Example]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for row in examples:
        found[row.fact].add(row.split)
    return found


def test_shares_and_wordings() -> None:
    result = split(rows(100), CONFIG, 42)
    held_out = {fact for fact, names in parts(result.examples).items() if "documents" in names}
    trained = {fact for fact, names in parts(result.examples).items() if "train" in names}
    # 20 facts at least are tested of a hundred; 6% watch the training; 74 are trained.
    assert (len(held_out), len(trained)) == (20, 74)
    counts = result.counts()
    assert counts == {"documents": 40, "wordings": 74 * 2, "dev": 74 + 6 * 2, "train": 74 * 13}
    assert len(result.dropped) == 26 * 14
    assert {len(names) for names in parts(result.examples).values()} <= {1, 3}
    assert check_leaks(result.examples) == []


def test_a_trained_wording_that_nearly_repeats_a_tested_one_is_left_out() -> None:
    """Of a fact's wordings the first two are tested; the third differs from the second by one letter."""
    given = rows(100)
    asked = (
        "What does it cost to borrow a ladder?",
        "How much is a ladder by the day?",
        "how much is a ladder by the days",
    )
    for number, text in enumerate(asked):
        place = next(i for i, row in enumerate(given) if row.id == f"7-{number}")
        given[place] = replace(given[place], messages=(Message("user", text), given[place].messages[-1]))
    result = split(given, CONFIG, 42)
    kept = {row.id: row.split for row in result.examples}
    assert kept["7-0"] == kept["7-1"] == "wordings"
    assert "7-2" not in kept and sum(name == "train" for id_, name in kept.items() if id_.startswith("7-")) == 12
    assert {row.reason for row in result.dropped if row.id == "7-2"} == {"nearly a wording of the other side"}


def test_every_rule_is_tested_in_proportion() -> None:
    result = split(rows(100), CONFIG, 42)
    tested = [row.rule for row in result.examples if row.split == "documents"]
    assert abs(tested.count("table") - tested.count("definition")) <= 4


def test_facts_that_share_something_stay_together() -> None:
    examples = rows(40)
    words = " ".join(f"word{i}" for i in range(8))
    examples += [example(50, w, span=(105, 110)) for w in range(16)]  # inside the evidence of fact 1
    examples += [example(51, w, answer="Answer2, ALPHA2 beta2!") for w in range(16)]  # the answer of fact 2
    examples += [example(52, w, answer=f"one {words} two") for w in range(16)]
    examples += [example(53, w, answer=f"three {words} four") for w in range(16)]
    for seed in range(5):
        cluster = {row.fact: row.cluster for row in split(examples, CONFIG, seed).examples}
        assert cluster["fact50"] == cluster["fact1"]
        assert cluster["fact51"] == cluster["fact2"]
        assert cluster["fact52"] == cluster["fact53"]
        assert cluster["fact3"] != cluster["fact4"]


def test_seven_shared_words_are_no_cluster() -> None:
    words = " ".join(f"word{i}" for i in range(7))
    examples = rows(20) + [example(50 + n, w, answer=f"x{n} {words} y{n}") for n in range(2) for w in range(16)]
    cluster = {row.fact: row.cluster for row in split(examples, CONFIG, 1).examples}
    assert cluster["fact50"] != cluster["fact51"]


def test_same_seed_same_split() -> None:
    assert split(rows(30), CONFIG, 7) == split(rows(30), CONFIG, 7)
    assert split(rows(30), CONFIG, 7).examples != split(rows(30), CONFIG, 8).examples


def test_few_wordings_are_trained_first() -> None:
    assert split(rows(20, wordings=1), CONFIG, 1).counts() == {"train": 17, "documents": 2, "dev": 1}
    two = split(rows(20, wordings=2), CONFIG, 1).counts()
    assert two == {"train": 17, "wordings": 17, "documents": 4, "dev": 2}


def test_a_trained_question_is_no_test() -> None:
    examples = rows(20)
    same = [replace(row, messages=(Message("user", "Same question"), row.messages[1])) for row in examples]
    result = split(same, CONFIG, 1)
    assert {row.split for row in result.examples} == {"train"}
    assert any(d.reason == "the same question is trained" for d in result.dropped)


def test_a_cluster_too_large_to_test_is_trained() -> None:
    chained = [example(fact, w, span=(fact * 10, fact * 10 + 15)) for fact in range(30) for w in range(16)]
    apart = [example(fact, w) for fact in range(100, 110) for w in range(16)]
    result = split(chained + apart, CONFIG, 3)
    assert all("train" in parts(result.examples)[f"fact{fact}"] for fact in range(30))


@pytest.mark.parametrize("examples", [[], rows(7)])
def test_too_few_facts(examples: list[Example]) -> None:
    with pytest.raises(InputError, match="too few to test honestly") as failure:
        split(examples, CONFIG, 1)
    assert failure.value.fix


def test_no_cluster_small_enough_to_test() -> None:
    pairs = [example(fact, 0, span=(fact // 2 * 100, fact // 2 * 100 + 9)) for fact in range(16)]
    small = DatasetConfig(test_fraction=0.01, dev_fraction=0.01)  # type: ignore[call-arg]
    with pytest.raises(InputError, match="too closely"):
        split(pairs, small, 1)


WORDS = " ".join(f"w{i}" for i in range(13))


def planted(**change: object) -> list[Example]:
    clean = split(rows(20), CONFIG, 1).examples
    train = next(row for row in clean if row.split == "train")
    index = next(i for i, row in enumerate(clean) if row.split == change.get("where", "documents"))
    row = clean[index]
    if change["leak"] == "cluster":
        row = replace(row, cluster=train.cluster)
    elif change["leak"] == "fact":
        row = replace(row, fact=train.fact)
    elif change["leak"] == "evidence":
        span = train.evidence[0]
        row = replace(row, evidence=(Span(span.document, span.end - 1, span.end + 5),))
    elif change["leak"] == "answer":
        taught = replace(train, id="taught", messages=(Message("user", "New?"), Message("assistant", f"a {WORDS} b")))
        clean = [*clean, taught]
        row = replace(row, messages=(row.messages[0], Message("assistant", f"c {WORDS.upper()} d")))
    else:
        row = replace(row, messages=(Message("user", train.question.upper().rstrip("?")), row.messages[1]))
    clean[index] = row
    return clean


@pytest.mark.parametrize(
    ("leak", "where", "said"),
    [
        ("cluster", "documents", "cluster"),
        ("fact", "documents", "fact fact"),
        ("evidence", "documents", "evidence doc["),
        ("answer", "documents", "share 'w0 w1"),
        ("question", "documents", "documents asks a trained question"),
        ("question", "wordings", "wordings asks a trained question"),
    ],
)
def test_planted_leaks_are_found(leak: str, where: str, said: str) -> None:
    problems = [problem for problem in check_leaks(planted(leak=leak, where=where)) if "in dev" not in problem]
    assert len(problems) == 1
    assert said in problems[0]


def test_a_dev_cluster_in_documents_is_found() -> None:
    clean = split(rows(20), CONFIG, 1).examples
    dev = next(row for row in clean if row.split == "dev" and "train" not in parts(clean)[row.fact])
    index = next(i for i, row in enumerate(clean) if row.split == "documents")
    clean[index] = replace(clean[index], cluster=dev.cluster)
    assert check_leaks(clean) == [f"cluster {dev.cluster} is in dev and in documents."]


def test_reading_rows_whose_passages_hold_a_held_out_answer_are_left_out() -> None:
    held = [example(1, 0, answer="£0.50"), example(2, 0, answer="blue")]
    prompts = ("[1] A fine of £0.50 a day.", "[1] A fine of £50 a day.", "[1] The blue key.")
    reading = [
        replace(example(3, n), messages=(Message("user", p), Message("assistant", "x"))) for n, p in enumerate(prompts)
    ]
    kept, dropped = without_answers_of(held, reading)
    assert [row.id for row in kept] == ["3-1", "3-2"]
    assert sum(dropped.values()) == 1

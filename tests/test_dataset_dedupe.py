"""Copies are left out with their twin named, and a split shares nothing that its parts could give away."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinyforge.cli import main
from tinyforge.dataset.components import components
from tinyforge.dataset.dedupe import dedupe, twins
from tinyforge.dataset.divide import Wish, divide
from tinyforge.dataset.languages import language
from tinyforge.dataset.quality import difficulty_of, entropy, grounding, is_clear, is_complete, near_duplicates
from tinyforge.dataset.shapes import read_row
from tinyforge.dataset.similar import bands_for, jaccard, near_pairs, shingles, words
from tinyforge.dataset.topics import group, names
from tinyforge.dataset.validate import answer_grams, validate
from tinyforge.errors import InputError
from tinyforge.records import Document, Example, Message, Span
from tinyforge.run import read_jsonl

Out = pytest.CaptureFixture[str]
WORDS = (
    "saw drill ladder lathe plane file vice rasp hammer chisel level clamp bench apron glove torch cable hook".split()
)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(asked: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"question": asked, "answer": answer, **more}


def examples(*rows: dict[str, Any]) -> list[Example]:
    return [read_row(row)[1] for row in rows]


def test_jaccard_by_hand_and_pairs_against_all_pairs() -> None:
    assert shingles(words("A b, c d!"), 3) == {"a b c", "b c d"} and words("日本 go") == ["日", "本", "go"]
    assert jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    rng = random.Random(1)
    texts = [" ".join(rng.choices(WORDS, k=30)) for _ in range(150)]
    for text in texts[:60]:  # one word of each changed, or one left out
        cut = text.split()
        cut[rng.randrange(30)] = "new"
        texts.append(" ".join(cut))
        texts.append(text.rpartition(" ")[0])
    sets = [shingles(words(text), 3) for text in texts]
    expected = {(i, j) for j in range(len(texts)) for i in range(j) if jaccard(sets[i], sets[j]) >= 0.8}
    found = near_pairs(texts, 0.8)
    assert len(expected) > 60 and {(a, b) for a, b, _ in found} == expected
    assert all(similarity == jaccard(sets[a], sets[b]) for a, b, similarity in found)
    bands, rows = bands_for(0.8)
    assert 1 - (1 - 0.8**rows) ** bands >= 0.99 and bands * rows <= 128


def test_twins_are_named_and_numbers_and_labels_tell_rows_apart() -> None:
    long = "the library lends saws, drills, ladders, lathes, planes and files to every member for a week at most"
    rows = examples(
        pair("What is lent?", long),
        pair("what is LENT", f"{long}!"),
        pair("What is lent?", f"{long} and free"),
        pair("What is lent in room 2?", f"{long} 2"),
        pair("What is lent in room 3?", f"{long} 3"),
    )
    found = [(twin.index, twin.of, twin.how) for twin in twins(rows, 0.8)]
    assert found == [(1, 0, "exact copy"), (2, 0, "near copy")]
    labelled = examples({"text": long, "label": "a"}, {"text": long, "label": "b"})
    assert twins(labelled, 0.8) == []


def test_meaning_by_hand() -> None:
    rows = examples(pair("One?", "alpha"), pair("Two?", "beta"), pair("Three?", "gamma"))
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    assert [(t.index, t.of, t.how) for t in twins(rows, 0.8, 0.75, lambda _: vectors)] == [(2, 1, "same meaning")]
    assert twins(rows, 0.8, 0.85, lambda _: vectors) == []


def test_dedupe_writes_rows_and_a_ledger(tmp_path: Path, capsys: Out) -> None:
    source = write(
        tmp_path / "a.jsonl", pair("Q?", "A b c.", x=1), pair("q", "a, b, c", x=2), pair("R?", "D"), {"y": 1}
    )
    done = dedupe(source, tmp_path / "b.jsonl", 0.8)
    assert [row["x"] for row in read_jsonl(tmp_path / "b.jsonl") if "x" in row] == [1] and done.written == 2
    twin = {"row": "a.jsonl:2", "twin": "a.jsonl:1", "how": "exact copy", "similarity": 1.0}
    assert list(read_jsonl(tmp_path / "b.dropped.jsonl")) == [twin] and len(done.dropped) == 1
    assert main(["data", "dedupe", str(source), "--out", str(tmp_path / "c.jsonl")]) == 0
    assert "a.jsonl:2: exact copy of a.jsonl:1 (1.00)" in capsys.readouterr().out


def rows_of_facts(facts: int, wordings: int) -> list[dict[str, Any]]:
    rng = random.Random(5)
    answers = [" ".join(rng.choices(WORDS, k=16)) + f" {n}" for n in range(facts)]
    return [
        pair(f"Ask {rng.random()} {n} {w}?", answers[n], key=f"k{n}") for n in range(facts) for w in range(wordings)
    ]


def parts(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: list(read_jsonl(folder / f"{name}.jsonl")) for name in ("train", "dev", "test")}


def test_a_split_keeps_groups_whole_and_every_row(tmp_path: Path) -> None:
    rows = rows_of_facts(40, 4)
    done = divide(write(tmp_path / "a.jsonl", *rows), tmp_path / "out", Wish())
    found = parts(tmp_path / "out")
    assert done.rows == {"train": 128, "dev": 16, "test": 16} and done.shared_13_grams == 0
    keys = [{row["key"] for row in found[name]} for name in found]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert sorted(json.dumps(r) for p in found.values() for r in p) == sorted(map(json.dumps, rows))
    again = divide(write(tmp_path / "b.jsonl", *reversed(rows)), tmp_path / "out2", Wish())
    assert again.rows == done.rows
    assert {r["key"] for r in parts(tmp_path / "out2")["test"]} == keys[2]  # whatever the order of the rows
    other = divide(tmp_path / "a.jsonl", tmp_path / "out3", Wish(seed=1))
    assert {r["key"] for r in parts(tmp_path / "out3")["test"]} != keys[2] and other.rows["test"] == 16
    files = [tmp_path / "out" / f"{name}.jsonl" for name in ("train", "test")]
    assert not validate(files).counts.get("test leakage")


def test_a_random_split_by_row_would_leak(tmp_path: Path) -> None:
    """The control: the same rows, dealt one by one, share answers between the sides."""
    rows = rows_of_facts(40, 4)
    random.Random(0).shuffle(rows)
    files = [write(tmp_path / "train.jsonl", *rows[16:]), write(tmp_path / "test.jsonl", *rows[:16])]
    assert validate(files).counts["test leakage"] >= 10


def test_the_check_moves_what_shares_thirteen_words(tmp_path: Path) -> None:
    shared = " ".join(f"w{i}" for i in range(13))
    rng = random.Random(3)

    def filler() -> str:
        return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(60))

    # Each answer of the first thirty holds the run amid other text: too different to be near copies.
    rows = [pair(f"Q{i} {rng.random()}?", f"{filler()} {shared} {filler()}" if i < 30 else filler()) for i in range(60)]
    done = divide(write(tmp_path / "a.jsonl", *rows), tmp_path / "out", Wish(test=0.2, dev=0.0))
    found = parts(tmp_path / "out")
    assert done.moved > 0 and done.shared_13_grams == 0 and found["test"]
    assert not any(shared in row["answer"] for row in found["test"])
    grams = [{g for row in found[name] for g in answer_grams(read_row(row)[1])} for name in ("train", "test")]
    assert not grams[0] & grams[1]


def test_time_and_group_columns(tmp_path: Path) -> None:
    rows = [pair(f"Q{i} {WORDS[i % 17]}?", f"{WORDS[i % 17]} {i}", day=f"2024-01-{i + 1:02d}") for i in range(30)]
    divide(write(tmp_path / "a.jsonl", *rows), tmp_path / "t", Wish(time="day"))
    found = {name: [row["day"] for row in part] for name, part in parts(tmp_path / "t").items()}
    assert max(found["train"]) < min(found["dev"]) <= max(found["dev"]) < min(found["test"])
    assert found["test"] == ["2024-01-28", "2024-01-29", "2024-01-30"]
    grouped = [{**row, "who": i % 6} for i, row in enumerate(rows)]
    divide(write(tmp_path / "b.jsonl", *grouped), tmp_path / "g", Wish(test=0.2, dev=0.2, group="who"))
    sides = [{row["who"] for row in part} for part in parts(tmp_path / "g").values()]
    assert sum(map(len, sides)) == 6 and set.union(*sides) == set(range(6))


def test_a_split_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *(pair(f"Q{i}?", f"A{i}", who=1) for i in range(9)))
    with pytest.raises(InputError, match="9 rows form 1 groups"):
        divide(path, tmp_path / "out", Wish(group="who"))
    with pytest.raises(InputError, match="no row has a field 'whom'"):
        divide(path, tmp_path / "out", Wish(group="whom"))
    with pytest.raises(InputError, match="leave nothing to train"):
        divide(path, tmp_path / "out", Wish(test=0.6, dev=0.5))
    with pytest.raises(InputError, match="holds no time"):
        divide(write(tmp_path / "b.jsonl", pair("Q?", "A", at="soon")), tmp_path / "out", Wish(time="at"))
    assert not (tmp_path / "out").exists()


def test_components_by_hand() -> None:
    assert components("abcdef", [("a", "c"), ("d", "e"), ("c", "e")]) == [["a", "c", "d", "e"], ["b"], ["f"]]


def test_quality_by_hand() -> None:
    assert entropy({"a": 5, "b": 5}) == pytest.approx(1.0) and entropy({"a": 5, "b": 5}, 4) == pytest.approx(0.5)
    assert entropy({"a": 9}) == 1.0
    assert [is_clear(q) for q in ("What is a lathe?", "What does the passage say?", "What is it?", "Why?")] == [
        True, False, False, False,
    ]  # fmt: skip
    assert [is_complete(a) for a in ("A saw.", "A saw and", "A saw (old", "42", "", "```\nx")] == [
        True, False, False, True, False, False,
    ]  # fmt: skip
    document = Document("d", "A loan is a promise to bring it back.", (), "a.md")
    row = Example("1", (Message("user", "Q?"), Message("assistant", "A loan is free")), (Span("d", 0, 9),), "f")
    assert grounding(row, {"d": document}) == 3 / 4 and grounding(row, {}) is None
    assert difficulty_of(row) == "lookup"
    two = [row, Example("2", row.messages, (), "f"), Example("3", row.messages, (), "g")]
    figures = near_duplicates(two)
    assert (figures["pairs"], figures["share_of_pairs"], figures["share_of_facts"]) == (3, 1.0, 0.5)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The library is open on Monday and the members can bring the tools back to the desk."),
        ("de", "Die Bibliothek ist am Montag geöffnet und die Mitglieder können das Werkzeug nicht behalten."),
        ("fr", "La bibliothèque est ouverte le lundi et les membres ne peuvent pas garder les outils."),
        ("es", "La biblioteca está abierta los lunes y los socios no pueden quedarse con las herramientas."),
        ("it", "La biblioteca è aperta il lunedì e i soci non possono tenere gli attrezzi per sempre."),
        ("nl", "De bibliotheek is open op maandag en de leden mogen het gereedschap niet houden."),
        ("ru", "Библиотека открыта в понедельник, и члены могут вернуть инструменты."),
        ("ja", "図書館は月曜日に開いています。"),
        ("zh", "图书馆星期一开放。"),
        ("ko", "도서관은 월요일에 엽니다."),
        ("unknown", "lathe saw 42"),
    ],
)
def test_languages(code: str, text: str) -> None:
    assert language(text) == code


def test_topics_are_groups_of_like_vectors() -> None:
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    vectors = np.repeat(centres, 6, axis=0) + rng.normal(0, 0.05, (18, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = group(vectors, 0)
    assert [len(set(groups[i : i + 6].tolist())) for i in (0, 6, 12)] == [1, 1, 1] and len(set(groups.tolist())) == 3
    called = names([*["wooden lathe"] * 6, *["metal saw drill"] * 6, *["paper books"] * 6], groups)
    assert "lathe" in called[0] and "books" in called[17] and called[0] == called[5]


def test_stats_count_what_is_there(tmp_path: Path, capsys: Out) -> None:
    rows = [
        {"text": "Write to anna@example.org about the shitty drill of the library and the saw.", "label": "bad"},
        *(
            {"text": f"The {word} of the library is a good tool to have at home.", "label": "good"}
            for word in WORDS[:3]
        ),
    ]
    path = str(write(tmp_path / "a.jsonl", *rows))
    assert main(["data", "stats", path, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["rows"], said["labels"], said["personal_data"]) == (4, {"good": 3, "bad": 1}, {"EMAIL": 1})
    assert said["rude_words"] == {"shitty": 1} and said["languages"] == {"en": 4}
    assert said["label_balance"] == pytest.approx(0.8113) and said["top_3_grams"]["of the library"] == 4
    assert said["lengths"]["words given"]["longest"] == 15
    assert main(["data", "stats", path]) == 0
    assert "labels    good 3, bad 1 · balance 0.81 of 1" in capsys.readouterr().out

"""What is wrong with training data is found at its line, what is safe is mended, and nothing else is touched."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tinyforge.cli import main
from tinyforge.dataset.labels import typos, variants
from tinyforge.dataset.mending import clean, fix
from tinyforge.dataset.repairs import CLEANING, drop_controls, drop_markup, mend, mend_encoding
from tinyforge.dataset.validate import Validation, validate
from tinyforge.errors import InputError
from tinyforge.run import read_jsonl

Out = pytest.CaptureFixture[str]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def chat(asked: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], **more}


def found(*paths: Path) -> list[tuple[str, str]]:
    return [(problem.place.rpartition(":")[2], problem.kind) for problem in validate(paths).problems]


GOOD = (chat("What is a loan?", "A loan is a promise."), chat("Who lends?", "The library lends."))


def test_good_rows_have_no_problems(tmp_path: Path) -> None:
    result = validate([write(tmp_path / "a.jsonl", *GOOD)])
    assert (result.problems, result.rows, result.usable, dict(result.kinds)) == ([], 2, 2, {"chat": 2})


DEFECTS = {
    "unusable row": chat("Why?", ""),
    "encoding damage": chat("Why now?", "Itâ€™s a cafÃ©."),
    "control characters": chat("Why\x00 then?", "So."),
    "HTML residue": chat("Why this?", "<p>Fish &amp; chips</p>"),
    "not in Unicode NFC": chat("Why that?", unicodedata.normalize("NFD", "Café")),
    "lost characters": chat("Why here?", "A caf\ufffd."),
    "repeated row": GOOD[0],
    "turns of one role in a row": {"messages": [{"role": "user", "content": "Hm."}, *chat("Q?", "A.")["messages"]]},
    "system message in the middle": {
        "messages": [
            *chat("Q1?", "A1.")["messages"],
            {"role": "system", "content": "S"},
            *chat("Q2?", "A.")["messages"],
        ]
    },
    "answer says nothing": chat("Why not?", "N/A"),
    "only a link": chat("Where?", "https://example.org/a?b=c"),
    "answer repeats the question": chat("Where is it?", "Where is it"),
    "assistant's boilerplate": chat("Where to?", "As an AI language model, I do not travel."),
    "cut off": chat("Where else?", "The shed is behind the house, beside the tall old tree, and"),
    "conflicting answers": chat("What is a loan?", "A loan is a kind of saw."),
    "different kinds of rows": {"text": "Running text."},
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_each_planted_defect_is_found_at_its_line_and_nothing_else(tmp_path: Path, kind: str) -> None:
    assert found(write(tmp_path / "a.jsonl", *GOOD, DEFECTS[kind])) == [("3", kind)]


def test_what_looks_like_a_defect_and_is_none(tmp_path: Path) -> None:
    rows = [
        chat("How is a paragraph written in HTML?", "With `<p>` and `</p>`, and &amp; for an ampersand in html."),
        chat("Welche Umlaute gibt es?", "Die Zeichen „Ä“, „Ö“ und „Ü“; São Paulo; Ångström."),
        chat("Is 3 < 4?", "Yes: 3 < 4, and 5 > 2."),
        chat("How many?", "3"),
        chat("And the family?", "\U0001f468\u200d\U0001f469\u200d\U0001f467 are three."),
        chat("Show code", "```\nx = (1,\n```"),
        chat("Name a colour", "red and"),
    ]
    assert found(write(tmp_path / "a.jsonl", *rows)) == []


def test_an_id_used_twice_and_a_cut_at_one_length(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", *(chat(f"Q{i}?", f"{i} " + "word " * 49, id="x" if i < 2 else i) for i in range(4))
    )
    text = path.read_text().replace('word "', 'word"')
    path.write_text(text)
    assert found(path) == [("2", "several rows with one id"), *((str(i), "cut off") for i in (1, 2, 3, 4))]


def test_labels_by_hand() -> None:
    counts = {"positive": 40, "Positive": 2, "positve": 1, "negative": 30, "label 1": 40, "label 2": 1, "neg": 1}
    assert variants(counts) == {"Positive": "positive"}
    assert typos(counts) == {"positve": "positive"}
    assert typos({"positive": 4, "positve": 1}) == {}  # too few to tell a typo from a class


def test_a_test_that_training_gives_away(tmp_path: Path) -> None:
    run = "one two three four five six seven eight nine ten eleven twelve thirteen"
    train = write(tmp_path / "train.jsonl", *GOOD, chat("Count?", f"So: {run} and more."))
    leaky = write(
        tmp_path / "test.jsonl", chat("what is a LOAN", "Other."), chat("Say it", f"{run}!"), chat("New?", "Fresh.")
    )
    assert found(train, leaky) == [("1", "test leakage"), ("2", "test leakage")]
    short = write(tmp_path / "short.jsonl", chat("Say it", " ".join(run.split()[:12])))
    assert found(train, short) == []


def test_encoding_by_hand() -> None:
    for text in ("It’s “fine” – café, naïve, Ünïcödé €5", "Привет мир", "日本語テキスト", "👍 ok"):
        damaged = text.encode("utf-8").decode("latin-1")
        assert mend_encoding(damaged) == text
    assert mend_encoding("Itâ€™s") == "It’s" and mend_encoding("itÃ¢â‚¬â„¢s") == "it’s"  # once and twice over
    for text in ("Ça va à la fête", "„Ä“ ist ein Umlaut", "naïve café", "Ελλάδα", "Москва"):
        assert mend_encoding(text) == text


def test_repairs_change_nothing_the_second_time() -> None:
    for text in ("a\r\nb\x07 \x1b[31mred\x1b[0m", "<div><p>x&nbsp;&lt;y</p></div>", "itâ€™s e\u0301", "a  \n\n\n\nb  "):
        once = mend(text, CLEANING)[0]
        assert mend(once, CLEANING) == (once, [])
    assert drop_controls("a\r\nb\x07 \x1b[31mred\x1b[0m\u200b") == "a\nb red"
    assert drop_markup("<b>One</b><br>two &amp; three") == "One\ntwo & three"


def test_fix_mends_what_is_safe_keeps_fields_and_counts(tmp_path: Path) -> None:
    rows = [*GOOD, *(DEFECTS[k] for k in DEFECTS if k not in ("different kinds of rows", "conflicting answers"))]
    source = write(tmp_path / "a.jsonl", *({**row, "extra": 7} for row in rows))
    done = fix(source, tmp_path / "b.jsonl")
    assert dict(done.repairs) == {
        "encoding damage": 1, "control characters": 1, "HTML residue": 1, "not in Unicode NFC": 1,
        "turns of one role in a row": 1,
    }  # fmt: skip
    assert [(row.place, row.reason) for row in done.dropped] == [
        ("a.jsonl:3", "empty assistant message"), ("a.jsonl:9", "repeats a row"),
    ]  # fmt: skip
    mended = list(read_jsonl(tmp_path / "b.jsonl"))
    assert len(mended) == done.written == len(rows) - 2 and all(row["extra"] == 7 for row in mended)
    assert mended[:2] == [{**row, "extra": 7} for row in GOOD]
    assert mended[2]["messages"][1]["content"] == "It’s a café."
    left = {kind for _, kind in found(tmp_path / "b.jsonl")}
    assert left.isdisjoint(done.repairs) and "lost characters" in left


def test_fix_takes_the_frequent_spelling_and_writes_csv_and_parquet(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("text,label\n" + "".join(f"row {i},good\n" for i in range(5)) + "row x,Good\n")
    for name in ("b.csv", "b.parquet", "b.jsonl"):
        assert fix(source, tmp_path / name).repairs == {"label spelt in several ways": 1}
        assert validate([tmp_path / name]).labels == {"good": 6}
    with pytest.raises(InputError, match="CSV has no form for the lists in 'messages'"):
        fix(write(tmp_path / "c.jsonl", *GOOD), tmp_path / "d.csv")
    assert not (tmp_path / "d.csv").exists()


def test_clean_takes_lines_out_that_many_rows_share(tmp_path: Path) -> None:
    rows = [chat(f"Q{i}?", f"Answer {i}.\n\nSent from my garden shed") for i in range(6)]
    done = clean(write(tmp_path / "a.jsonl", *rows, chat("Last?", "Sent from my garden shed")), tmp_path / "b.jsonl")
    answers = [row["messages"][1]["content"] for row in read_jsonl(tmp_path / "b.jsonl")]
    assert answers == [*(f"Answer {i}." for i in range(6)), "Sent from my garden shed"]
    assert done.repairs["boilerplate"] == 6
    few = clean(write(tmp_path / "c.jsonl", *rows[:4]), tmp_path / "d.jsonl")
    assert not few.repairs


def test_authors_lengths_move_with_the_text(tmp_path: Path) -> None:
    turns = [{"authors": ["Person-1", "Person-2"], "lengths": [7, 3]}, {"authors": ["Person-3"], "lengths": [2]}]
    row = chat("CafÃ© 1\nyes", "ok", from_chat={"conversation": "c", "start": 1, "end": 2, "turns": turns})
    fix(write(tmp_path / "a.jsonl", row), tmp_path / "b.jsonl")
    mended = next(iter(read_jsonl(tmp_path / "b.jsonl")))
    assert mended["messages"][0]["content"] == "Café 1\nyes"
    assert mended["from_chat"]["turns"][0]["lengths"] == [6, 3]


def test_every_format_is_validated_alike(tmp_path: Path) -> None:
    from datasets import Dataset
    from pyarrow import Table, parquet

    rows = [{"text": "A fine day.", "label": "good"}, {"text": "Itâ€™s bad.", "label": "bad"}]
    write(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.csv").write_text("text,label\nA fine day.,good\nItâ€™s bad.,bad\n")
    parquet.write_table(Table.from_pylist(rows), tmp_path / "a.parquet")
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    results: list[Validation] = [
        validate([tmp_path / name]) for name in ("a.jsonl", "a.json", "a.csv", "a.parquet", "saved")
    ]
    assert {tuple(result.counts.items()) for result in results} == {(("encoding damage", 1),)}
    assert {tuple(result.labels) for result in results} == {("good", "bad")}


def test_the_command_says_file_line_and_fix_and_its_exit_code(tmp_path: Path, capsys: Out) -> None:
    bad = str(write(tmp_path / "a.jsonl", *GOOD, DEFECTS["unusable row"], DEFECTS["encoding damage"]))
    assert main(["data", "validate", bad]) == 2
    out, err = capsys.readouterr()
    assert "a.jsonl:3: empty assistant message. Write the answer." in out and "a.jsonl:4" in out
    assert "--fix --out MENDED.jsonl" in out and "1 problems cannot be trained on" in err
    assert main(["data", "validate", bad, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["errors"] == 1 and {p["place"] for p in report["problems"]} == {"a.jsonl:3", "a.jsonl:4"}
    mended = str(tmp_path / "b.jsonl")
    assert main(["data", "validate", bad, "--fix", "--out", mended]) == 0
    assert "left out  1 rows" in capsys.readouterr().out
    assert main(["data", "validate", mended]) == 0
    assert "Nothing is wrong." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{a}", "--fix"], "--fix and --out belong together"),
        (["{a}", "{a}", "--fix", "--out", "x.jsonl"], "one file at a time"),
        (["{a}", "--fix", "--out", "{a}"], "is the input itself"),
        (["{a}", "--fix", "--out", "x.doc"], "rows are written as"),
        (["{a}.none"], "no such file or folder"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, capsys: Out, words: list[str], message: str) -> None:
    source = str(write(tmp_path / "a.jsonl", *GOOD))
    assert main(["data", "validate", *(word.replace("{a}", source) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1

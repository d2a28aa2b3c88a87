"""Every shape and format is read; a bad row is named, the rest kept; a question is never on both sides of a split."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from pyarrow import parquet

from tinyforge.dataset.holdout import hold_out
from tinyforge.dataset.rows import RowSet, read_rows
from tinyforge.errors import InputError
from tinyforge.records import Example, Message

U, A, S = "user", "assistant", "system"


def said(example: Example) -> list[tuple[str, str]]:
    return [(m.role, m.content) for m in example.messages]


def lines(folder: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return path


def pairs(count: int) -> list[dict[str, str]]:
    return [{"input": f"What is {i}?", "output": f"It is {i}."} for i in range(count)]


CHAT = [{"role": U, "content": "Hi"}, {"role": A, "content": "Yes"}]
SHAPES: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "input/output": ({"input": "Hi", "output": "Yes"}, [(U, "Hi"), (A, "Yes")]),
    "instruction/input/output": (
        {"instruction": "Add.", "input": "1 and 2", "output": 3, "system": "Be brief."},
        [(S, "Be brief."), (U, "Add.\n\n1 and 2"), (A, "3")],
    ),
    "messages": (
        {"messages": [{"role": S, "content": ""}, *CHAT]},
        [(S, ""), (U, "Hi"), (A, "Yes")],
    ),
    "conversations": (
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]},
        [(U, "Hi"), (A, "Yes")],
    ),
    "prompt/completion": ({"prompt": CHAT[:1], "completion": CHAT[1:]}, [(U, "Hi"), (A, "Yes")]),
    "question/answer": ({"Question": "Hi", " answer": "Yes"}, [(U, "Hi"), (A, "Yes")]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_chat_shape_by_hand(tmp_path: Path, name: str) -> None:
    row, expected = SHAPES[name]
    found = read_rows(lines(tmp_path, row))
    assert found.shapes == {name: 1} and found.kind == "chat" and found.dropped == []
    assert said(found.examples[0]) == expected
    assert found.examples[0].metadata == {"source": "data.jsonl", "line": 1}


def test_an_alpaca_row_without_input_and_a_completion_as_text(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Sing.", "input": "", "output": "La"},
        {"prompt": "One", "completion": " two"},
        {"messages": [{"role": U, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, CHAT[1]]},
    ]
    found = read_rows(lines(tmp_path, *rows))
    assert [said(e) for e in found.examples] == [
        [(U, "Sing."), (A, "La")],
        [(U, "One"), (A, " two")],
        [(U, "ab"), (A, "Yes")],
    ]
    assert found.shapes == {"instruction/input/output": 1, "prompt/completion": 1, "messages": 1}


def test_preferences_in_their_three_forms_say_the_same(tmp_path: Path) -> None:
    good, bad = {"role": A, "content": "Yes"}, {"role": A, "content": "No"}
    forms = [
        {"prompt": "Hi", "chosen": "Yes", "rejected": "No"},
        {"prompt": CHAT[:1], "chosen": [good], "rejected": [bad]},
        {"chosen": [CHAT[0], good], "rejected": [CHAT[0], bad]},
    ]
    read = [read_rows(lines(tmp_path, form)).examples[0] for form in forms]
    assert {(e.kind, e.id, e.rejected, *said(e)) for e in read} == {
        ("preference", read[0].id, "No", (U, "Hi"), (A, "Yes"))
    }
    wrong = [
        {"chosen": "Yes", "rejected": "No"},
        {"prompt": "Hi", "chosen": "Yes", "rejected": "Yes"},
        {"chosen": [CHAT[0], good], "rejected": [{"role": U, "content": "Ho"}, bad]},
        {"prompt": "Hi", "completion": "No", "label": False},
    ]
    found = read_rows(lines(tmp_path, forms[0], *wrong))
    assert [str(row) for row in found.dropped] == [
        "data.jsonl:2: a preference without a prompt",
        "data.jsonl:3: chosen and rejected are the same",
        "data.jsonl:4: chosen and rejected differ before their last answer",
        "data.jsonl:5: a single answer marked good or bad; give pairs with chosen and rejected",
    ]


def test_text_and_labels(tmp_path: Path) -> None:
    text = read_rows(lines(tmp_path, {"text": " A story.\n"})).examples[0]
    assert (text.kind, text.text, text.messages) == ("text", " A story.\n", ())
    found = read_rows(lines(tmp_path, {"text": "good", "label": 1}, {"input": "bad", "label": "neg"}))
    assert [(e.kind, e.label, e.question) for e in found.examples] == [
        ("labelled", "1", "good"),
        ("labelled", "neg", "bad"),
    ]


def test_our_own_examples_keep_their_id_and_evidence(tmp_path: Path) -> None:
    own = Example("e7", (Message("user", "Hi"), Message("assistant", "Yes")), fact="f", metadata={"wording": 2})
    found = read_rows(lines(tmp_path, own.to_json(), {**own.to_json(), "surprise": 1}))
    read = found.examples[0]
    assert (read.id, read.fact) == ("e7", "f")
    assert read.metadata == {"wording": 2, "source": "data.jsonl", "line": 1}
    assert found.reasons == {
        "not a whole example of TinyForge (Example.__init__() got an unexpected keyword argument 'surprise')": 1
    }


BAD = {
    "not JSON": '{"input": "a", ',
    "a list, not an object with fields": [1],
    "no known shape": {"a": 1},
    "empty label": {"text": "a", "label": None},
    "empty output": {"input": "a", "output": "  "},
    "input is a list, not text": {"input": ["a"], "output": "b"},
    "unknown role 'tool'": {"messages": [*CHAT, {"role": "tool", "content": "x"}]},
    "a message without a role": {"messages": [{"content": "x"}]},
    "a message with tool calls": {"messages": [CHAT[0], {**CHAT[1], "tool_calls": [1]}]},
    "a message with parts that are not text": {"messages": [{"role": U, "content": [{"type": "image"}]}, CHAT[1]]},
    "does not end with the assistant's answer": {"messages": [*CHAT, CHAT[0]]},
    "starts with an answer, before any question": {"messages": CHAT[1:]},
    "a conversation without messages": {"messages": []},
    "empty assistant message": {"messages": [CHAT[0], {"role": A, "content": None}]},
    "messages is text, not a list of messages": {"messages": "Hi"},
    "input holds half a character (a lone surrogate)": {"input": "\ud800", "output": "b"},
    "two fields whose names differ only in case or spaces": {"input": "a", "Input": "b", "output": "c"},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_named_and_the_rest_is_kept(tmp_path: Path, reason: str) -> None:
    found = read_rows(lines(tmp_path, *pairs(2), BAD[reason], {"input": "last", "output": "row"}))
    assert [e.metadata["line"] for e in found.examples] == [1, 2, 4]
    assert found.reasons == {reason: 1} and str(found.dropped[0]).startswith(f"data.jsonl:3: {reason}")
    with pytest.raises(InputError) as failure:
        read_rows(lines(tmp_path, BAD[reason]))
    assert f"data.jsonl:1: {reason}" in str(failure.value)
    assert "Known fields: {id, messages, evidence}, {chosen, rejected}" in str(failure.value)


def test_a_line_that_is_not_utf8_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"input": "a", "output": "b"}\n\n{"input": "\xff", "output": "b"}\n')
    found = read_rows(path)
    assert len(found.examples) == 1 and [str(row) for row in found.dropped] == ["data.jsonl:3: not UTF-8"]


def test_repeated_rows_are_dropped_whatever_their_shape(tmp_path: Path) -> None:
    found = read_rows(lines(tmp_path, {"input": "Hi", "output": "Yes"}, {"messages": CHAT}, *pairs(1)))
    assert [e.metadata["line"] for e in found.examples] == [1, 3]
    assert found.reasons == {"repeats a row": 1} and str(found.dropped[0]) == "data.jsonl:2: repeats a row (line 1)"


def test_three_rows_work_and_ids_come_from_the_content(tmp_path: Path) -> None:
    one, other = read_rows(lines(tmp_path, *pairs(3))), read_rows(lines(tmp_path, *reversed(pairs(3)), name="b.jsonl"))
    assert len({e.id for e in one.examples}) == 3
    assert [e.id for e in one.examples] == [e.id for e in reversed(other.examples)]


def test_mixed_kinds_are_refused_by_line(tmp_path: Path) -> None:
    rows = [*pairs(7), {"text": "running"}]
    with pytest.raises(InputError, match=r"data.jsonl: rows of different kinds \(chat: lines 1, 2, 3, 4, 5 and 2 more"):
        read_rows(lines(tmp_path, *rows))
    with pytest.raises(InputError, match=r"text: line 8\)"):
        read_rows(lines(tmp_path, *rows))


def test_fields_that_are_not_used_are_said(tmp_path: Path) -> None:
    rows = [{**row, "context": "shelf 3", "note": ""} for row in pairs(3)]
    assert read_rows(lines(tmp_path, *rows)).unused == {"context": 3}


def test_nothing_to_read_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "notes.docx").write_text("x")
    for name, message in {
        "none.jsonl": "no such file",
        "empty.jsonl": "holds no rows",
        "notes.docx": "not a format of training data",
        "": "no state.json",
    }.items():
        with pytest.raises(InputError, match=message):
            read_rows(tmp_path / name)
    with pytest.raises(InputError, match=r"c.csv:2: no known shape \(fields: a, b\); none of the 2 rows can be used"):
        read_rows(lines(tmp_path, "a,b", "1,2", "3,4", name="c.csv"))


# --- formats ----------------------------------------------------------------------------------------------------------


def outline(found: RowSet) -> list[tuple[int, Any]]:
    return [(e.metadata["line"], said(e)) for e in found.examples]


def test_every_format_gives_the_same_examples(tmp_path: Path) -> None:
    rows = [{"input": f"line\none, {i}", "output": 'he said "no"'} for i in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    expected = [said(e) for e in read_rows(lines(tmp_path, *rows)).examples]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    (tmp_path / "lines.json").write_text(text)
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=2))
    cells = [[row["input"], row["output"].replace('"', '""')] for row in rows]
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        body = "".join(f'"{one}"{mark}"{two}"\r\n' for one, two in cells)
        (tmp_path / name).write_bytes(f"\ufeffInput{mark}Output\r\n{body}".encode())
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    numbers = {"list.json": [2, 6, 10], "a.csv": [2, 4, 6], "a.tsv": [2, 4, 6]}
    for name in ("a.jsonl.gz", "a.jsonl.zst", "lines.json", "list.json", "a.csv", "a.tsv", "a.parquet"):
        found = read_rows(tmp_path / name)
        assert outline(found) == list(zip(numbers.get(name, [1, 2, 3]), expected, strict=True)), name
        assert found.examples[0].metadata["source"] == name


def test_one_object_in_a_json_file_is_one_row(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps(pairs(1)[0], indent=1))
    assert len(read_rows(path).examples) == 1
    path.write_text(json.dumps({"data": pairs(3)}))
    with pytest.raises(InputError, match=r"one.json:1: no known shape \(fields: data\)"):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"input": "a",\n "output": }]', "a.json:2: not JSON"),
        ("a.csv", b'input,output\na,b\n"open,b\nc,d\n', "a.csv:3: not readable as a table"),
        ("a.csv", b"input,input\na,b\n", "a.csv:1: two columns are called 'input'"),
        ("a.csv", b"input,output\na,\xff\n", "a.csv:2: not UTF-8"),
        ("a.parquet", b"PAR1 no", "a.parquet: not readable as Parquet"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz:1: not readable"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"input": "a", "output": "b"}\n' * 99, mtime=0)[:-12],
            "a.jsonl.gz:.*not readable",
        ),
        ("a.jsonl.zst", b"no zstd", "a.jsonl.zst:1: not readable"),
        ("a.jsonl.zst", zstandard.compress(b'{"input": "a", "output": "b"}\n' * 99)[:-3], "a.jsonl.zst:.*not readable"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_rows(tmp_path / name)


def test_a_csv_row_with_a_cell_too_many_is_dropped(tmp_path: Path) -> None:
    found = read_rows(lines(tmp_path, "input,output", "a,b", "c,d,e", "f", "g,", name="a.csv"))
    assert [str(row) for row in found.dropped] == [
        "a.csv:3: not as many cells as columns (3, not 2)",
        "a.csv:4: not as many cells as columns (1, not 2)",
        "a.csv:5: empty output",
    ]


def test_folders_that_datasets_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    rows = [{"text": "good", "label": 1}, {"text": "bad", "label": 0}, {"text": "unknown", "label": -1}]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["negative", "positive"])}
    )
    labelled = datasets.Dataset.from_list(rows, features=features)
    labelled.save_to_disk(tmp_path / "labelled", num_shards=2)
    found = read_rows(tmp_path / "labelled")
    assert [(e.metadata["line"], e.label) for e in found.examples] == [(1, "positive"), (2, "negative")]
    assert [str(row) for row in found.dropped] == ["labelled:3: empty label"]
    chats = datasets.Dataset.from_list([{"messages": CHAT}, {"messages": [*CHAT, *CHAT]}])
    datasets.DatasetDict(train=chats, test=labelled).save_to_disk(tmp_path / "both")
    both = read_rows(tmp_path / "both")
    assert [len(e.messages) for e in both.examples] == [2, 4] and both.examples[0].metadata["source"] == "both/train"
    assert both.notes == [f"the split test is not read; give {tmp_path / 'both' / 'test'} to read it"]
    datasets.DatasetDict(a=chats, b=chats).save_to_disk(tmp_path / "unnamed")
    with pytest.raises(InputError, match="has the splits a, b"):
        read_rows(tmp_path / "unnamed")


def test_a_column_that_only_other_rows_fill_is_not_there(tmp_path: Path) -> None:
    """A table gives every row every column: what is empty must not decide the shape."""
    rows = [{"messages": CHAT, "input": None, "output": None}, {"messages": None, "input": "a", "output": "b"}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet").shapes == {"messages": 1, "input/output": 1}


# --- holding out ------------------------------------------------------------------------------------------------------


def asked(*questions: str, **more: Any) -> list[Example]:
    return [
        Example(f"{i}", (Message("user", q), Message("assistant", f"Answer {i}")), **more)
        for i, q in enumerate(questions)
    ]


def test_the_same_question_stays_on_one_side() -> None:
    examples = asked(*[f"{word} {i % 10}{end}" for i in range(40) for word, end in [("What is", "?!.  "[i % 5])]])
    for seed in range(20):
        sides = hold_out(examples, 0.2, seed)
        numbers = [{e.question.split()[2].strip("?!.") for e in side} for side in (sides.train, sides.dev)]
        assert numbers[0].isdisjoint(numbers[1]) and len(sides.dev) == 8 and len(sides.train) == 32
        assert {e.split for e in sides.dev} == {"dev"} and sides.note == "8 of 40 rows are held out for the dev loss"


def test_a_random_choice_of_rows_would_share_questions() -> None:
    """The control: with forty rows over ten questions, picking rows leaks."""
    examples = asked(*[f"What is {i % 10}?" for i in range(40)])
    dev = set(random.Random(0).sample(range(40), 8))
    assert {examples[i].question for i in dev} & {e.question for i, e in enumerate(examples) if i not in dev}


def test_holding_out_depends_on_seed_and_content_not_on_order() -> None:
    examples = asked(*[f"Question {i}" for i in range(30)])
    first = {e.id for e in hold_out(examples, 0.2, 1).dev}
    assert {e.id for e in hold_out(examples[::-1], 0.2, 1).dev} == first
    assert {e.id for e in hold_out(examples, 0.2, 2).dev} != first


def test_small_sets_say_what_is_held_out() -> None:
    twenty = hold_out(asked(*(f"question {chr(97 + n)}" for n in range(20))), 0.01, 0)
    assert (len(twenty.train), len(twenty.dev)) == (19, 1) and twenty.note.startswith("1 of 20 rows")
    few = hold_out(asked(*(f"question {chr(97 + n)}" for n in range(19))), 0.5, 0)
    assert few.note == "19 rows are too few to hold any out: there is no dev loss" and not few.dev
    assert "hang together" in hold_out(asked(*["a", "A", "a?"] * 7), 0.5, 0).note
    assert "as asked" in hold_out(asked("a", "b", "c"), 0.0, 0).note
    assert len(hold_out(asked(*(f"question {chr(97 + n)}" for n in range(20))), 0.99, 0).train) == 1
    with pytest.raises(InputError, match=r"validation share 1: must be"):
        hold_out(asked("a"), 1.0, 0)


def test_one_fact_and_one_cluster_stay_together_also_in_running_text() -> None:
    members = [*asked("a", "b", "c", fact="f"), *asked("d", "e", cluster="c"), *asked(*"fghijklmnopqrstuv")]
    for seed in range(10):
        dev = {
            e.question
            for e in hold_out(
                [Example(str(i), e.messages, fact=e.fact, cluster=e.cluster) for i, e in enumerate(members)], 0.5, seed
            ).dev
        }
        assert len(dev & set("abc")) in (0, 3) and len(dev & set("de")) in (0, 2)
    texts = [Example(str(i), (), text=f"Story {i // 2}") for i in range(20)]
    sides = hold_out(texts, 0.1, 3)
    assert len(sides.dev) == 2 and len({e.text for e in sides.dev}) == 1

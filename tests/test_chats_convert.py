"""`tinyforge data convert` and `data delete`: every format and back, from a chat to a model, and someone out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat_exports import ANNA, BEN, discord, discord_message, reply, write
from little import make_base
from tinyforge.cli import main
from tinyforge.dataset.rows import read_rows

CLEO = ("103", "Cleo Brandt", "cleo")
Out = pytest.CaptureFixture[str]

MESSAGES = [
    discord_message(1, ANNA, 0, "Who has the drill?"),
    discord_message(2, BEN, 2, "It is in the shed"),
    discord_message(3, CLEO, 3, "The saw with the red handle is broken again"),
    discord_message(4, BEN, 4, "I will mend it"),
    discord_message(5, ANNA, 200, "Cleo said: the saw with the red handle is broken again, right?"),
    discord_message(6, BEN, 201, "Right"),
    discord_message(7, ANNA, 400, "Is the ladder free?"),
    discord_message(8, CLEO, 401, "I have it"),
    discord_message(9, BEN, 402, "Then it is not"),
    discord_message(10, ANNA, 600, "Did Cleo call?"),
    discord_message(11, BEN, 601, "No"),
    discord_message(12, CLEO, 800, "What did I miss?"),
    discord_message(13, BEN, 801, "Not much"),
]


def convert(folder: Path, *more: str) -> Path:
    source = discord(folder / "in.json", MESSAGES)
    out = folder / "out" / "rows.jsonl"
    assert main(["data", "convert", str(source), "--out", str(out), "--persona", "bent", *more]) == 0
    return out


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def said(path: Path) -> list[list[str]]:
    return [[m["content"] for m in row["messages"]] for row in rows(path)]


@pytest.mark.parametrize("to", ["messages", "openai", "sharegpt"])
def test_every_format_reads_back_as_the_same_conversations(tmp_path: Path, to: str) -> None:
    found = read_rows(convert(tmp_path, "--to", to))
    assert [[m.content for m in e.messages] for e in found.examples][1:3] == [
        ["Person-3 said: the saw with the red handle is broken again, right?", "Right"],
        ["Person-1: Is the ladder free?\nPerson-3: I have it", "Then it is not"],
    ]
    assert found.unused == {} and found.dropped == []
    assert all(("from_chat" in e.metadata) == (to == "messages") for e in found.examples)


def test_alpaca_takes_single_exchanges_and_counts_the_others(tmp_path: Path, capsys: Out) -> None:
    out = convert(tmp_path, "--to", "alpaca")
    assert len(rows(out)) == 4 and rows(out)[-1] == {
        "instruction": "What did I miss?",
        "input": "",
        "output": "Not much",
    }
    assert "1 left out: Alpaca has one question and one answer" in capsys.readouterr().err


def test_converting_what_was_converted_changes_nothing(tmp_path: Path) -> None:
    out = convert(tmp_path)
    again = tmp_path / "again" / "rows.jsonl"
    assert main(["data", "convert", str(out), "--out", str(again)]) == 0
    assert again.read_bytes() == out.read_bytes()


def test_kept_secrets_are_replaced_later_and_the_pieces_stay_right(tmp_path: Path) -> None:
    answers = [discord_message(2, BEN, 1, "Yes"), discord_message(3, BEN, 2, "call +49 170 1234567")]
    source = discord(tmp_path / "in.json", [discord_message(1, ANNA, 0, "anna@example.org?"), *answers])
    kept, clean = tmp_path / "kept.jsonl", tmp_path / "clean.jsonl"
    assert main(["data", "convert", str(source), "--out", str(kept), "--persona", "bent", "--keep-pii"]) == 0
    assert main(["data", "convert", str(kept), "--out", str(clean)]) == 0
    (row,) = rows(clean)
    assert [m["content"] for m in row["messages"]] == ["<EMAIL-1>?", "Yes\ncall <PHONE-1>"]
    assert [turn["lengths"] for turn in row["from_chat"]["turns"]] == [[10], [3, 14]]


def test_the_result_as_json(tmp_path: Path, capsys: Out) -> None:
    convert(tmp_path, "--json")
    done = json.loads(capsys.readouterr().out)
    assert done["written"] == 5 and done["shapes"] == {"Discord (DiscordChatExporter) conversation": 5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{chat}", "--out", "{dir}/o.jsonl"], "--persona NAME. Who wrote how many messages: Ben Tamm (6)"),
        (["{chat}", "--out", "{dir}/o.json", "--persona", "bent"], "rows are written as .jsonl, .csv, .parquet. --out"),
        (["{chat}", "--out", "{dir}/o.jsonl", "--persona", "bent", "--gap-minutes", "0"], "chats.gap_minutes"),
        (["{rows}", "{chat}", "--out", "{dir}/o.jsonl"], "rows.json: several chats can be read at once"),
        (["{dir}/none", "--out", "{dir}/o.jsonl"], "none: no such file or folder"),
        (["{text}", "--out", "{dir}/o.jsonl", "--to", "openai"], "OpenAI has no form for rows of the kind text"),
    ],
)
def test_wrong_input_is_one_clear_line(tmp_path: Path, capsys: Out, words: list[str], message: str) -> None:
    write(tmp_path / "rows.json", [{"input": "a", "output": "b"}])
    write(tmp_path / "text.json", [{"text": "a"}])
    discord(tmp_path / "chat.json", MESSAGES)
    names = {"chat": "chat.json", "rows": "rows.json", "text": "text.json"}
    places = {f"{{{name}}}": str(tmp_path / file) for name, file in names.items()}
    filled = [places.get(word, word.replace("{dir}", str(tmp_path))) for word in words]
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "convert", *filled]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left behind


# --- delete -----------------------------------------------------------------------------------------------------------


def test_a_person_goes_with_what_answers_names_and_repeats_them(tmp_path: Path, capsys: Out) -> None:
    out = convert(tmp_path)
    assert said(out) == [
        ["Person-1: Who has the drill?", "It is in the shed", "Person-3: The saw with the red handle is broken again",
         "I will mend it"],
        ["Person-3 said: the saw with the red handle is broken again, right?", "Right"],
        ["Person-1: Is the ladder free?\nPerson-3: I have it", "Then it is not"],
        ["Did Person-3 call?", "No"],
        ["What did I miss?", "Not much"],
    ]  # fmt: skip
    assert main(["data", "delete", str(out), "--author", "Cleo Brandt"]) == 0
    assert said(out) == [
        ["Person-1: Who has the drill?", "It is in the shed"],
        ["Person-1: Is the ladder free?", "Then it is not"],
    ]
    assert "Removed Person-3: 3 turns, 2 answers, 2 rows." in capsys.readouterr().out
    ledger = rows(out.with_name("rows.removed.jsonl"))
    assert [(e["line"], e["what"], e["reason"]) for e in ledger] == [
        (1, "turn", "written by them"),
        (1, "answer", "its other half was written by them"),
        (2, "row", "names them"),
        (3, "turn", "written by them"),
        (4, "row", "names them"),
        (5, "turn", "written by them"),
        (5, "answer", "its other half was written by them"),
    ]
    stored = out.with_name("rows.removed.jsonl").read_text()
    assert "Cleo" not in stored and "saw" not in stored
    assert read_rows(out).examples[0].metadata["from_chat"]["turns"][0] == {"authors": ["Person-1"], "lengths": [28]}


def test_what_repeats_them_goes_also_where_it_does_not_name_them(tmp_path: Path) -> None:
    out = convert(tmp_path, "--keep-pii")
    lines = rows(out)
    lines[3]["messages"][0]["content"] = "Hm, The SAW with the red handle is broken again!"
    lines[3]["from_chat"]["turns"][0]["lengths"] = [48]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["data", "delete", str(out), "--author", "Cleo Brandt"]) == 0
    reasons = {e["line"]: e["reason"] for e in rows(out.with_name("rows.removed.jsonl"))}
    assert reasons[4] == "repeats a message of theirs"
    assert "Cleo" not in out.read_text()


def test_a_later_conversion_leaves_them_out(tmp_path: Path, capsys: Out) -> None:
    out = convert(tmp_path)
    assert main(["data", "delete", str(out), "--author", "Person-3"]) == 0
    capsys.readouterr()
    convert(tmp_path)
    assert "5 left out" not in capsys.readouterr().out
    spoken = {author for row in rows(out) for turn in row["from_chat"]["turns"] for author in turn["authors"]}
    assert spoken == {"Person-1", "Person-2"}


def test_somebody_who_is_not_there_changes_nothing(tmp_path: Path, capsys: Out) -> None:
    out = convert(tmp_path)
    before = {p: p.read_bytes() for p in out.parent.iterdir()}
    assert main(["data", "delete", str(out), "--author", "Dora"]) == 2
    assert "nothing in it is by 'Dora' or names them" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in out.parent.iterdir()} == before


def test_from_the_chat_to_a_model_and_a_person_out_of_the_run(tmp_path: Path, capsys: Out) -> None:
    messages = []
    for n in range(24):
        messages.append(discord_message(10 * n + 1, ANNA if n % 3 else CLEO, 0, f"question number {n}"))
        messages.append(discord_message(10 * n + 2, BEN, 0, f"answer number {n}", **reply(10 * n + 1)))
        for place, message in enumerate(messages[-2:]):
            message["timestamp"] = f"2024-03-{n + 1:02d}T10:0{place}:00+00:00"
    source, run, base = discord(tmp_path / "in.json", messages), tmp_path / "run", make_base(tmp_path / "base")
    arguments = ["train", str(source), "--base", str(base), "--out", str(run), "--set", "train.max_steps=2"]
    assert main(arguments) == 2
    assert "is a chat (Discord (DiscordChatExporter)), not rows" in capsys.readouterr().err
    arguments += ["--persona", "bent"]
    assert main(arguments) == 0
    assert "2 of 24 rows, the latest, are held out" in capsys.readouterr().err
    dev = [row["messages"][0]["content"] for row in rows(run / "dataset" / "dev.jsonl")]
    assert dev == ["question number 22", "question number 23"]
    assert main(["data", "delete", str(run), "--author", "Cleo Brandt"]) == 0
    assert "train again" in capsys.readouterr().err
    assert (
        len(rows(run / "dataset" / "train.jsonl")) == 14 and len(read_rows(run / "dataset" / "dev.jsonl").examples) == 2
    )

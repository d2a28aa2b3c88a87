"""`tinyforge data`: what is shown is what is trained, and validate refuses what training would refuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from tinyforge.cli import main
from tinyforge.dataset.render import render
from tinyforge.dataset.rows import read_rows
from tinyforge.models.resolve import load_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_base(tmp_path_factory.mktemp("base")))


def write(folder: Path, *rows: Any) -> str:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs(count: int) -> list[dict[str, str]]:
    return [{"input": f"What is {i}?", "output": f"A loan {i}."} for i in range(count)]


Out = pytest.CaptureFixture[str]


def test_show_marks_what_is_trained_and_nothing_else(tmp_path: Path, base: str, capsys: Out) -> None:
    data = write(tmp_path, *pairs(3))
    assert main(["data", "show", data, "--base", base, "--rows", "2"]) == 0
    shown = capsys.readouterr().out
    assert "data.jsonl:1 · chat" in shown and "data.jsonl:3" not in shown and "2 of 3 rows" in shown
    assert "<|user|>What is 0?<|end|><|assistant|>[[A loan 0.<|end|>]]" in shown
    tokens = render(read_rows(data).examples[0].messages, load_tokenizer(Path(base)))
    assert f"{len(tokens.ids)} tokens · {tokens.targets} trained · stop token trained" in shown


def test_show_as_json_agrees_with_the_encoding(tmp_path: Path, base: str, capsys: Out) -> None:
    data = write(tmp_path, *pairs(3))
    assert main(["data", "show", data, "--base", base, "--json", "--set", "train.all_tokens=true"]) == 0
    rows = json.loads(capsys.readouterr().out)
    side = rows[0]["sides"][0]
    assert side["trained"] == side["tokens"] - 1
    assert [span["trained"] for span in side["spans"]] == [False, True] and side["spans"][0]["text"] == "<|user|>"
    assert "".join(s["text"] for s in side["spans"]) == "<|user|>What is 0?<|end|><|assistant|>A loan 0.<|end|>"


def test_show_has_both_answers_of_a_preference_and_all_of_a_text(tmp_path: Path, base: str, capsys: Out) -> None:
    data = write(tmp_path, {"prompt": "Hi", "chosen": "Yes", "rejected": "No"})
    assert main(["data", "show", data, "--base", base]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"chosen: \d+ tokens.*\n.*\[\[Yes<\|end\|>\]\]", shown)
    assert re.search(r"rejected: \d+ tokens.*\n.*\[\[No<\|end\|>\]\]", shown)
    assert main(["data", "show", write(tmp_path, {"text": "A loan."}), "--base", base]) == 0
    assert "<|endoftext|>[[A loan.<|endoftext|>]]" in capsys.readouterr().out
    assert main(["data", "show", write(tmp_path, {"text": "A loan.", "label": "x"}), "--base", base]) == 0
    shown = capsys.readouterr().out
    assert "labelled · label x" in shown and "[[" not in shown.rpartition("\n\n")[0]


def test_colours_on_a_terminal(tmp_path: Path, base: str, capsys: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    hostile = {"input": "red \x1b[31malert\x1b]0;title\x07", "output": "[bold]Yes[/bold]"}
    assert main(["data", "show", write(tmp_path, hostile), "--base", base]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[1;32m[bold]Yes[/bold]<|end|>" in shown and "\x1b[2m<|user|>red alert" in shown
    assert "\x1b[31m" not in shown and "\x1b]0" not in shown


def test_validate_with_a_base_counts_tokens(tmp_path: Path, base: str, capsys: Out) -> None:
    data = write(tmp_path, *pairs(4), *pairs(1), {"question": "q", "answer": "a", "x": 1})
    assert main(["data", "validate", data, "--base", base]) == 0
    shown = capsys.readouterr().out
    assert "6 read, 6 usable (chat)" in shown and "input/output 5, question/answer 1" in shown
    assert "data.jsonl:5: of data.jsonl:1" in shown and "fields that are not used: x 1" in shown
    assert main(["data", "validate", data, "--base", base, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    lengths = sorted(len(render(e.messages, load_tokenizer(Path(base))).ids) for e in read_rows(data).examples)
    assert report["lengths"] == {"median": lengths[2], "95th": lengths[4], "longest": lengths[4], "limit": 1024}
    assert report["refusals"] == [] and report["counts"] == {"repeated row": 1}


def test_validate_exits_2_when_training_the_base_would_be_refused(tmp_path: Path, base: str, capsys: Out) -> None:
    data = write(tmp_path, *pairs(3), {"input": "What?", "output": "tool " * 200})
    assert main(["data", "validate", data, "--base", base]) == 0
    capsys.readouterr()
    assert main(["data", "validate", data, "--base", base, "--set", "dataset.max_length=64"]) == 2
    out, err = capsys.readouterr()
    assert "left out  longer than 64 tokens 1: data.jsonl:4" in out and "Train on it" not in out
    assert "tinyforge: 1 of 4 examples are longer than 64 tokens, first data.jsonl:4" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "no/such.jsonl"], "no/such.jsonl: no such file or folder"),
        (["show", "{bad}"], "data.jsonl:1: no known shape (fields: a)"),
        (["validate", "{bad}", "--set", "dataset.max_lenght=1"], "Did you mean dataset.max_length?"),
        (["show", "{good}", "--base", "./nothing"], "unknown base"),
    ],
)
def test_wrong_input_is_one_clear_line(tmp_path: Path, capsys: Out, words: list[str], message: str) -> None:
    (tmp_path / "good").mkdir()
    places = {"{bad}": write(tmp_path, {"a": 1}), "{good}": write(tmp_path / "good", *pairs(3))}
    assert main(["data", *(places.get(word, word) for word in words)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_a_number_of_rows_below_one_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data", "show", write(tmp_path, *pairs(3)), "--rows", "0"])
    assert stop.value.code == 2


@pytest.mark.parametrize("times", [lambda n: f"{1700000000 + n}", lambda n: f"202403{n + 1:02d}"], ids=["epoch", "day"])
def test_a_split_by_time_reads_the_text_of_a_table(tmp_path: Path, times: Callable[[int], str]) -> None:
    rows = "".join(f"{row['input']},{row['output']},{times(n)}\n" for n, row in enumerate(pairs(20)))
    (tmp_path / "a.csv").write_text(f"input,output,at\n{rows}")
    out = tmp_path / "out"
    assert main(["data", "split", str(tmp_path / "a.csv"), "--time", "at", "--out", str(out)]) == 0
    assert [json.loads(line)["at"] for line in (out / "test.jsonl").open()] == [times(18), times(19)]


@pytest.mark.parametrize("time", ["soon", "nan", "", "20241301"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, capsys: Out, time: str) -> None:
    data = write(tmp_path, {**pairs(1)[0], "at": time})
    assert main(["data", "split", data, "--time", "at", "--out", str(tmp_path / "out")]) == 2
    assert "data.jsonl:1: 'at' holds no time" in capsys.readouterr().err

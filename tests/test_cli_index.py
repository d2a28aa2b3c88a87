"""`tinyforge index` and `tinyforge search`, called as a person would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tinyforge.cli import main


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "card.md").write_text("# Card\n\nA card costs 12 euros per year. Children pay nothing.\n")
    (folder / "boat.md").write_text("# Boat\n\nBoats are hired by the hour. Zoë keeps the keys \x1b[31mred.\n")
    return folder


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_index_then_change_then_search(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "kb")
    code, told, _ = call(capsys, "index", str(docs), "--out", out)
    assert code == 0 and "documents: 2 added\n" in told and "2, of which 2 had to be embedded" in told
    assert f"Next:  tinyforge search {out}" in told

    (docs / "card.md").write_text("# Card\n\nA card costs 15 euros per year.\n")
    (docs / "boat.md").unlink()
    (docs / "dog.md").write_text("# Dog\n\nDogs wait outside.\n")
    code, told, _ = call(capsys, "index", str(docs), "--out", out, "--json")
    summary = json.loads(told)
    assert (summary["added"], summary["changed"], summary["removed"]) == (["dog.md"], ["card.md"], ["boat.md"])
    assert summary["embedded"] == 2 and summary["unchanged"] == []
    code, told, _ = call(capsys, "index", str(docs), "--out", out, "--json")
    assert json.loads(told)["embedded"] == 0

    code, told, _ = call(capsys, "search", out, "What does a card cost?")
    assert "»A card costs 15 euros per year.«" in told and "[1] card.md, Card, characters" in told
    code, told, _ = call(capsys, "search", out, "What does a card cost?", "--passages", "1", "--json")
    (found,) = json.loads(told)
    (start, end), first = found["highlights"][0], found["span"]["start"]
    assert found["text"][start - first : end - first] == "A card costs 15 euros per year."


def test_several_indexes(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    call(capsys, "index", str(docs / "card.md"), "--out", a)
    call(capsys, "index", str(docs / "boat.md"), "--out", b)
    code, told, _ = call(capsys, "search", a, b, "Who keeps the keys?")
    assert code == 0 and told.index("boat.md") < told.index("card.md") and "\x1b" not in told


def test_wrong_input_is_refused(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in docs.iterdir())
    code, _, told = call(capsys, "index", str(docs), "--out", str(docs))
    assert code == 2 and "holds something that is no index" in told
    assert sorted(path.name for path in docs.iterdir()) == before
    monkeypatch.chdir(tmp_path)
    code, _, told = call(capsys, "index", str(docs), "--out", ".")
    assert code == 2 and "is the folder that this runs in" in told
    for foreign in ("[]", "{}", '{"format": "png"}', '{"format": 1}'):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "meta.json").write_text(foreign)
        for words in (("index", str(docs), "--out", "other"), ("search", "other", "x")):
            code, _, told = call(capsys, *words)
            assert code == 2 and "holds something that is no index" in told
    code, _, told = call(capsys, "search", str(tmp_path), "x")
    assert code == 2 and "is not a search index" in told and "tinyforge index" in told
    call(capsys, "index", str(docs), "--out", str(tmp_path / "kb"))
    code, _, told = call(capsys, "search", str(tmp_path / "kb"), " ")
    assert code == 2 and "empty" in told
    code, _, told = call(capsys, "search", str(tmp_path / "kb"), "x", "--rerank", str(docs))
    assert code == 2 and "no config.json" in told
    meta = tmp_path / "kb" / "meta.json"
    data = json.loads(meta.read_text())
    meta.write_text(json.dumps({**data, "embedding_hash": "0", "embedding_model": "other"}))
    code, _, told = call(capsys, "index", str(docs), "--out", str(tmp_path / "kb"))
    assert code == 2 and "was embedded with 'other', not with 'minilm'" in told
    code, _, told = call(capsys, "search", str(tmp_path / "kb"), "x")
    assert code == 2


def test_an_answer_follows_the_documents_and_not_what_the_model_was_trained_on(
    docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embedded base learns a wrong price by heart: alone it says so, which is the control."""
    asked = ["What does a card cost?", "How much is a card?", "What is the price of a card?", "Is a card expensive?"]
    learned = "A card costs 20 euros per year."
    rows = [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": learned}]} for q in asked]
    data, run, kb = tmp_path / "rows.jsonl", str(tmp_path / "run"), str(tmp_path / "kb")
    data.write_text("".join(json.dumps(row) + "\n" for row in rows * 8))
    train = ("train", str(data), "--out", run, "--set", "train.max_steps=40", "--set", "train.batch_tokens=256")
    assert call(capsys, *train)[0] == 0
    assert call(capsys, "index", str(docs), "--out", kb)[0] == 0
    assert json.loads(call(capsys, "predict", run, asked[0], "--json")[1])[0]["text"] == learned
    code, _, told = call(capsys, "ask", run, asked[0], "--variant", "base")
    assert code == 2 and "has no variant 'base'. It has: tuned." in told
    for variant in ("tuned", "tuned+retrieval"):
        told = call(capsys, "ask", run, asked[0], "--knowledge", kb, "--variant", variant, "--json")[1]
        reply = json.loads(told)
        assert reply["answer"] == "A card costs 12 euros per year."
        assert [(c["source"], c["text"]) for c in reply["citations"]] == [("card.md", reply["answer"])]

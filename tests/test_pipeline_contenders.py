"""Who can take part in a comparison: bases, adapters, exports run by their own engines, endpoints, runs; judges too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from little import make_lively_base
from live_server import Live, live, make_adapter
from teacher_server import Teacher
from tinyforge.cli import main
from tinyforge.export.artifact import export

QUICK = ["--set", "evaluate.max_new_tokens=8", "--set", "evaluate.resamples=200", "--set", "train.precision=fp32"]
COUNT = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("model") / "base", hidden=64)


@pytest.fixture(scope="module")
def exports(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exports")
    kinds = (("safetensors", "fp32"), ("gguf", "f32"))
    return {to: export(str(base), to, kind, folder / to).folder for to, kind in kinds}


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[Live]:
    with live([f"little={base}"]) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"What is loan {i}?", "answer": f"An agreement of {i} days."} for i in range(COUNT)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def compared(names: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    code = main(["compare", *names, "--data", str(data), "--out", str(out), "--json", *QUICK])
    said = capsys.readouterr()
    assert code == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def answers(found: dict[str, Any], name: str, data: Path) -> list[str]:
    return [row["answers"][name] for row in found["sets"][data.name]["answers"]]


def check_alike(names: list[str], data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """All of ``names`` answer word for word as the first does, and are called equal."""
    found = compared(names, data, out, capsys)
    first = answers(found, names[0], data)
    assert len(set(first)) > 1 and all(first)
    for name in names[1:]:
        assert answers(found, name, data) == first, name
    for pair in found["sets"][data.name]["pairs"]:
        assert not pair["clear"] and pair["differences"]["token_f1"]["value"] == 0
    return found


def test_an_endpoint_takes_part_and_answers_as_its_model(
    base: Path, server: Live, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{server.url}/v1#little"
    found = check_alike([str(base), address], data, tmp_path / "out", capsys)
    scores = found["sets"][data.name]["scores"]
    assert "perplexity" in scores[str(base)] and "perplexity" not in scores[address]  # it tells no likelihoods
    assert scores[address]["seconds_per_answer"]["value"] > 0
    again = compared([str(base), address], data, tmp_path / "out", capsys)
    assert again["reused"] == {str(base): COUNT, address: COUNT}  # nothing is asked, or paid for, twice


def test_exports_take_part_and_answer_as_their_source(
    base: Path, exports: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = exports["gguf"].glob("*.gguf")
    names = [str(base), str(exports["safetensors"]), str(file)]
    check_alike(names, data, tmp_path / "out", capsys)
    other = str(make_lively_base(tmp_path / "other", hidden=64, seed=5))
    found = compared([other, str(exports["gguf"])], data, tmp_path / "control", capsys)  # a folder with one file
    assert answers(found, other, data) != answers(found, str(exports["gguf"]), data)


@pytest.mark.slow
def test_a_graph_takes_part_and_answers_as_its_source(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = export(str(base), "onnx", "fp32", tmp_path / "onnx").folder
    check_alike([str(base), str(graph)], data, tmp_path / "out", capsys)


def test_an_adapter_takes_part_and_answers_differently(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = str(make_adapter(base, tmp_path / "adapter", 3))
    found = compared([str(base), adapter], data, tmp_path / "out", capsys)
    assert answers(found, str(base), data) != answers(found, adapter, data)


def test_what_an_export_cannot_take_is_marked_and_the_rest_answered(
    exports: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with data.open("a") as handle:
        handle.write(json.dumps({"question": "why " * 3000, "answer": "Because."}) + "\n")
    name = str(exports["gguf"])
    result = compared([name, str(exports["safetensors"])], data, tmp_path / "out", capsys)["sets"][data.name]
    (marked,) = result["unanswered"][name]
    assert re.match(r"the question has \d+ tokens; this export takes \d+", marked["error"])
    assert sum(bool(row["answers"][name]) for row in result["answers"]) == COUNT


def test_an_export_inside_of_a_run_is_held_against_its_training_rows(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = ["--set", "train.max_steps=1", "--set", "train.guard=false", "--set", "train.precision=fp32"]
    given = ["--base", str(base), "--method", "full", "--set", "dataset.validation_split=0", *settings]
    assert main(["train", str(data), "--out", str(run), *given]) == 0
    made = export(str(run), "safetensors", "fp32")
    found = compared([str(made.folder), str(base)], data, tmp_path / "out", capsys)
    (leak,) = found["sets"][data.name]["leaks"].values()
    assert leak["verdict"] == "leaked" and leak["kinds"]["exact"] == COUNT


def test_a_refused_call_is_marked_and_a_refusing_endpoint_is_named(
    base: Path, server: Live, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{server.url}/v1#little"
    with data.open("a") as handle:
        handle.write(json.dumps({"question": "why " * 3000, "answer": "Because."}) + "\n")
        handle.write(json.dumps({"question": "What else?", "answer": "Nothing."}) + "\n")
    result = compared([str(base), address], data, tmp_path / "out", capsys)["sets"][data.name]
    (marked,) = result["unanswered"][address]
    assert "status 400" in marked["error"]
    missing = f"{server.url}/v1#nobody"
    assert main(["compare", str(base), missing, "--data", str(data), "--out", str(tmp_path / "no"), *QUICK]) == 2
    said = capsys.readouterr().err
    assert "refuses the call (status 404" in said and "Traceback" not in said


def by_length(messages: list[dict[str, str]]) -> str:
    """A judge that prefers the longer answer, and grades every criterion alike."""
    text = messages[0]["content"]
    pair = re.search(r"Answer 1:\n(.*?)\n\nAnswer 2:\n(.*?)\n\nReply", text, re.DOTALL)
    if pair is None:
        names = re.findall(r"^- (\w+):", text, re.MULTILINE)
        return json.dumps({name: {"reason": "as asked", "score": 4} for name in names})
    one, other = pair.groups()
    winner = "tie" if len(one) == len(other) else "1" if len(one) > len(other) else "2"
    return json.dumps({"reason": "it says more", "winner": winner})


def judged(names: list[str], by: str, data: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["judge", *names, "--by", by, "--data", str(data), "--out", str(out), "--json", *QUICK]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_an_endpoint_judges_a_base_against_an_endpoint(
    base: Path, server: Live, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = str(make_adapter(base, tmp_path / "adapter", 3))
    names = [f"{server.url}/v1#little", adapter]
    with Teacher(by_length, ["429", "500"]) as judge:  # which is busy and fails before it answers
        found = judged(names, judge.url, data, tmp_path / "out", capsys)
        assert len(judge.prompts) >= 6 * COUNT
    said = found["preference"]
    assert said["first"] + said["second"] + said["ties"] == COUNT and said["swayed"] == said["unreadable"] == 0
    assert said["self_agreement"]["value"] == 1.0 and not found["own"]
    assert found["usage"]["calls"] == 6 * COUNT
    assert found["grades"][adapter]["correct"]["mean"] == 4.0
    longer = sum(len(row["answers"]["first"]) > len(row["answers"]["second"]) for row in found["rows"])
    assert said["first"] == longer and found["beside"]["difference"] is not None


def test_a_small_model_behind_an_endpoint_is_no_judge_and_that_shows(
    base: Path, server: Live, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{server.url}/v1#little"
    adapter = str(make_adapter(base, tmp_path / "adapter", 3))
    given = ["judge", address, adapter, "--by", address, "--data", str(data), "--limit", "2"]
    assert main([*given, "--out", str(tmp_path / "out"), *QUICK]) == 0
    said = capsys.readouterr().out
    assert "No vote for either" in said and "2 replies could not be read" in said and "Token F1" in said
    assert "It judged its own answers" in said


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{tmp}/absent.gguf", "no such file"),
        ("{tmp}/cut.gguf", "no whole GGUF file"),
        ("{tmp}/two", "holds 2 GGUF files"),
        ("http://127.0.0.1:9/v1#x", "no whole answer"),
        ("http://user:secret@127.0.0.1/v1#x", "holds a password"),
        ("{tmp}/empty", "holds no model"),
    ],
)
def test_what_cannot_take_part_is_named(
    name: str,
    message: str,
    base: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tinyforge.models import endpoint

    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00")
    (tmp_path / "two").mkdir()
    (tmp_path / "empty").mkdir()
    for part in ("a", "b"):
        (tmp_path / "two" / f"{part}.gguf").write_bytes(b"GGUF")
    given = [str(base), name.format(tmp=tmp_path), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(["compare", *given, *QUICK]) in (1, 2)
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("tinyforge: ")]
    assert len(errors) == 1 and message in errors[0] and "Traceback" not in said and "secret" not in said

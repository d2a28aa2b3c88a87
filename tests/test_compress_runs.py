"""quantize, prune and distill as a person calls them: a run in, a run out that can be used, packed and traced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from little import make_base
from tinyforge.cli import main
from tinyforge.models.resolve import hash_weights, load_model
from tinyforge.pipeline.material import settle_config
from tinyforge.pipeline.quantize import _way_out
from tinyforge.pipeline.train import train
from tinyforge.recipe import load_config
from tinyforge.registry.store import Registry
from tinyforge.run import read_json, write_json
from tinyforge.serve.load import open_predictor

QUICK = ["--set", "train.threads=1", "--set", "evaluate.max_questions=10", "--set", "train.max_steps=3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, rows, and a run trained on them: in full and with an adapter."""
    root = tmp_path_factory.mktemp("runs")
    make_base(root / "base", hidden=64, layers=4)
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}?"},
                {"role": "assistant", "content": f"A loan of {n}."},
            ]
        }
        for n in range(24)
    ]
    (root / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for method in ("full", "lora"):
        settings = [f"base={root / 'base'}", "train.max_steps=4", "train.threads=1", "train.precision=fp32"]
        train(root / "rows.jsonl", root / method, load_config(None, [*settings, f"train.method={method}"]))
    return root


def called(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(("source", "bits"), [("full", "8"), pytest.param("lora", "4", marks=pytest.mark.slow)])
def test_quantize(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, bits: str) -> None:
    out = tmp_path / "out"
    arguments: list[str | Path] = ["quantize", folder / source, "--bits", bits, "--group", "32", "--out", out, *QUICK]
    found = called(capsys, *arguments)
    assert found["certificate"]["passed"]
    assert found["measured"]["model_bytes"] < (0.4 if bits == "8" else 0.3) * found["table"][0]["model_bytes"]
    assert found["measured"]["parameters"] == found["table"][0]["parameters"]
    if bits == "4":
        assert found["tried"][found["method"]] == min(found["tried"].values())
        assert set(found["tried"]) == {"rtn", "gptq"}
    assert open_predictor(out).predict(["What is 3?"])[0].text is not None
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [".lock"]
    before = hash_weights(out / "model")
    assert called(capsys, *arguments) == found  # nothing is done twice
    assert hash_weights(out / "model") == before


def test_a_spoiled_certificate_exits_3(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rounding that makes the embedding thirty times too large says something else."""
    from tinyforge.compress import quantize as rounding

    honest = rounding._fill_ends

    def spoiled(model: Any, *old: Any) -> None:
        honest(model, *old)
        model.get_input_embeddings().scale *= 30

    monkeypatch.setattr(rounding, "_fill_ends", spoiled)
    assert main(["quantize", str(folder / "full"), "--out", str(tmp_path / "out"), *QUICK]) == 3
    assert (tmp_path / "out" / "FAILED.txt").is_file()
    assert "see certificate.json. Use --method gptq." in capsys.readouterr().err
    assert _way_out(4, ("rtn", "gptq"), 64, False) == (
        "Use --data with rows of yours to calibrate on or --group 32 or --bits 8."
    )


def test_prune_and_heal(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    cut = ("--depth", "1", "--heads", "0.5", "--width", "0.25")
    found = called(capsys, "prune", folder / "full", *cut, "--heal", "--out", out, *QUICK)
    assert [row["name"] for row in found["table"]] == ["source", "pruned", "healed (distill)"]
    assert found["training"]["steps"] == 3
    assert (found["removed"]["heads"], found["removed"]["neurons"]) == ([4, 2], [128, 96])
    config = load_model(out / "model", "fp32").config
    assert (config.num_hidden_layers, config.num_attention_heads, config.intermediate_size) == (3, 2, 96)
    assert found["measured"]["parameters"] < found["table"][0]["parameters"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["dataset", "model", "stages"]
    again = called(capsys, "quantize", out, "--out", tmp_path / "smaller", *QUICK)  # and what was pruned, quantized
    assert again["parameters"] == found["parameters"]


@pytest.mark.slow
def test_healing_with_an_adapter_leaves_plain_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    called(
        capsys, "prune", folder / "full", "--layers", "1,2", "--heal", "sft", "--set", "train.method=lora",
        "--out", out, *QUICK,
    )  # fmt: skip
    assert not (out / "adapter").exists()
    model: Any = load_model(out / "model", "fp32")
    source: Any = load_model(folder / "full" / "model", "fp32")
    ours, theirs = (m.model.layers[-1].mlp.up_proj.weight for m in (model, source))
    assert ours.shape == theirs.shape
    assert 0 < (ours - theirs).abs().max() < 0.1  # the adapter is in it
    assert torch.equal(model.model.embed_tokens.weight, source.model.embed_tokens.weight)


@pytest.mark.slow
def test_a_mask_keeps_the_shape(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = called(capsys, "prune", folder / "lora", "--pattern", "2:4", "--out", tmp_path / "out", *QUICK)
    assert found["removed"] == {"zeros": 0.5}
    assert found["parameters"] == found["table"][0]["parameters"]


@pytest.mark.slow
def test_a_study_makes_a_table_and_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in folder.iterdir())
    kinds = "depth,heads,width,wanda,magnitude"
    found = called(capsys, "prune", folder / "full", "--ratios", "0.25,0.5", "--kinds", kinds, *QUICK)
    rows = {row["name"]: row for row in found["table"]}
    assert {"source", "depth 25%", "depth 50%", "width 25%", "wanda 50%"} <= set(rows)
    heads = [str(row["removed"]) for row in rows.values() if row.get("kind") == "heads"]
    assert heads and len(set(heads)) == len(heads)  # a cut that the shapes allow only once is listed once
    assert rows["depth 50%"]["parameters"] < rows["depth 25%"]["parameters"] < rows["source"]["parameters"]
    assert rows["wanda 50%"]["parameters"] == rows["source"]["parameters"]
    assert rows["source"]["mean_kl"] == pytest.approx(0, abs=1e-6)
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "student",
    ["layers:2", pytest.param("scratch:1", marks=pytest.mark.slow), pytest.param("pruned", marks=pytest.mark.slow)],
)
def test_distill(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], student: str) -> None:
    out = tmp_path / "out"
    if student == "pruned":
        student = str(tmp_path / "pruned")
        called(capsys, "prune", folder / "full", "--width", "0.5", "--out", student, *QUICK)
    found = called(capsys, "distill", folder / "full", "--student", student, "--out", out, *QUICK)
    assert [row["name"] for row in found["table"]] == ["teacher", "student, untaught", "student"]
    assert found["measured"]["parameters"] < found["table"][0]["parameters"]
    if "pruned" not in student:  # what is left of an untrained model is as near to it as can be
        assert found["measured"]["mean_kl"] < found["table"][1]["mean_kl"]
    assert open_predictor(out).predict(["What is 3?"])
    registry = Registry(tmp_path)
    assert registry.find("out").parent == hash_weights(folder / "full" / "model")
    assert registry.find("out").finished


@pytest.mark.slow
def test_a_base_is_calibrated_on_general_text(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = called(capsys, "quantize", folder / "base", "--out", tmp_path / "out", *QUICK)
    assert found["measured_on"] == "general text"
    assert found["measured"]["token_f1"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["quantize", "nowhere", "--out", "o"], "nowhere"),
        (["quantize", "full", "--bits", "8", "--method", "nf4", "--out", "o"], "8 bits"),
        (["quantize", "full", "--bits", "4", "--group", "3", "--out", "o"], "even"),
        (["quantize", "full", "--out", "full"], "was made by"),
        (["prune", "full", "--out", "o"], "nothing is to be removed"),
        (["prune", "full", "--depth", "9", "--out", "o"], "9 of 4 blocks"),
        (["prune", "full", "--depth", "1", "--layers", "2", "--out", "o"], "one of them"),
        (["prune", "full", "--pattern", "x", "--out", "o"], "2:4"),
        (["prune", "full", "--unstructured", "0.5", "--heal", "--out", "o"], "fill the zeros"),
        (["prune", "full", "--ratios", "0.5", "--out", "o"], "--ratios"),
        (["prune", "full", "--ratios", "2"], "is no share"),
        (["prune", "full", "--ratios", "0.5", "--kinds", "sideways"], "Known: depth"),
        (["prune", "full", "--depth", "1"], "--out is missing"),
        (["distill", "full", "--student", "layers:7", "--out", "o"], "1 to 4"),
        (["distill", "full", "--student", "full", "--out", "o"], "teacher itself"),
        (["distill", "full", "--student", "tiny", "--out", "o"], "tokenizers differ"),
    ],
)
def test_wrong_input_in_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(folder)
    named = [str(tmp_path / word) if word == "o" else word for word in arguments]
    assert main([*named, *QUICK]) == 2
    assert said in capsys.readouterr().err


def test_what_a_run_was_allowed_has_to_be_allowed_again(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "full", run)
    kept = read_json(run / "config.json")
    kept["evaluate"]["metrics"], kept["train"]["processes"] = ["mine.py:score", "token_f1"], 2
    write_json(run / "config.json", {**kept, "trust_remote_code": True})
    config = settle_config(str(run), None, [])
    assert not config.trust_remote_code and config.evaluate.metrics == ["token_f1"] and config.train.processes == 1
    assert settle_config(str(run), None, ["trust_remote_code=true"]).trust_remote_code


@pytest.mark.slow
def test_what_is_quantized_is_not_worked_on_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    called(capsys, "quantize", folder / "full", "--out", tmp_path / "q", *QUICK)
    for arguments in (["prune", "--depth", "1"], ["quantize"], ["distill", "--student", "layers:1"]):
        command, *rest = arguments
        assert main([command, str(tmp_path / "q"), *rest, "--out", str(tmp_path / "o"), *QUICK]) == 2
        assert "quantized already" in capsys.readouterr().err
    assert main(["train", str(folder / "rows.jsonl"), "--base", str(tmp_path / "q"), "--out", str(tmp_path / "t")]) == 2
    assert "quantized" in capsys.readouterr().err

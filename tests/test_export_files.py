"""safetensors, adapters and cards: out, opened elsewhere, and compared; and faults that a certificate must catch."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from evaluate_sample import sample_report
from export_models import FAMILIES, make_classifier, make_family, make_run
from little import make_base, make_lively_base
from tinyforge.errors import InputError
from tinyforge.evaluate.exports import find_exports
from tinyforge.evaluate.report import render
from tinyforge.export.artifact import certify, export
from tinyforge.export.hub import card, upload
from tinyforge.export.safetensors import SAFETENSORS
from tinyforge.export.source import open_source
from tinyforge.models.resolve import weights_of
from tinyforge.run import write_json


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


@pytest.mark.parametrize(("to", "kind"), [("safetensors", "fp32"), ("adapter", "peft"), ("adapter", "gguf")])
def test_an_adapter_goes_out_merged_and_alone(to: str, kind: str, lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    made = export(str(run.folder), to, kind)
    assert made.certificate["passed"], made.certificate["checks"]
    assert made.folder == run.path("exports", f"{to}-{kind}")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, tmp_path: Path) -> None:
    made = export(str(make_family(tmp_path / "model", family)), "safetensors", "fp32", tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["qlora", "dora", "rslora", "loha", "lokr", "ia3", "boft"])
def test_merged_equals_adapter(method: str, lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively, method)
    made = export(str(run.folder), "safetensors", "fp32")
    assert made.certificate["passed"], made.certificate["checks"]


def test_a_folder_has_all_that_transformers_needs(lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "safetensors", "bf16", tmp_path / "out")
    names = {path.name for path in made.folder.iterdir()}
    assert {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
    } <= names
    stops = json.loads((made.folder / "generation_config.json").read_text())["eos_token_id"]
    assert stops == made.certificate["stop_tokens"]["source"]


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    from safetensors import safe_open

    made = export(str(make_base(tmp_path / "base")), "safetensors", "fp32", tmp_path / "out")
    with safe_open(made.folder / "model.safetensors", "pt") as handle:
        assert "lm_head.weight" not in set(handle.keys())


def swap_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    one, two = (f"model.layers.{number}.self_attn.q_proj.weight" for number in (0, 1))
    save_file({**weights, one: weights[two], two: weights[one]}, path, {"format": "pt"})


def edit_json(path: Path, **changes: object) -> None:
    write_json(path, json.loads(path.read_text()) | changes)


FAULTS: dict[str, Callable[[Path], None]] = {
    "prompts rendered otherwise": lambda folder: break_template(folder / "chat_template.jinja"),
    "stop tokens that differ": lambda folder: edit_json(folder / "generation_config.json", eos_token_id=0),
    "mean KL": swap_weights,
    "max KL": lambda folder: edit_json(
        folder / "config.json", rope_parameters={"rope_type": "default", "rope_theta": 9.0}
    ),
}


def break_template(path: Path) -> None:
    text = path.read_text()
    assert "<|end|>" in text
    path.write_text(text.replace("<|end|>", "       "))


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_fails_the_certificate(check: str, lively: Path, tmp_path: Path) -> None:
    made = export(str(lively), "safetensors", "fp32", tmp_path / "out")
    assert made.certificate["passed"]
    FAULTS[check](made.folder)
    found = certify(open_source(str(lively)), SAFETENSORS, made.folder, "safetensors", "fp32")
    assert not found["passed"] and (made.folder / "FAILED.txt").is_file()
    assert check in {c["name"] for c in found["checks"] if not c["passed"]}


def test_a_classifier(tmp_path: Path) -> None:
    made = export(str(make_classifier(tmp_path / "model")), "safetensors", "fp32", tmp_path / "out")
    assert made.certificate["passed"], made.certificate["checks"]
    with pytest.raises(InputError, match="trained with classify"):
        export(str(tmp_path / "model"), "gguf", "", tmp_path / "no")


def test_the_runs_page_shows_the_certificates_of_its_weights(lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    report = sample_report()
    write_json(run.path("report.json"), report)
    export(str(run.folder), "safetensors", "fp32")
    page = run.path("report.html").read_text()
    assert '<th scope="row">safetensors fp32</th><td>yes</td>' in page
    assert "Exports" not in render(report)
    source = open_source(str(run.folder))
    assert len(find_exports(run.folder, weights_of(source.folder, source.adapter))) == 1
    assert find_exports(run.folder, weights_of(source.folder)) == []  # the control: exports of other weights are not


def test_a_card_states_what_was_measured(lively: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", lively)
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    write_json(run.path("report.json"), {"verdict": "Better.", "scores": {"wordings": {"tuned": {"token_f1": score}}}})
    text = card(open_source(str(run.folder)), 1_500_000)
    assert "| wordings | tuned | 0.500 | 0.400 to 0.600 | 9 |" in text and "1.5 million" in text
    run.path("report.json").unlink()
    assert "Not measured." in card(open_source(str(run.folder)), 1)


def test_nothing_is_sent_to_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="OWNER/NAME"):
        upload(tmp_path, "just-a-name")


def test_an_adapter_is_asked_of_a_run_without_one(lively: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no adapter"):
        export(str(lively), "adapter", "", tmp_path / "out")

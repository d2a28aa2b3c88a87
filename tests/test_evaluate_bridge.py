"""The task for lm-evaluation-harness, held to its documented fields; and to the harness itself, where it is installed.

It is no dependency: it wants other versions. Put its ``lm_eval`` on PATH, or name it in TINYFORGE_LM_EVAL.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from little import make_lively_base
from live_server import live
from tinyforge.cli import main
from tinyforge.errors import InputError
from tinyforge.evaluate.bridge import commands, task_fields, task_name, write_task
from tinyforge.records import Example, Message

# Every field of the task guide (docs/task_guide.md, "Parameters"), and its output types.
FIELDS = {
    *("task", "task_alias", "tag", "dataset_path", "dataset_name", "dataset_kwargs", "training_split"),
    *("validation_split", "test_split", "fewshot_split", "process_docs", "use_prompt", "description", "doc_to_text"),
    *("doc_to_target", "doc_to_choice", "fewshot_delimiter", "target_delimiter", "num_fewshot", "batch_size"),
    *("metric_list", "output_type", "generation_kwargs", "repeats", "filter_list", "should_decontaminate"),
    *("doc_to_decontamination_query", "metadata"),
}
OUTPUT_TYPES = {"generate_until", "loglikelihood", "loglikelihood_rolling", "multiple_choice"}


def chat(question: str, answer: str, *before: Message) -> Example:
    return Example(question, (*before, Message("user", question), Message("assistant", answer)))


ROWS = [
    chat("What is {{ 1 + 1 }}: a loan?", 'An agreement: "seven" days\n- no more'),
    chat("And then?", "Nothing.", Message("user", "What is a fee?"), Message("assistant", "A sum.")),
    Example("l", (Message("user", "I love it"),), label="good"),
    Example("t", (), text="running text"),
]


def test_the_task_holds_to_the_documented_fields(tmp_path: Path) -> None:
    task = write_task(tmp_path / "ta sk", "My Run!", ROWS, 48)
    assert (task.name, task.questions, task.left_out) == ("tinyforge_my_run", 2, 2)
    fields = yaml.safe_load(task.file.read_text())
    assert set(fields) <= FIELDS and fields["output_type"] in OUTPUT_TYPES and fields["task"] == task.name
    assert fields["generation_kwargs"]["max_gen_toks"] == 48 and fields["generation_kwargs"]["until"]
    assert fields == task_fields(tmp_path / "ta sk", "My Run!", 48)
    assert not {**fields, "doc_to_txt": ""}.keys() <= FIELDS  # the control: a misspelt field is seen
    for metric in fields["metric_list"]:
        assert {"metric", "aggregation", "higher_is_better"} <= set(metric)


def test_its_data_is_read_by_the_datasets_library_and_its_templates_give_the_words(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    fields = yaml.safe_load(write_task(tmp_path, "run", ROWS, 48).file.read_text())
    loaded = datasets.load_dataset(fields["dataset_path"], cache_dir=str(tmp_path / "c"), **fields["dataset_kwargs"])
    rows = list(loaded[fields["test_split"]])
    render = Environment(undefined=StrictUndefined).from_string
    asked = [render(fields["doc_to_text"]).render(**row) for row in rows]
    wanted = [render(fields["doc_to_target"]).render(**row) for row in rows]
    assert asked == [ROWS[0].question, "I love it"]  # what looks like a template in a question stays as it is
    assert wanted == [ROWS[0].answer, "good"]


def test_the_commands_fit_together(tmp_path: Path) -> None:
    task = write_task(tmp_path / "ta sk", "run", ROWS, 48)
    serve, evaluate = (shlex.split(line) for line in commands(task, "my run"))
    assert serve == ["tinyforge", "serve", "tinyforge_run=my run", "--port", "8000"]
    words = dict(pairwise(evaluate))
    arguments = dict(pair.split("=", 1) for pair in words["--model_args"].split(","))
    assert arguments["model"] == "tinyforge_run" and arguments["base_url"].startswith("http://127.0.0.1:8000/v1/chat")
    assert words["--tasks"] == task.name and words["--include_path"] == str(tmp_path / "ta sk")
    assert task_name("???") == "tinyforge"


def test_the_command_and_its_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"question": "What is a loan?", "answer": "Seven days."}\n')
    out = tmp_path / "task"
    assert main(["harness", "tiny", "--data", str(data), "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["questions"] == 1 and Path(found["file"]).is_file() and "tinyforge_tiny=tiny" in found["serve"]
    assert main(["harness", "tiny", "--out", str(out)]) == 2
    assert "--data FILE" in capsys.readouterr().err
    with pytest.raises(InputError, match="no row is a single question"):
        write_task(tmp_path, "x", [ROWS[3]], 8)


LM_EVAL = os.environ.get("TINYFORGE_LM_EVAL") or shutil.which("lm_eval")


@pytest.mark.slow
@pytest.mark.skipif(LM_EVAL is None, reason="needs lm-evaluation-harness")
def test_the_harness_runs_the_command_offline_and_finds_what_we_find(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One reference is what the model does say, so that right and wrong answers are both there."""
    base = make_lively_base(tmp_path / "base")
    asked = [{"question": f"What is loan {i}?", "answer": f"Number {i}."} for i in range(6)]
    data = tmp_path / "rows.jsonl"
    settings = [
        "--set",
        "evaluate.max_new_tokens=8",
        "--set",
        "train.precision=fp32",
        "--set",
        "evaluate.resamples=200",
    ]

    def ours(out: str) -> dict[str, object]:
        data.write_text("".join(json.dumps(row) + "\n" for row in asked))
        capsys.readouterr()
        assert (
            main(["evaluate", str(base), "--data", str(data), "--out", str(tmp_path / out), "--json", *settings]) == 0
        )
        found: dict[str, object] = json.loads(capsys.readouterr().out)["sets"][data.name]
        return found

    asked[0]["answer"] = ours("before")["answers"][0]["answers"][str(base)]  # type: ignore[index]
    scores = ours("after")["scores"][str(base)]  # type: ignore[index]
    task = tmp_path / "task"
    assert main(["harness", str(base), "--data", str(data), "--out", str(task), "--json", *settings]) == 0
    made = json.loads(capsys.readouterr().out)
    with live([f"{made['name']}={base}"]) as server:
        command = made["evaluate"].replace("http://127.0.0.1:8000", server.url).replace(" lm_eval ", f" {LM_EVAL} ", 1)
        offline = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=600, env=offline)
    assert done.returncode == 0, done.stderr[-3000:]
    (results,) = (task / "results").rglob("results_*.json")
    found = json.loads(results.read_text())["results"][made["name"]]
    assert found["exact_match,none"] == pytest.approx(1 / 6) == scores["exact_match"]["value"]
    assert found["chrf,none"] > 0

"""The task for lm-evaluation-harness, held to the harness's documented fields; the harness itself is not installed."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

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

"""A task for EleutherAI's lm-evaluation-harness: held-out questions in a file, and the YAML that says how to ask them.

The fields are those of the harness's task guide (docs/task_guide.md and docs/API_guide.md of its repository). The
harness asks through TinyForge's OpenAI-compatible API, so that it measures what people get, and works offline: its data
is a local file, and its two metrics need none.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tinyforge.errors import InputError
from tinyforge.records import Example
from tinyforge.run import write_jsonl, write_text

QUESTIONS = "questions.jsonl"
NEVER = "<|endoftext|>"  # the harness stops at an empty line unless told another text, and this is in no answer
PORT = 8000


@dataclass(frozen=True, slots=True)
class Task:
    """What was written: the task's ``name``, its YAML ``file``, how many questions, and how many rows could not be."""

    name: str
    file: Path
    questions: int
    left_out: int


def task_name(name: str) -> str:
    """A name that the harness, a shell and a list of model arguments all take as it is."""
    kept = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return f"tinyforge_{kept}" if kept else "tinyforge"


def write_task(folder: Path, name: str, examples: Sequence[Example], max_new_tokens: int) -> Task:
    """Write the YAML and the questions. Only a single question with one answer, or a text with one class, can be a row
    of the harness; conversations of several turns are counted as left out.

    Raises InputError when no row can be.
    """
    rows = [{"id": e.id, "question": e.question, "answer": e.label or e.answer} for e in examples if _single(e)]
    if not rows:
        raise InputError("no row is a single question with an answer.", "Give --data such rows.")
    write_jsonl(folder / QUESTIONS, rows)
    file = folder / f"{task_name(name)}.yaml"
    write_text(file, yaml.safe_dump(task_fields(folder, name, max_new_tokens), sort_keys=False, allow_unicode=True))
    return Task(task_name(name), file, len(rows), len(examples) - len(rows))


def _single(example: Example) -> bool:
    turns = example.messages if example.label else example.messages[:-1]
    return example.kind in ("chat", "labelled") and [turn.role for turn in turns] == ["user"]


def task_fields(folder: Path, name: str, max_new_tokens: int) -> dict[str, object]:
    """The task configuration, by the harness's names."""
    return {
        "task": task_name(name),
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((folder / QUESTIONS).resolve())}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": [NEVER], "do_sample": False, "temperature": 0.0, "max_gen_toks": max_new_tokens},
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": True,
            },
            {"metric": "chrf", "aggregation": "chrf", "higher_is_better": True},
        ],
        "metadata": {"version": 1},
    }


def commands(task: Task, place: str) -> list[str]:
    """What to type: one command that serves ``place``, and in another terminal the harness's, which stays offline."""
    model = task.name
    arguments = f"model={model},base_url=http://127.0.0.1:{PORT}/v1/chat/completions,num_concurrent=1,max_retries=3"
    words = ["lm_eval", "--model", "local-chat-completions", "--model_args", arguments, "--apply_chat_template"]
    words += ["--tasks", task.name, "--include_path", str(task.file.parent)]
    words += ["--output_path", str(task.file.parent / "results"), "--log_samples"]
    return [
        shlex.join(["tinyforge", "serve", f"{model}={place}", "--port", str(PORT)]),
        f"HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 {shlex.join(words)}",
    ]

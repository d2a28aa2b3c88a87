"""`tinyforge train` as a person uses it: rows in a file, any kind of base, a run that answers; and from Python."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from families import LABELLED
from little import make_base
from test_train_families import bases  # noqa: F401
from tinyforge.cli import main
from tinyforge.config import Config
from tinyforge.dataset.holdout import hold_out
from tinyforge.dataset.pairs import input_text
from tinyforge.dataset.render import render_all
from tinyforge.dataset.rows import read_rows
from tinyforge.errors import InputError
from tinyforge.models.resolve import load_model, load_tokenizer
from tinyforge.pipeline.prepare import encode
from tinyforge.records import Example, Message
from tinyforge.run import read_json

FAST = [
    *("train.epochs=60", "train.learning_rate=0.01", "train.threads=1", "train.precision=fp32", "train.evaluations=1"),
    *("train.weight_decay=0", "dataset.validation_split=0", "dataset.max_length=64"),
]
QUESTIONS = [f"What does the {n} cost?" for n in ("saw", "drill", "ladder", "lathe", "plane", "file", "vice", "rasp")]
ANSWERS = [f"It costs {n} tokens." for n in (3, 5, 7, 9, 2, 4, 6, 8)]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train(data: Path, out: Path, base: Path, *settings: str, code: int = 0) -> dict[str, Any]:
    given = [part for setting in (*FAST, *settings) for part in ("--set", setting)]
    assert main(["train", str(data), "--out", str(out), "--base", str(base), *given]) == code
    return dict(read_json(out / "train.json")) if code == 0 else {}


def predict(out: Path, texts: Sequence[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["predict", str(out), *texts, "--json"]) == 0
    return list(json.loads(capsys.readouterr().out))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def chat_rows(tmp_path: Path) -> Path:
    rows = [{"instruction": q, "input": "", "output": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
    return write(tmp_path / "rows.jsonl", rows)


def test_one_dev_row_that_is_too_long_does_not_refuse_a_set(llama: Path, tmp_path: Path) -> None:
    """It is a twentieth of what the dev rows teach, and less than a hundredth of what all do."""

    def written(long: int) -> tuple[Path, list[Example]]:
        rows = [{"input": f"What does number {n} cost?", "output": f"It costs {n} tokens."} for n in range(1200)]
        rows[long]["output"] = "token " * 60
        path = write(tmp_path / "rows.jsonl", rows)
        return path, hold_out(read_rows(path).examples, 0.03, Config().seed).dev

    data, dev = next(found for found in map(written, range(1200)) if any("token token" in e.answer for e in found[1]))
    run = train(data, tmp_path / "run", llama, "dataset.validation_split=0.03", "train.max_steps=1")
    assert run["steps"] == 1
    tokenizer = load_tokenizer(llama)
    with pytest.raises(InputError, match="1 of 36 examples are longer than 64 tokens"):  # the control: these alone
        render_all(dev, tokenizer, 64, {tokenizer.eos_token_id})


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_a_decoder_learns_conversations(
    llama: Path, chat_rows: Path, tmp_path: Path, method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The whole rank and many passes: the adapters of so small a model have to carry all of it.
    adapted = ("train.epochs=400", "train.learning_rate=0.01", "train.lora_rank=32")
    more = ("train.epochs=150",) if method == "full" else adapted
    summary = train(chat_rows, tmp_path / "run", llama, f"train.method={method}", *more)
    assert summary["objective"] == "sft" and summary["method"] == method
    assert (tmp_path / "run" / ("model" if method == "full" else "adapter")).is_dir()
    found = [row["text"] for row in predict(tmp_path / "run", QUESTIONS, capsys)]
    assert sum(a == b for a, b in zip(found, ANSWERS, strict=True)) >= 7


def test_an_adapter_on_an_encoder_is_loaded_again(
    bases: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"text": input_text(e), "label": e.label} for e in LABELLED]
    data = write(tmp_path / "rows.jsonl", rows)
    train(data, tmp_path / "run", bases["bert"], "train.method=lora", "train.learning_rate=0.02")
    assert (tmp_path / "run" / "adapter" / "adapter_config.json").is_file()
    found = predict(tmp_path / "run", [row["text"] for row in rows], capsys)
    assert [row["text"] for row in found] == [row["label"] for row in rows]


def test_what_is_left_out_is_said_and_three_rows_are_enough(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(
        "".join(json.dumps({"input": q, "output": a}) + "\n" for q, a in zip(QUESTIONS[:3], ANSWERS[:3], strict=True))
        + '{"input": "And?", "output": ""}\n{broken\n'
    )
    summary = train(data, tmp_path / "run", llama, "train.epochs=1")
    assert summary["data"]["usable"] == 3 and len(summary["data"]["dropped"]) == 2
    assert "rows.jsonl:4" in summary["data"]["dropped"][0] and "rows.jsonl:5" in summary["data"]["dropped"][1]
    shown = capsys.readouterr().err
    assert "left out" in shown and "rows.jsonl:4" in shown


def test_three_rows_are_learned_with_the_default_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded base and nothing set but the threads: what a first try looks like."""
    rows = [{"input": q, "output": a} for q, a in zip(QUESTIONS[:3], ANSWERS[:3], strict=True)]
    data = write(tmp_path / "rows.jsonl", rows)
    assert main(["train", str(data), "--out", str(tmp_path / "run")]) == 0
    assert [row["text"] for row in predict(tmp_path / "run", QUESTIONS[:3], capsys)] == ANSWERS[:3]


def test_wrong_input_is_one_line_and_exit_2(
    llama: Path, chat_rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = tmp_path / "adapted"
    (adapted / "adapter").mkdir(parents=True)
    cases = [
        (tmp_path / "none.jsonl", llama, (), "no such file"),
        (chat_rows, llama, ("train.method=nonsense",), "nonsense"),
        (chat_rows, llama, ("train.objective=nonsense",), "nonsense"),
        (chat_rows, llama, ("train.objective=seq2seq",), "decoder"),
        (chat_rows, llama, ("train.objective=distill",), "teacher"),
        (chat_rows, tmp_path / "nowhere", (), "nowhere"),
        (chat_rows, Path("007"), (), "unknown base '007'"),
        (chat_rows, adapted, (), "holds an adapter, not a whole model"),
        (chat_rows, llama, ("train.trackers=[nonsense]",), "nonsense"),
    ]
    for data, base, settings, said in cases:
        capsys.readouterr()
        train(data, tmp_path / "out", base, *settings, code=2)
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tinyforge: ")]
        assert len(error) == 1 and said in error[0], error


def test_a_killed_training_continues_to_the_same_weights(llama: Path, chat_rows: Path, tmp_path: Path) -> None:
    settings = [*FAST, "train.epochs=150", "train.checkpoint_seconds=0.001", "train.method=lora", "train.batch_rows=4"]
    given = [part for setting in settings for part in ("--set", setting)]

    def command(out: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tinyforge",
            "train",
            str(chat_rows),
            "--out",
            str(out),
            "--base",
            str(llama),
            *given,
        ]

    subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True)
    process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(2000):
        if list((tmp_path / "killed").glob("checkpoints/step-*/*.json")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "adapter").exists()
    again = subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True, text=True)
    assert "continuing at step" in again.stderr
    whole, killed = (
        hashlib.sha256((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()
        for name in ("whole", "killed")
    )
    assert whole == killed


def test_what_is_refused_leaves_what_was_finished(llama: Path, chat_rows: Path, tmp_path: Path) -> None:
    out, few = tmp_path / "run", "train.epochs=1"
    train(chat_rows, out, llama, few)
    kept = [(out / name).read_bytes() for name in ("config.json", "model/model.safetensors")]
    train(chat_rows, out, llama, few, "train.method=loraa", code=2)
    train(chat_rows, out, llama, few, "train.objective=distill", code=2)  # of no teacher
    assert [(out / name).read_bytes() for name in ("config.json", "model/model.safetensors")] == kept
    saved = (out / "model" / "model.safetensors").stat().st_mtime_ns
    train(chat_rows, out, llama, few)
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == saved, "it is not trained again"
    train(chat_rows, out, llama, few, "train.method=lora")
    assert read_json(out / "config.json")["train"]["method"] == "lora" and not (out / "model").exists()


PAIR = Example("p", (Message("user", "The capital?"), Message("assistant", "Paris.")), (), rejected="Lyon, surely.")


@pytest.mark.parametrize(("objective", "learned"), [("sft", "Paris."), ("distill", "Paris."), ("pretrain", "capital")])
def test_of_a_pair_the_better_answer_is_learned(llama: Path, objective: str, learned: str) -> None:
    model, tokenizer = load_model(llama, "fp32"), load_tokenizer(llama)
    ((row,), _) = encode(objective, None, [PAIR], model, tokenizer, Config())
    text = tokenizer.decode([label for label in row.labels if label != -100])
    assert learned in text and "Lyon" not in text and ("capital" in text) == (objective == "pretrain")


def test_labels_are_nothing_to_write(llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"text": f"tool {n}", "label": "ab"[n % 2]} for n in range(8)])
    train(rows, tmp_path / "run", llama, "train.objective=sft", code=2)
    assert "hold nothing to write" in capsys.readouterr().err


def test_another_teacher_under_the_same_name_teaches_anew(llama: Path, chat_rows: Path, tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "run"
    make_base(teacher, seed=1)
    asked = ("train.epochs=1", "train.objective=distill", f"train.teacher={teacher}")
    train(chat_rows, out, llama, *asked)
    first = (out / "model" / "model.safetensors").read_bytes()
    make_base(teacher, seed=2)
    train(chat_rows, out, llama, *asked)
    assert (out / "model" / "model.safetensors").read_bytes() != first


def test_five_lines_of_python(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my_data.jsonl", [{"input": q, "output": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)])
    from tinyforge import Trainer, TrainingConfig

    trainer = Trainer(
        TrainingConfig(
            model_name=str(llama), output_dir="./my-model", num_epochs=150, learning_rate=0.01, validation_split=0
        )
    )
    summary = trainer.train("my_data.jsonl", quiet=True)
    assert summary["objective"] == "sft" and trainer.device == "cpu"
    assert trainer.generate(QUESTIONS[0]) == ANSWERS[0]
    assert Trainer(output_dir="./my-model").generate(QUESTIONS[1]) == ANSWERS[1], "a finished run answers at once"


def test_the_tutorials_own_import(llama: Path, tmp_path: Path) -> None:
    from backend.training.real_trainer import RealTrainer, TrainingConfig

    config = TrainingConfig(
        model_name=str(llama),
        output_dir=str(tmp_path / "out"),
        epochs=200,
        batch_size=4,
        learning_rate=0.02,
        use_lora=True,
        lora_r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        max_length=128,
        gradient_accumulation_steps=2,
        validation_split=0.2,
        bf16=False,
        report_to="none",
    )
    trainer = RealTrainer(config)
    trainer.train([{"input": q, "output": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)], quiet=True)
    before = trainer.generate(QUESTIONS[0])
    other = RealTrainer(TrainingConfig(model_name=str(llama), output_dir=str(tmp_path / "empty")))
    other.load_lora(tmp_path / "out" / "adapter")
    assert other.generate(QUESTIONS[0]) == before and before


def test_settings_of_python_are_checked() -> None:
    from tinyforge import Trainer, TrainingConfig
    from tinyforge.errors import InputError

    with pytest.raises(InputError, match="unknown setting 'modelname'"):
        Trainer(modelname="tiny")
    with pytest.raises(InputError, match="fp16"):
        TrainingConfig(fp16=True).settings()
    with pytest.raises(InputError, match="load_in_4bit"):
        TrainingConfig(load_in_4bit=True, use_lora=False).settings()
    assert TrainingConfig(load_in_4bit=True).settings().train.method == "qlora"


RECIPES = Path(__file__).parents[1] / "recipes"
ROWS = {
    "dpo": [{"prompt": q, "chosen": a, "rejected": "No."} for q, a in zip(QUESTIONS, ANSWERS, strict=True)],
    "classify": [{"text": q, "label": "short" if len(q) < 25 else "long"} for q in QUESTIONS],
}


@pytest.mark.parametrize("name", sorted(p.stem for p in RECIPES.glob("*.yaml") if "base" not in p.stem))
def test_every_recipe_runs(llama: Path, tmp_path: Path, name: str) -> None:
    """Two steps of each on a small base; what the recipe itself says is kept."""
    settings = ["--set", "train.max_steps=2", "--set", "train.threads=1", "--set", "train.evaluations=1"]
    if name == "pretrain":
        corpus = write(
            tmp_path / "corpus.jsonl", [{"text": f"{q} {a} " * 9} for q, a in zip(QUESTIONS, ANSWERS, strict=True)]
        )
        small = ["pretrain.hidden=32", "pretrain.vocabulary=512", "pretrain.validation_fraction=0.4"]
        settings += [part for setting in small for part in ("--set", setting)]
        code = main(
            [
                "pretrain",
                str(corpus),
                "--out",
                str(tmp_path / "run"),
                "--config",
                str(RECIPES / f"{name}.yaml"),
                *settings,
            ]
        )
        assert code == 0 and (tmp_path / "run" / "model").is_dir()
        return
    if name in ("qlora", "tinyllama-discord"):
        pytest.importorskip("bitsandbytes")
    if name == "distill":
        settings += ["--set", f"train.teacher={llama}"]
    rows = ROWS.get(name, [{"input": q, "output": a} for q, a in zip(QUESTIONS, ANSWERS, strict=True)])
    data = write(tmp_path / "rows.jsonl", rows)
    recipe = ["--config", str(RECIPES / f"{name}.yaml"), "--base", str(llama), *settings]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), *recipe]) == 0
    summary = read_json(tmp_path / "run" / "train.json")
    assert 1 <= summary["steps"] <= 2
    assert summary["objective"] == (name if name in ("dpo", "distill", "classify") else "sft")

"""The main job, end to end, as a person runs it: the command in its own process, a real small model, no network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from little import make_base
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.records import Document, Example
from tinyforge.retrieve.sentences import sentences

SAMPLES = Path(__file__).parents[1] / "src" / "tinyforge" / "samples"
VARIANTS = {"quote", "base", "few-shot", "tuned", "base+retrieval", "tuned+retrieval"}
QUICK = {
    "train.epochs": "1",
    "train.threads": "1",
    "train.evaluations": "3",
    "train.precision": "fp32",
    "train.checkpoint_seconds": "0.2",
    "train.learning_rate": "0.003",
    "synthesize.wordings": "12",
    "evaluate.max_questions": "12",
    "evaluate.max_new_tokens": "12",
    "evaluate.resamples": "200",
    "retrieve.passages": "2",
}


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


def arguments(out: Path, base: Path, *sources: Path, **changes: str) -> list[str]:
    settings = {**QUICK, **{key.replace("__", "."): value for key, value in changes.items()}}
    pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    given = [str(s) for s in sources or (SAMPLES,)]
    return [sys.executable, "-m", "tinyforge", "build", *given, "--out", str(out), "--base", str(base), *pairs]


def tinyforge(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tinyforge", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300, **options)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    out = tmp_path_factory.mktemp("build") / "run"
    done = subprocess.run(arguments(out, base), capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    return out


def table(run: Path) -> Any:
    report = json.loads((run / "report.json").read_text())
    same = ("verdict", "scores", "recall", "breakdown", "forgetting", "leaks", "left_out")
    return [report[name] for name in same]


def rows(run: Path, name: str) -> list[Example]:
    lines = (run / "dataset" / f"{name}.jsonl").read_text().splitlines()
    return [Example.from_json(json.loads(line)) for line in lines]


def test_the_report_keeps_its_contract(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    assert report["verdict"] and report["choice"] in VARIANTS
    assert set(report["scores"]) == {"wordings", "documents"}
    for scores in report["scores"].values():
        assert set(scores) == VARIANTS
        for metrics in scores.values():
            for score in metrics.values():
                assert score["low"] <= score["value"] <= score["high"] and score["n"] > 0
    assert set(report["leaks"]) == {"wordings", "documents"} and not report["leaks"]["documents"]["leaked"]
    assert all(report["forgetting"][kind]["before"]["n"] >= 24 for kind in ("questions", "instructions"))
    assert {"evaluate", "train"} <= set(report["seconds"])
    reasons = [row["reason"] for row in report["dataset"]["dropped"]]
    assert len(reasons) == len(set(reasons)) and not any("Dropped(" in reason for reason in reasons)
    page = (built / "report.html").read_text()
    assert "<svg" in page and report["choice"] in page


def test_every_answer_is_the_text_of_its_spans(built: Path) -> None:
    documents = {
        d.id: d for d in map(Document.from_json, map(json.loads, (built / "documents.jsonl").read_text().splitlines()))
    }
    checked = 0
    for example in rows(built, "candidates"):
        text = " ".join(" ".join(documents[s.document].slice(s).split()) for s in example.evidence)
        assert " ".join(example.answer.split()) == " ".join(text.split()), example
        checked += 1
    assert checked > 200


def test_no_test_fact_is_in_a_training_prompt_or_answer(built: Path) -> None:
    held = {e.fact for e in rows(built, "documents")}
    answers = {e.answer for e in rows(built, "documents")}
    train = rows(built, "train")
    assert held and not held & {e.fact for e in train}
    for example in train:
        assert example.answer not in answers
        for answer in answers:
            # A single word, such as the "none" of a table's cell, may be another fact's as well.
            assert len(answer.split()) == 1 or answer not in example.messages[0].content
    wordings = {e.question.lower().strip(" ?.") for e in rows(built, "wordings")}
    assert not wordings & {e.question.lower().strip(" ?.") for e in train}


def test_training_has_questions_with_passages_and_declines(built: Path) -> None:
    reading = [e for e in rows(built, "train") if e.metadata.get("reading")]
    assert any(e.metadata["reading"] == "passages" for e in reading)
    for example in reading:
        prompt = " ".join(example.messages[0].content.split())
        if example.metadata["reading"] == "missing":
            assert example.answer == NOT_FOUND and not example.evidence
        else:
            parts = [" ".join(example.answer[a:b].split()) for a, b in sentences(example.answer)]
            assert parts and all(part[:40] in prompt for part in parts)


def test_a_second_run_does_nothing(built: Path, base: Path) -> None:
    before = {
        p: p.stat().st_mtime_ns for p in built.rglob("*") if p.is_file() and p.name not in (".lock", "config.json")
    }
    done = subprocess.run(arguments(built, base), capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0 and "nothing changed" in done.stderr
    after = {
        p: p.stat().st_mtime_ns for p in built.rglob("*") if p.is_file() and p.name not in (".lock", "config.json")
    }
    assert before == after


def test_a_change_repeats_only_what_depends_on_it(built: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(built, out)
    command = arguments(out, base, evaluate__resamples="300")
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    assert "asking the held-out questions" in done.stderr and "fine-tuning" not in done.stderr


TIMED = ("command", "seconds", "machine")  # what a second run may say differently
TIMED_STEPS = ("tokens_per_second", "memory_mb")


def numbers(run: Path) -> Any:
    """All of a report but what was timed, and where it was."""
    report = json.loads((run / "report.json").read_text())
    training = report.pop("training")
    curve = [{key: value for key, value in row.items() if key not in TIMED_STEPS} for row in training.pop("curve")]
    training.pop("seconds")
    return {key: value for key, value in report.items() if key not in TIMED}, training, curve


def test_a_second_run_with_the_same_seed_gives_the_same_numbers(built: Path, base: Path, tmp_path: Path) -> None:
    for name, changes in (("again", {}), ("other", {"seed": "7"})):
        done = subprocess.run(
            arguments(tmp_path / name, base, **changes), capture_output=True, text=True, env=environment(), timeout=600
        )
        assert done.returncode == 0, done.stderr
    assert numbers(tmp_path / "again") == numbers(built)
    assert table(tmp_path / "other") != table(built)  # the control: what is compared does depend on the seed


@pytest.mark.slow
def test_two_runs_on_the_embedded_base_give_the_same_numbers(tmp_path: Path) -> None:
    settings = ("train.max_steps=60", "train.precision=fp32", "evaluate.max_questions=60")
    options = [word for setting in settings for word in ("--set", setting)]
    for name in ("one", "two"):
        words = ["build", str(SAMPLES), "--out", str(tmp_path / name), *options]
        command = [sys.executable, "-m", "tinyforge", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=1200)
        assert done.returncode == 0, done.stderr
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


STAGES = {
    "reading the sources": "documents.jsonl",
    "writing grounded questions": "examples",
    "indexing for retrieval": "index",
    "splitting by fact": "dataset",
    "fine-tuning": "train",
    "asking the held-out questions": "evaluate",
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_in_any_stage_changes_nothing(stage: str, built: Path, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = arguments(out, base)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    ) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if stage in line:
                break
        else:
            pytest.fail(f"{stage} never began")
        if stage == "fine-tuning":
            wait_for_a_checkpoint(out)
        else:
            time.sleep(0.15)
        job.send_signal(signal.SIGKILL)
        job.stderr.read()
    assert not (out / "report.json").exists(), "the kill came too late to show anything"
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    if stage == "fine-tuning":
        assert "continuing at step" in done.stderr
    assert table(out) == table(built)


def wait_for_a_checkpoint(out: Path) -> None:
    for _ in range(600):
        if list((out / "checkpoints").glob("step-*/state.json")):
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint within 30 s")


def test_interrupt_saves_and_exits_130(base: Path, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = arguments(out, base, train__checkpoint_seconds="1000")
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment()
    ) as job:
        assert job.stderr is not None
        for line in job.stderr:
            if "fine-tuning" in line:
                break
        while '"event": "step"' not in (out / "events.jsonl").read_text():
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        errors = job.stderr.read()
    assert job.returncode == 130 and "continues where this one was" in errors
    assert list((out / "checkpoints").glob("step-*/state.json"))
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0 and "continuing at step" in done.stderr
    assert table(out)[1] == table(built)[1]


def test_ask_answers_with_exact_citations(built: Path) -> None:
    done = tinyforge("ask", str(built), "What is a loan?", "--variant", "quote", "--json")
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    assert set(reply) >= {"answer", "citations", "declined"} and not reply["declined"]
    documents = [json.loads(line) for line in (built / "documents.jsonl").read_text().splitlines()]
    texts = {d["source"]: d["text"] for d in documents}
    assert reply["citations"]
    for citation in reply["citations"]:
        assert texts[citation["source"]][citation["start"] : citation["end"]] == citation["text"]


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_ask_works_with_every_variant(built: Path, variant: str) -> None:
    done = tinyforge("ask", str(built), "What is a loan?", "--variant", variant, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["variant"] == variant


def test_chat_can_do_what_the_few_shot_prompt_was_measured_at(built: Path, tmp_path: Path) -> None:
    from tinyforge.errors import InputError
    from tinyforge.serve.talk import Talker

    talker = Talker.open(str(built), "few-shot")
    messages, budget = talker.prompt("What is a loan?", (("Earlier?", "Yes."),), (), "")
    shots = json.loads((built / "answering.json").read_text())["shots"]
    turns = [(m.role, m.content) for m in messages]
    expected = [pair for asked, answer in shots for pair in (("user", asked), ("assistant", answer))]
    assert len(shots) == 3 and turns == [*expected, ("user", "What is a loan?")] and not budget.dropped_turns
    assert talker.which == "base"
    plain, _ = Talker.open(str(built), "base").prompt("What is a loan?", (), (), "")
    assert [m.content for m in plain] == ["What is a loan?"]
    bare = tmp_path / "run"
    shutil.copytree(built, bare)
    settings = json.loads((bare / "answering.json").read_text())
    (bare / "answering.json").write_text(json.dumps({**settings, "shots": []}))
    with pytest.raises(InputError, match="keeps no examples for a prompt"):
        Talker.open(str(bare), "few-shot")


def test_ask_declines_what_the_documents_do_not_hold(built: Path) -> None:
    done = tinyforge("ask", str(built), "Which enzyme splits lactose in mammals?", "--variant", "quote", "--json")
    reply = json.loads(done.stdout)
    assert reply["declined"] and not reply["citations"] and "nearest" in reply["answer"]


def test_chat_reads_piped_questions(built: Path) -> None:
    done = tinyforge("chat", str(built), "--variant", "quote", input="/help\nWhat is a loan?\n/sources\n/exit\n")
    assert done.returncode == 0, done.stderr
    assert "/reset" in done.stdout and ".md" in done.stdout


def test_lora_writes_a_peft_adapter_that_answers(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*arguments(out, base, train__method="lora", train__max_steps="4"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["scores"]["wordings"]) == VARIANTS
    assert (out / "adapter" / "adapter_config.json").exists() and not (out / "model").exists()
    asked = tinyforge("ask", str(out), "What is a loan?", "--variant", "tuned", "--json")
    assert asked.returncode == 0, asked.stderr


def test_it_works_without_a_network(base: Path, tmp_path: Path) -> None:
    """The whole job in a network namespace that has no interface up."""
    probe = (
        subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip("this system does not let a test make a network namespace")
    out = tmp_path / "run"
    online = {k: v for k, v in environment().items() if k != "HF_HUB_OFFLINE"}
    command = ["unshare", "-rn", *arguments(out, base, train__max_steps="2")]
    done = subprocess.run(command, capture_output=True, text=True, env=online, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere", "--out", "{tmp}/o"], "nowhere"),
        (["{tmp}/empty", "--out", "{tmp}/o"], "empty"),
        (["{tmp}/odd", "--out", "{tmp}/o"], "supported"),
        (["{tmp}/good.md", "--out", "{tmp}/o"], "fact"),
        (["{samples}", "--out", "{tmp}/o", "--base", "no-such-model"], "unknown base"),
        (["{samples}", "--out", "{tmp}/o", "--base", "nobody/no-such-model"], "cannot be reached"),
        (["{samples}", "--out", "{tmp}/foreign"], "did not make"),
        (["{samples}", "--out", "{tmp}/good.md"], "is a file"),
        (["{samples}", "--out", "{tmp}/o", "--set", "train.epoch=3"], "Did you mean train.epochs?"),
        (["{samples}", "--out", "{tmp}/o", "--set", "train.epochs=many"], "train.epochs"),
        (["{samples}", "--out", "{tmp}/o", "--config", "{tmp}/recipe.yaml"], "recipe.yaml:2"),
        (["{samples}", "--out", "{tmp}/o", "--metric", "nonsense"], "unknown metric 'nonsense'"),
        (["{samples}", "--out", "{tmp}/o", "--metric", "{tmp}/absent.py:polite"], "absent.py: no such file"),
    ],
)
def test_bad_input_is_one_clear_line(words: list[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a.xyz").write_text("text")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "precious.txt").write_text("do not touch")
    (tmp_path / "good.md").write_text("# Loans\n\nA loan is an agreement to bring a tool back within seven days.\n")
    (tmp_path / "recipe.yaml").write_text("train:\n  epohcs: 3\n")
    done = tinyforge("build", *[w.format(tmp=tmp_path, samples=SAMPLES) for w in words])
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("tinyforge: ")]
    assert len(errors) == 1 and expected in errors[0], done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "foreign" / "precious.txt").read_text() == "do not touch"
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["precious.txt"]


def test_a_full_disk_is_said_and_nothing_is_lost(base: Path, tmp_path: Path) -> None:
    """On a real small file system: the build stops with one line, and continues when there is room."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        out = small / "run"
        done = subprocess.run(arguments(out, base), capture_output=True, text=True, env=environment(), timeout=300)
        assert done.returncode == 1 and "the disk is full" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        done = subprocess.run(
            arguments(out, base, train__max_steps="2"), capture_output=True, text=True, env=environment(), timeout=300
        )
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_unfinished_build_is_named_by_ask(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "command": "build"}')
    done = tinyforge("ask", str(tmp_path), "What is a loan?")
    assert done.returncode == 2 and "has not finished" in done.stderr
